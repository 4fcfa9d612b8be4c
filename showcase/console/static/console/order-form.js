// The form for an order: reads it as a document, and says at its inputs why a response rejects them.

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
    for (const input of line.querySelectorAll("input")) {
      input.dataset.pointer = `/items/${index}/${input.dataset.member}`;
    }
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

/**
 * Says at each input why the response rejects it, and lists what is wrong with no single input. Moves the focus to the
 * first input that breaks a rule.
 */
export function mark(json) {
  const rules = (json?.violations ?? []).map(({ pointer, detail }) => [pointer, detail]);
  if (/:idempotency-key-(missing|malformed|ambiguous)$/.test(json?.type)) rules.push(["key", json.detail]);
  const differs = (json?.differs ?? []).map((pointer) => [pointer, "The key's order has another value here."]);
  const all = [...rules, ...differs];
  const inputs = [...document.querySelectorAll("#order-form input[data-pointer]")];
  inputs.forEach((input, index) => {
    const reasons = all.filter(([pointer]) => pointer === input.dataset.pointer).map(([, reason]) => reason);
    const field = input.closest(".field");
    field.querySelector(".why")?.remove();
    for (const name of ["aria-invalid", "aria-describedby"]) input.removeAttribute(name);
    if (reasons.length === 0) return;
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", `why-${index}`);
    field.append(element("p", { class: "why", id: `why-${index}` }, reasons.join(" ")));
  });
  const hasInput = ([pointer]) => inputs.some((input) => input.dataset.pointer === pointer);
  const lines = all.filter((reason) => !hasInput(reason));
  byId("violations").replaceChildren(
    ...lines.map(([pointer, reason]) => element("li", {}, element("code", {}, pointer || "(the body)"), ` ${reason}`)),
  );
  byId("violations").hidden = lines.length === 0;
  if (rules.length > 0) (document.querySelector('#order-form [aria-invalid="true"]') ?? byId("add-item")).focus();
}
