// Shows the list of orders page by page, with its entity tag; an unchanged page is not sent again.

import { ORDERS, send } from "./api.js";
import { byId, element } from "./dom.js";
import { show } from "./exchange.js";
import { say, showFailure } from "./verdict.js";

/** The page that is shown: its path, its tag and the path of the next one. */
let page = { path: "", etag: null, next: null };

/** Reads the first page. */
export const readFirst = () => read(`${ORDERS}?limit=${byId("limit").value}`);

/** Reads the next page, if there is one. */
export const readNext = () => (page.next ? read(page.next) : undefined);

/** Reads the page that is shown again, if it has changed. */
export const refresh = () => read(page.path || `${ORDERS}?limit=${byId("limit").value}`);

async function read(path) {
  const fields = path === page.path && page.etag ? { "If-None-Match": page.etag } : {};
  const exchange = await send("GET", path, fields);
  show(byId("list-exchange"), exchange);
  const verdict = byId("list-verdict");
  if (exchange.status === 304) {
    say(verdict, "replayed", "304, unchanged.", `The list is still in the state ${page.etag}.`);
  } else if (exchange.status === 200 && exchange.json) {
    page = { path, etag: exchange.headers.get("etag"), next: exchange.json.next };
    byId("orders").replaceChildren(...exchange.json.orders.map(line));
    const shown = exchange.json.orders.length;
    const more = page.next ? "There is a next page." : "This is the last page.";
    say(verdict, "created", shown === 1 ? "1 order." : `${shown} orders.`, `ETag ${page.etag}. ${more}`);
  } else {
    page = { path: "", etag: null, next: null };
    byId("orders").replaceChildren();
    showFailure(verdict, exchange);
  }
  byId("next-page").disabled = !page.next;
}

function line(order) {
  const items = order.items?.map(({ quantity, sku }) => `${quantity} × ${sku}`).join(", ") ?? order.status;
  return element("li", {},
    element("span", { class: "id" }, order.orderId),
    element("span", { class: "total" }, order.items ? money(order.total, order.currency) : ""),
    element("span", { class: "what" }, order.note ? `${items} – ${order.note}` : items),
    element("time", { datetime: order.createdAt }, new Date(order.createdAt).toLocaleString()),
  );
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
