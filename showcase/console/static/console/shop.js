// Registers, logs in, pays in and orders in the shop, and shows what becomes of it: money, orders and messages of one customer.

import { byId, element } from "./dom.js";

const EVERY_MS = 500;
const REPEATED = 3;
const RACERS = 10;
const ORDERS = "/api/v1/ordering/orders";

/** The token of the last log-in. It is in this page's memory only. */
let token = "";

const value = (id) => byId(id).value.trim();
const customer = () => ({ Authorization: `Bearer ${token}` });

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
    const text = await answer.text();
    return { status: answer.status, headers: answer.headers, json: text === "" ? {} : JSON.parse(text) };
  } catch (error) {
    return { status: 0, headers: new Headers(), json: { title: error.message } };
  }
}

const isGood = ({ status }) => status >= 200 && status < 300;

function say(isSuccess, words) {
  byId("verdict").dataset.outcome = isSuccess ? "created" : "refused";
  byId("verdict").textContent = words;
}

/** Sends one request several times at once, and says how many of the answers were not repetitions of another one. */
async function repeat(what, path, fields, body) {
  const all = { ...fields, "Idempotency-Key": newKey() };
  const answers = await Promise.all(Array.from({ length: REPEATED }, () => send("POST", path, all, JSON.stringify(body))));
  const good = answers.filter(isGood);
  const ids = good.map(({ json }) => json.id).filter((id) => id !== undefined);
  const first = good.filter(({ headers }) => headers.get("Idempotent-Replayed") === null).length;
  const count = ids.length === good.length ? new Set(ids).size : first;
  const failed = answers.find((answer) => !isGood(answer));
  say(failed === undefined, failed ? `${failed.status} ${failed.json.title}` : `${REPEATED} requests, ${count} ${what}.`);
  await refresh();
}

async function register() {
  const [email, password] = [value("email"), value("password")];
  await repeat("account", "/api/v1/identity/register", {}, { email, password, firstName: "Ada", lastName: "Byron" });
}

async function login() {
  const body = JSON.stringify({ email: value("email"), password: value("password") });
  const answer = await send("POST", "/api/v1/identity/login", {}, body);
  token = answer.json.accessToken ?? "";
  say(isGood(answer), isGood(answer) ? "Logged in." : `${answer.status} ${answer.json.title}`);
  await refresh();
}

/** Ten orders with the tag of the list that was read: one is created. */
async function race() {
  const list = await send("GET", ORDERS, customer());
  const fields = { ...customer(), "If-Match": list.headers.get("ETag") ?? "" };
  const body = JSON.stringify({ price: Number(value("price")) });
  const answers = await Promise.all(Array.from({ length: RACERS }, () => send("POST", ORDERS, fields, body)));
  const good = answers.filter(isGood).length;
  const known = answers.every((answer) => isGood(answer) || answer.status === 409 || answer.status === 412);
  say(good === 1 && known, `${RACERS} orders on one ETag, ${good} created.`);
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

const dollars = (amount) => `${amount.toFixed(2)} USD`;

async function refresh() {
  if (token === "") {
    byId("balance").textContent = "not logged in";
    byId("orders").replaceChildren();
    byId("notifications").replaceChildren();
    return;
  }
  const [orders, account, notifications] = await Promise.all([
    send("GET", ORDERS, customer()),
    send("GET", "/api/v1/billing/account", customer()),
    send("GET", "/api/v1/notifications", customer()),
  ]);
  if (orders.status === 200) {
    const rows = orders.json.slice(-20).reverse();
    byId("orders").replaceChildren(...rows.map((o) => row(o.id, dollars(o.price), o.status, o.updatedAt)));
  }
  byId("balance").textContent = account.status === 200
    ? dollars(account.json.amount)
    : `${account.status} ${account.json.title}`;
  if (notifications.status === 200) {
    const rows = notifications.json.map((n) => row(n.orderId, dollars(n.amount / 100), n.message, n.createdAt));
    byId("notifications").replaceChildren(...rows);
  }
}

byId("email").value = `ada-${newKey().slice(0, 6)}@example.org`;
onSubmit("who", register);
byId("login").addEventListener("click", login);
byId("race").addEventListener("click", race);
onSubmit("deposit", () => repeat("deposit", "/api/v1/billing/account/deposit", customer(), { amount: Number(value("amount")) }));
onSubmit("order-form", () => repeat("order", ORDERS, { ...customer(), "If-Match": "*" }, { price: Number(value("price")) }));

async function follow() {
  await refresh();
  setTimeout(follow, EVERY_MS);
}
follow();
