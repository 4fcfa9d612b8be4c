// Shows the list of orders page by page, with its entity tag; an unchanged page is not sent again. An order shows its
// own request and response.

import { ORDERS, send } from "./api.js";
import { byId, element } from "./dom.js";
import { show } from "./exchange.js";
import { awaiting } from "./pending.js";
import { say, showFailure } from "./verdict.js";

const NO_PAGE = { path: "", etag: null, next: null };

/** The page that is shown: its path, its tag, the path of the next one, and when it was read. */
let page = NO_PAGE;

/** The newest read; an older one shows nothing any more. */
let newest = new AbortController();

/** The order that shows its exchange, and where. */
let opened = { id: "", panel: null };

/** Reads the first page, with the filter as it is now. */
export function readFirst() {
  page = { ...page, path: "", etag: null };
  return refresh();
}

/** Reads the next page, if there is one. */
export const readNext = () => (page.next ? read(page.next) : undefined);

/** Reads the page that is shown again, if it has changed. */
export const refresh = () => read(page.path || firstPath());

/** Forgets the page, which is another customer's, and reads the first one. */
export function readAnew() {
  page = NO_PAGE;
  byId("orders").replaceChildren();
  markStale(false);
  return readFirst();
}

function firstPath() {
  const after = byId("created-after").value;
  const filter = after === "" ? "" : `&createdAfter=${new Date(after).toISOString()}`;
  return `${ORDERS}?limit=${byId("limit").value}${filter}`;
}

async function read(path) {
  newest.abort();
  const own = new AbortController();
  newest = own;
  const headers = path === page.path && page.etag ? { "If-None-Match": page.etag } : {};
  const verdict = byId("list-verdict");
  const request = () => send("GET", path, headers, undefined, own.signal);
  const exchange = await awaiting(byId("list-exchange"), verdict, request);
  if (own.signal.aborted) return;
  show(byId("list-exchange"), exchange);
  const { status, json } = exchange;
  if (status === 304) {
    markStale(false);
    say(verdict, "replayed", "304, unchanged.", `The list is still in the state ${page.etag}.`);
  } else if (status === 200 && json) {
    page = { path, etag: exchange.headers.get("etag"), next: json.next, time: new Date() };
    markStale(false);
    byId("orders").replaceChildren(...json.orders.map(line));
    const shown = json.orders.length;
    const more = page.next ? "There is a next page." : "This is the last page.";
    say(verdict, "created", shown === 1 ? "1 order." : `${shown} orders.`, `ETag ${page.etag}. ${more}`);
  } else {
    showFailure(verdict, exchange);
    markStale(byId("orders").children.length > 0);
  }
  byId("next-page").disabled = !page.next;
}

/** Says of the list that is shown whether it could not be read again. */
function markStale(isStale) {
  byId("stale").hidden = !isStale;
  if (isStale) byId("stale").textContent = `Stale: this list was read at ${page.time.toLocaleTimeString()}.`;
}

function line(order) {
  const items = order.items?.map(({ quantity, sku }) => `${quantity} × ${sku}`).join(", ") ?? order.status;
  const isOpened = order.orderId === opened.id;
  const button = element("button", { type: "button", class: "id", "aria-expanded": isOpened }, order.orderId);
  button.addEventListener("click", () => toggle(order.orderId, button));
  return element("li", {},
    button,
    element("span", { class: "total" }, order.items ? money(order.total, order.currency) : ""),
    element("span", { class: "what" }, order.note ? `${items} – ${order.note}` : items),
    element("time", { datetime: order.createdAt }, new Date(order.createdAt).toLocaleString()),
    ...(isOpened ? [opened.panel] : []),
  );
}

/** Requests an order and shows the exchange below it, or hides that again. */
async function toggle(id, button) {
  const isOpened = opened.id === id;
  opened.panel?.remove();
  for (const other of byId("orders").querySelectorAll(".id")) other.setAttribute("aria-expanded", "false");
  opened = { id: "", panel: null };
  if (isOpened) return;
  const [words, panel] = [element("p", {}), element("div", { class: "exchange" })];
  panel.append(words);
  opened = { id, panel };
  button.setAttribute("aria-expanded", "true");
  button.closest("li").append(panel);
  show(panel, await awaiting(panel, words, (signal) => send("GET", `${ORDERS}/${id}`, {}, undefined, signal)));
}

/** An amount of minor units; a currency that the browser does not know has two decimals there. */
function money(minor, currency) {
  try {
    const format = new Intl.NumberFormat(undefined, { style: "currency", currency });
    return format.format(minor / 10 ** format.resolvedOptions().maximumFractionDigits);
  } catch {
    return `${minor} ${currency}`;
  }
}
