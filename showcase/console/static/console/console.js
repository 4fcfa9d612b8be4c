// Connects the page's buttons to the API.

import { ORDERS, create, keyPath, newKey, send } from "./api.js";
import { byId, element } from "./dom.js";
import { show, showNothing } from "./exchange.js";
import { addItem, changeQuantity, mark, readDocument, removeItem } from "./order-form.js";
import { readAnew, readFirst, readNext, refresh } from "./order-list.js";
import { awaiting, exclusively } from "./pending.js";
import { race, raceButtons, readCount } from "./race.js";
import { follow } from "./readiness.js";
import { say, showCreation, showFailure } from "./verdict.js";

/** Runs an action when a form is sent; meanwhile none of its buttons, or of these, does anything. */
function onSubmit(form, action, buttons = () => [...byId(form).querySelectorAll("button:not(#next-page, #again)")]) {
  byId(form).addEventListener("submit", (event) => {
    event.preventDefault();
    exclusively(event.submitter, buttons(), () => action(event.submitter));
  });
}

async function placeOrder(pressed) {
  if (pressed === byId("change")) changeQuantity();
  const [key, body] = [byId("key").value, JSON.stringify(readDocument())];
  const verdict = byId("order-verdict");
  // Without a key a retry is not safe.
  const again = key === "" ? undefined : byId("again");
  const exchange = await awaiting(byId("order-exchange"), verdict, (signal) => create(key, body, {}, signal), again);
  show(byId("order-exchange"), exchange);
  mark(exchange.json);
  showCreation(verdict, exchange);
  byId("state-key").value = key;
  refresh();
}

async function raceOneKey() {
  const key = newKey();
  const body = JSON.stringify(readDocument());
  const conclude = async (exchanges, counts) => {
    const { created, replayed, unchecked } = counts;
    const ids = [...new Set(exchanges.flatMap(({ json }) => json?.orderId ?? []))];
    const state = await send("GET", keyPath(key));
    const isOne = ids.length === 1 && state.json?.state === "completed" && state.json.orderId === ids[0];
    const inResponses = ids.length === 1 ? "One order in the responses" : `${ids.length} orders in the responses`;
    const not = unchecked > 0 ? `, ${unchecked} could not be checked` : "";
    byId("state-key").value = key;
    refresh();
    return [
      element("strong", {}, `${isOne ? "One order" : inResponses}: ${created} created, ${replayed} replayed${not}.`),
      ...(isOne ? [" These responses and the state of the key have the order ", element("code", {}, ids[0]), "."] : []),
      isOne ? "" : ` ${wordsOfKey(state)}`,
      firstFailure(exchanges, [201]),
    ];
  };
  await race("race", ORDERS, readCount(byId("race-count")), () => create(key, body), conclude);
}

async function raceOneState() {
  const list = await send("GET", `${ORDERS}?limit=1`);
  const etag = list.headers?.get("etag");
  if (!etag) {
    byId("etag-dots").replaceChildren();
    byId("etag-result").replaceChildren(element("p", { class: "verdict" }));
    showFailure(byId("etag-result").firstElementChild, list);
    return;
  }
  const order = readDocument();
  const count = readCount(byId("etag-count"));
  // The same key each time that a request is sent.
  const keys = Array.from({ length: count }, newKey);
  const different = (index) => JSON.stringify({ ...order, note: `${index + 1} of ${count} on one state` });
  const request = (index) => create(keys[index], different(index), { "If-Match": etag });
  const conclude = async (exchanges, { created, replayed, stale, locked, unchecked }) => {
    const orders = created + replayed === 1 ? "One order" : `${created + replayed} orders`;
    const not = unchecked > 0 ? `, ${unchecked} could not be checked` : "";
    refresh();
    return [
      element("strong", {}, `${orders} on this state, ${stale + locked} rejected${not}.`),
      " The state was ",
      element("code", {}, etag),
      ".",
      firstFailure(exchanges, [201, 409, 412]),
    ];
  };
  await race("etag", ORDERS, count, request, conclude);
}

/** What the first response says that has none of the expected statuses. */
function firstFailure(exchanges, expected) {
  const exchange = exchanges.find(({ status }) => !expected.includes(status));
  if (!exchange) return "";
  const { status, headers, json, error } = exchange;
  if (status === undefined) return ` No response: ${error}.`;
  const id = headers.get("x-request-id");
  return ` ${status}: ${json?.title ?? ""}. ${json?.detail ?? ""}${id ? ` Request id: ${id}.` : ""}`;
}

/** What is known of a key. Nothing is, without a response. */
function wordsOfKey({ status, json }) {
  if (status === 200) return `The key is ${json?.state === "completed" ? "completed" : "in progress"}.`;
  if (status === 404) return "The key is not known.";
  return "The state of the key could not be checked.";
}

async function lookUpKey() {
  const place = byId("state-verdict");
  const path = keyPath(byId("state-key").value);
  const exchange = await awaiting(byId("state-exchange"), place, () => send("GET", path));
  show(byId("state-exchange"), exchange);
  const { status, json } = exchange;
  if (status === 200 && json?.state === "completed") {
    say(place, "created", "Completed.", `The key has the order ${json.orderId}, created at ${json.createdAt}.`);
  } else if (status === 200 && json?.state === "in_progress") {
    const rest = "A request with the key has begun, and its order does not exist (yet). Send the request again: it "
      + "creates or finds the order.";
    say(place, "replayed", "In progress.", rest);
  } else if (status === 404) {
    say(place, "refused", "Not known.", "No request with this key has arrived.");
  } else {
    showFailure(place, exchange);
  }
}

byId("key").value = newKey();
byId("state-key").value = byId("key").value;
addItem("A-1", "2", "1250");
showNothing(byId("order-exchange"));
byId("next-page").disabled = true;

onSubmit("order-form", placeOrder);
onSubmit("race-form", raceOneKey, raceButtons);
onSubmit("etag-form", raceOneState, raceButtons);
onSubmit("state-form", lookUpKey);
onSubmit("list-form", refresh);
byId("new-key").addEventListener("click", () => {
  byId("key").value = newKey();
  mark(undefined);
  say(byId("order-verdict"), "created", "New key.", "The next request creates another order.");
});
byId("add-item").addEventListener("click", () => addItem().querySelector("input").focus());
byId("items").addEventListener("click", ({ target }) => {
  if (target.matches(".remove")) removeItem(target);
});
byId("first-page").addEventListener("click", readFirst);
byId("next-page").addEventListener("click", readNext);
for (const id of ["limit", "created-after"]) byId(id).addEventListener("change", readFirst);
// Another customer has another list.
for (const id of ["identity-header", "identity-value", "token"]) byId(id).addEventListener("change", readAnew);

await Promise.all([follow(), readFirst()]);
document.documentElement.dataset.ready = "true";
