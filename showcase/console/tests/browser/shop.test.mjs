// The shop's page in Debian's Chromium, in front of the served shop and its puller: accounts, deposits, orders that are paid and
// refused, the race, messages; no error in the browser's console, no request to another host, no violation of axe-core's rules.
// SHOP_URL is the shop.
import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, visit as visitPage } from "./visit.mjs";

const { SHOP_URL } = process.env;

/** Opens the page, registers and logs in a customer that is new, and runs a flow. */
function visit(options, flow) {
  return visitPage(`${SHOP_URL}/shop.html`, options, async (page) => {
    await saying(page, "#balance", "not logged in");
    await page.getByRole("button", { name: "Register" }).click();
    await saying(page, "#verdict", "3 requests, 1 account.");
    await page.getByRole("button", { name: "Log in" }).click();
    await saying(page, "#verdict", "Logged in.");
    await saying(page, "#balance", "0.00 USD");
    await flow(page);
  });
}

const saying = (page, selector, words) => page.locator(selector, { hasText: words }).first().waitFor();
const rows = (page, list) => page.locator(`#${list} li`);

async function payIn(page, amount, verdict) {
  await page.getByRole("spinbutton", { name: "Deposit" }).fill(String(amount));
  await page.getByRole("button", { name: "Pay in" }).click();
  await saying(page, "#verdict", verdict);
}

async function order(page, price, verdict) {
  await page.getByRole("spinbutton", { name: "Order" }).fill(String(price));
  await page.getByRole("button", { name: "Order, three times" }).click();
  await saying(page, "#verdict", verdict);
}

test("a deposit and an order have their effects once, and the customer is told", () => visit({}, async (page) => {
  await payIn(page, 10, "3 requests, 1 deposit.");
  await saying(page, "#balance", "10.00 USD");
  await order(page, 6.5, "3 requests, 1 order.");
  await saying(page, "#orders", "succeeded");
  await saying(page, "#balance", "3.50 USD");
  await saying(page, "#notifications", "Your order for 6.50$ has been");
  assert.equal(await rows(page, "orders").count(), 1);
  assert.equal(await rows(page, "notifications").count(), 1);
  const id = await page.locator("#orders .id").innerText();
  assert.equal(await page.locator("#notifications .id").innerText(), id);
  assert.equal(await page.locator("#notifications .total").innerText(), "6.50 USD");
}));

test("an order that the balance does not cover is refused, and takes nothing", () => visit({}, async (page) => {
  await payIn(page, 10, "1 deposit");
  await order(page, 6.5, "1 order");
  await saying(page, "#orders", "succeeded");
  await order(page, 6.5, "1 order");
  await saying(page, "#orders", "failed");
  await saying(page, "#notifications", "Your order for 6.50$ was not fulfilled due to: not enough money.");
  assert.equal(await rows(page, "orders").count(), 2);
  assert.equal(await rows(page, "notifications").count(), 2);
  // The newest first.
  assert.deepEqual(await page.locator("#orders .what").allInnerTexts(), ["failed", "succeeded"]);
  assert.equal(await page.locator("#balance").innerText(), "3.50 USD");
}));

test("a customer without an account cannot pay", () => visit({}, async (page) => {
  await order(page, 6.5, "1 order");
  await saying(page, "#orders", "failed");
  await saying(page, "#notifications", "not enough money");
}));

test("of ten orders on one ETag one is created", () => visit({}, async (page) => {
  await page.getByRole("spinbutton", { name: "Order" }).fill("2");
  await page.getByRole("button", { name: "Race" }).click();
  await saying(page, "#verdict", "10 orders on one ETag, 1 created.");
  await rows(page, "orders").first().waitFor();
  assert.equal(await rows(page, "orders").count(), 1);
}));

test("what a service refuses is said", () => visit({}, async (page) => {
  await payIn(page, 0, "422");
  await order(page, -1, "422");
  await page.getByRole("button", { name: "Register" }).click();
  await saying(page, "#verdict", "409");
  await page.getByLabel("Password").fill("wrong horse");
  await page.getByRole("button", { name: "Log in" }).click();
  await saying(page, "#verdict", "401");
  await saying(page, "#balance", "not logged in");
  assert.equal(await rows(page, "orders").count(), 0);
}));

test("accessible in both themes, on a phone, and at 200 %", () => visit({}, async (page) => {
  await assertAccessible(page);
  await payIn(page, 10, "1 deposit");
  await order(page, 6.5, "1 order");
  await saying(page, "#notifications", "has been");
  await payIn(page, 0, "422");
  await assertAccessible(page);
}));
