// Says in a sentence what a response means, and what to do next.

import { element } from "./dom.js";

/** What became of a request to create an order: the names that dots and verdicts are drawn by. */
export function outcome({ status, headers }) {
  if (status === undefined) return "unchecked";
  if (status === 201) return headers.has("idempotent-replayed") ? "replayed" : "created";
  if (status === 412) return "stale";
  if (status === 409) return "locked";
  return "failed";
}

/** Whether the same request may get another response later: there was none, or the server could not do it now. */
export const isWorthRetrying = ({ status }) => status === undefined || status >= 500;

/** Shows the verdict on a request to create an order. */
export function showCreation(place, exchange) {
  const { json } = exchange;
  const kind = outcome(exchange);
  if (kind === "created") {
    const rest = "Place the order again: with this key you get the same order, and no second one.";
    say(place, "created", "Created.", rest);
  } else if (kind === "replayed") {
    const rest = "This key has this order already. Nothing was created; the response is the first one again.";
    say(place, "replayed", "Replayed.", rest);
  } else if (json?.differs) {
    const rest = `The key belongs to another order. It differs at ${json.differs.join(", ")}. `;
    say(place, "refused", "Rejected.", `${rest}Use a new key for a new order.`);
  } else if (json?.violations) {
    say(place, "refused", "Rejected.", "The order is not valid. Nothing was stored; the same key may be used.");
  } else {
    showFailure(place, exchange);
  }
}

/** Shows why there is no good response. */
export function showFailure(place, { request, status, headers, json, error }) {
  if (status === undefined) {
    const isSafe = request.headers["Idempotency-Key"] !== undefined;
    const retry = isSafe ? " Send the same request with the same key again: there will be one order." : "";
    say(place, "failed", "No response.", `${error}.${retry}`);
  } else {
    const words = json?.title ? `${json.title}. ${json.detail ?? ""}` : "The response has no explanation.";
    const id = headers.get("x-request-id");
    say(place, "failed", `${status}.`, id ? `${words} Request id: ${id}.` : words);
  }
  if (status === 401) document.getElementById("customer").open = true;
}

/** Shows a verdict. */
export function say(place, kind, first, rest) {
  place.dataset.outcome = kind;
  place.replaceChildren(element("strong", {}, first), ` ${rest}`);
}
