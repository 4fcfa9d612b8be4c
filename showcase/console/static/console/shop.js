// Pays in and orders in the shop, and shows what becomes of it: orders, balance and notifications of one customer.

import { byId, element } from "./dom.js";

const EVERY_MS = 500;
const REPEATED = 3;

const value = (id) => byId(id).value.trim();
const operator = () => ({ Authorization: `Bearer ${value("token")}` });
const customer = () => ({ "X-User-Id": value("customer") });

/** A key that no other request has. Works without HTTPS, unlike crypto.randomUUID. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The answer's status and document; never throws. */
async function send(method, path, fields, body) {
  try {
    const headers = body === undefined ? fields : { ...fields, "Content-Type": "application/json" };
    const answer = await fetch(path, { method, headers, body, cache: "no-store" });
    return { status: answer.status, json: await answer.json() };
  } catch (error) {
    return { status: 0, json: { title: error.message } };
  }
}

/** Sends one request several times at once, and says how many different answers came back. */
async function repeat(what, path, fields, body) {
  const all = { ...fields, "Idempotency-Key": newKey() };
  const answers = await Promise.all(Array.from({ length: REPEATED }, () => send("POST", path, all, body)));
  const good = answers.filter(({ status }) => status === 201 || status === 202);
  const different = new Set(good.map(({ json }) => json.id ?? json.depositId)).size;
  const failed = answers.find((answer) => !good.includes(answer));
  byId("verdict").dataset.outcome = failed ? "refused" : "created";
  byId("verdict").textContent = failed
    ? `${failed.status} ${failed.json.title}`
    : `${REPEATED} requests, ${different} ${what}.`;
  await refresh();
}

function onSubmit(id, action) {
  byId(id).addEventListener("submit", (event) => {
    event.preventDefault();
    action();
  });
}

const row = (id, amount, what, time) =>
  element("li", {}, element("span", { class: "id" }, id), element("span", { class: "total" }, amount),
    element("span", { class: "what" }, what), element("time", { datetime: time }, new Date(time).toLocaleTimeString()));

const euros = (cents) => `${(cents / 100).toFixed(2)} EUR`;

async function refresh() {
  const [orders, account, notifications] = await Promise.all([
    send("GET", "/api/v1/ordering/orders", customer()),
    send("GET", `/api/v1/accounts/${encodeURIComponent(value("customer"))}`, operator()),
    send("GET", "/api/v1/notifications", customer()),
  ]);
  if (orders.status === 200) {
    const rows = orders.json.slice(-20).reverse();
    byId("orders").replaceChildren(...rows.map((o) => row(o.id, `${o.price.toFixed(2)} EUR`, o.status, o.updatedAt)));
  }
  byId("balance").textContent = account.status === 200
    ? euros(account.json.balances.EUR ?? 0)
    : `${account.status} ${account.json.title}`;
  if (notifications.status === 200) {
    const rows = notifications.json.notifications;
    byId("notifications").replaceChildren(...rows.map((n) => row(n.orderId, euros(n.amount), n.text, n.createdAt)));
  }
}

onSubmit("who", refresh);
onSubmit("deposit", () => {
  const path = `/api/v1/accounts/${encodeURIComponent(value("customer"))}/deposits`;
  return repeat("deposit", path, operator(), JSON.stringify({ amount: Number(value("amount")), currency: "EUR" }));
});
onSubmit("order-form", () =>
  repeat("order", "/api/v1/ordering/orders", { ...customer(), "If-Match": "*" }, JSON.stringify({ price: Number(value("price")) })));

async function follow() {
  await refresh();
  setTimeout(follow, EVERY_MS);
}
follow();
