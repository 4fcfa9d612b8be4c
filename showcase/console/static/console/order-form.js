// The form for an order: reads it as a document, and marks the members that an answer points at.

import { byId, element } from "./dom.js";

/** Adds a line for an item. */
export function addItem(sku = "", quantity = "1", unitPrice = "1000") {
  const line = byId("item").content.firstElementChild.cloneNode(true);
  const values = { sku, quantity, unitPrice };
  for (const input of line.querySelectorAll("input")) input.value = values[input.dataset.member];
  byId("items").append(line);
  numberItems();
  return line;
}

/** Removes the item that a button is in. */
export function removeItem(button) {
  button.closest(".item").remove();
  numberItems();
  byId("add-item").focus();
}

function numberItems() {
  const lines = [...byId("items").children];
  lines.forEach((line, index) => {
    for (const input of line.querySelectorAll("input")) input.dataset.pointer = `/items/${index}/${input.dataset.member}`;
    line.querySelector(".remove").setAttribute("aria-label", `Remove item ${index + 1}`);
  });
}

/** The document as it is typed: what is no number goes as text, and the server refuses it. */
export function readDocument() {
  const typed = (text) => (/^-?\d+(\.\d+)?$/.test(text.trim()) ? Number(text) : text);
  const items = [...byId("items").children].map((line) => {
    const value = (member) => line.querySelector(`[data-member="${member}"]`).value;
    return { sku: value("sku"), quantity: typed(value("quantity")), unitPrice: typed(value("unitPrice")) };
  });
  const note = byId("note").value;
  return { currency: byId("currency").value, items, ...(note === "" ? {} : { note }) };
}

/** Makes the order another one, as a client with a mistake would. */
export function changeQuantity() {
  const quantity = document.querySelector('#items [data-member="quantity"]');
  if (quantity) quantity.value = String((Number(quantity.value) || 0) + 1);
}

/** Marks the fields that an answer's JSON Pointers name, and lists the rules that are violated. */
export function mark(json) {
  const violations = json?.violations ?? [];
  const pointers = [...violations.map(({ pointer }) => pointer), ...(json?.differs ?? [])];
  for (const input of document.querySelectorAll("#order-form input[data-pointer]")) {
    const isMarked = pointers.includes(input.dataset.pointer);
    if (isMarked) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }
  const lines = violations.map(({ pointer, detail }) => element("li", {}, element("code", {}, pointer || "(the body)"), ` ${detail}`));
  byId("violations").replaceChildren(...lines);
  byId("violations").hidden = lines.length === 0;
}
