// Says in a sentence what an answer means, and what to do next.

import { element } from "./dom.js";

/** What became of a request to create an order: the names that dots and verdicts are drawn by. */
export function outcome(exchange) {
  if (exchange.status === 201) return exchange.headers.has("idempotent-replayed") ? "replayed" : "created";
  if (exchange.status === 412) return "stale";
  if (exchange.status === 409) return "locked";
  return "failed";
}

/** Shows the verdict on a request to create an order. */
export function showCreation(place, exchange) {
  const { status, json } = exchange;
  const kind = outcome(exchange);
  if (kind === "created") {
    say(place, "created", "Created.", "Place the order again: with this key you get the same order, and no second one.");
  } else if (kind === "replayed") {
    say(place, "replayed", "Replayed.", "This key has this order already. Nothing was created; the answer is the first one again.");
  } else if (json?.differs) {
    say(place, "refused", "Refused.", `The key belongs to another order. It differs at ${json.differs.join(", ")}. Use a new key for a new order.`);
  } else if (json?.violations) {
    say(place, "refused", "Refused.", "The order is not valid. Nothing was stored; the same key may be used.");
  } else {
    showFailure(place, exchange, status);
  }
}

/** Shows why there is no good answer. */
export function showFailure(place, { status, json, error }) {
  if (status === undefined) {
    say(place, "failed", "No answer.", `${error}. Send the same request with the same key again: it is safe.`);
  } else {
    say(place, "failed", `${status}.`, json?.title ? `${json.title}. ${json.detail ?? ""}` : "The answer has no explanation.");
  }
  if (status === 401) document.getElementById("customer").open = true;
}

/** Shows a verdict. */
export function say(place, kind, first, rest) {
  place.dataset.outcome = kind;
  place.replaceChildren(element("strong", {}, first), ` ${rest}`);
}
