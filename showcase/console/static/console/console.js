// Connects the page's buttons to the API.

import { ORDERS, create, keyPath, newKey, send } from "./api.js";
import { byId, element } from "./dom.js";
import { show, showNothing } from "./exchange.js";
import { addItem, changeQuantity, mark, readDocument, removeItem } from "./order-form.js";
import { readFirst, readNext, refresh } from "./order-list.js";
import { race, readCount, showResult } from "./race.js";
import { say, showCreation, showFailure } from "./verdict.js";

/** Runs an action while its buttons are disabled; a second press meanwhile would mix two answers up. */
async function exclusively(buttons, action) {
  const focused = document.activeElement;
  for (const button of buttons) button.disabled = true;
  try {
    await action();
  } finally {
    for (const button of buttons) button.disabled = false;
    // A disabled button loses the focus, and with it the reader's place.
    if (buttons.includes(focused)) focused.focus({ preventScroll: true });
  }
}

/** Runs an action when a form is sent; meanwhile no form of these can be. */
function onSubmit(form, action, others = []) {
  byId(form).addEventListener("submit", (event) => {
    event.preventDefault();
    const buttons = [form, ...others].flatMap((id) => [...byId(id).querySelectorAll("button:not(#next-page)")]);
    exclusively(buttons, action);
  });
}

async function placeOrder() {
  const exchange = await create(byId("key").value, JSON.stringify(readDocument()));
  show(byId("order-exchange"), exchange);
  mark(exchange.json);
  showCreation(byId("order-verdict"), exchange);
  byId("state-key").value = byId("key").value;
  await refresh();
}

async function raceOneKey() {
  const key = newKey();
  const body = JSON.stringify(readDocument());
  const count = readCount(byId("race-count"));
  byId("race-result").replaceChildren();
  const run = await race(byId("race-dots"), byId("race-legend"), ORDERS, count, () => create(key, body));
  const { created, replayed } = run.counts;
  const ids = [...new Set(run.exchanges.flatMap(({ json }) => json?.orderId ?? []))];
  const { json: state } = await send("GET", keyPath(key));
  const isOne = ids.length === 1 && state?.state === "completed" && state.orderId === ids[0];
  const orders = isOne ? "One order" : `${ids.length} orders in the answers`;
  const sentence = [
    element("strong", {}, `${orders}: ${created} created, ${replayed} replayed.`),
    ...(isOne ? [" All answers and the state of the key have the order ", element("code", {}, ids[0]), "."] : [` The key is ${state?.state ?? "not known"}.`]),
    firstFailure(run.exchanges, [201]),
  ];
  showResult(byId("race-result"), sentence, run);
  byId("state-key").value = key;
  await refresh();
}

async function raceOneState() {
  const count = readCount(byId("etag-count"));
  const place = byId("etag-result");
  place.replaceChildren();
  const list = await send("GET", `${ORDERS}?limit=1`);
  const etag = list.headers?.get("etag");
  if (!etag) {
    byId("etag-dots").replaceChildren();
    place.replaceChildren(element("p", { class: "verdict" }));
    showFailure(place.firstElementChild, list);
    return;
  }
  const order = readDocument();
  const different = (index) => JSON.stringify({ ...order, note: `${index + 1} of ${count} on one state` });
  const request = (index) => create(newKey(), different(index), { "If-Match": etag });
  const run = await race(byId("etag-dots"), byId("etag-legend"), ORDERS, count, request);
  const { created, stale, locked } = run.counts;
  const orders = created === 1 ? "One order" : `${created} orders`;
  const sentence = [
    element("strong", {}, `${orders} on this state, ${stale + locked} refused.`),
    " The state was ",
    element("code", {}, etag),
    ".",
    firstFailure(run.exchanges, [201, 409, 412]),
  ];
  showResult(place, sentence, run);
  await refresh();
}

/** What the first answer says that has none of the expected statuses. */
function firstFailure(exchanges, expected) {
  const exchange = exchanges.find(({ status }) => !expected.includes(status));
  if (!exchange) return "";
  const { status, json, error } = exchange;
  return status === undefined ? ` No answer: ${error}.` : ` ${status}: ${json?.title ?? ""}. ${json?.detail ?? ""}`;
}

async function lookUpKey() {
  const exchange = await send("GET", keyPath(byId("state-key").value));
  show(byId("state-exchange"), exchange);
  const place = byId("state-verdict");
  const { status, json } = exchange;
  if (status === 200 && json?.state === "completed") {
    say(place, "created", "Completed.", `The key has the order ${json.orderId}, created at ${json.createdAt}.`);
  } else if (status === 200 && json?.state === "in_progress") {
    say(place, "replayed", "In progress.", "A request with the key has begun, and its order does not exist (yet). Send the request again: it creates or finds the order.");
  } else if (status === 404) {
    say(place, "refused", "Not known.", "No request with this key has arrived.");
  } else {
    showFailure(place, exchange);
  }
}

async function showReadiness() {
  const { status, json } = await send("GET", "/readyz");
  const checks = Object.entries(json?.checks ?? {});
  const parts = checks.map(([name, { status: state, latencyMs }]) => `${name === "redis" ? "Redis" : "Postgres"} ${state}, ${latencyMs.toFixed(1)} ms`);
  byId("readiness").textContent = parts.length > 0 ? parts.join(" · ") : `Not ready: ${json?.title ?? status ?? "no answer"}`;
}

byId("key").value = newKey();
byId("state-key").value = byId("key").value;
addItem("A-1", "2", "1250");
showNothing(byId("order-exchange"));
byId("next-page").disabled = true;

onSubmit("order-form", placeOrder);
// One race at a time: two would share the browser's connections and its list of timings.
onSubmit("race-form", raceOneKey, ["etag-form"]);
onSubmit("etag-form", raceOneState, ["race-form"]);
onSubmit("state-form", lookUpKey);
onSubmit("list-form", refresh);
onSubmit("customer-form", readFirst);
byId("change").addEventListener("click", () => {
  changeQuantity();
  byId("order-form").requestSubmit();
});
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
byId("limit").addEventListener("change", readFirst);
// Another customer has another list.
for (const id of ["identity-field", "identity-value", "token"]) byId(id).addEventListener("change", readFirst);

await Promise.all([showReadiness(), readFirst()]);
document.documentElement.dataset.ready = "true";
