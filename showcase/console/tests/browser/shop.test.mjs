// The shop's page in Debian's Chromium, in front of the served shop and its puller: deposits, orders that are paid and refused,
// notifications; no error in the browser's console, no request to another host, no violation of axe-core's rules. SHOP_URL is the
// shop, OPERATOR_TOKEN its operator's token.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DESKTOP, PHONE, assertNotTooWide, violations, visit as visitPage } from "./visit.mjs";

const { SHOP_URL, OPERATOR_TOKEN } = process.env;

let customers = 0;

/** Opens the page for a customer that is new, and runs a flow. */
function visit(options, flow) {
  customers += 1;
  return visitPage(`${SHOP_URL}/shop.html`, options, async (page) => {
    await page.getByLabel("Operator's token").fill(OPERATOR_TOKEN);
    await page.getByLabel("Customer").fill(`browser-${customers}`);
    await saying(page, "#balance", "0.00 EUR");
    await flow(page);
  });
}

const saying = (page, selector, words) => page.locator(selector, { hasText: words }).first().waitFor();
const rows = (page, list) => page.locator(`#${list} li`);

async function payIn(page, cents, verdict) {
  await page.getByRole("spinbutton", { name: "Deposit" }).fill(String(cents));
  await page.getByRole("button", { name: "Pay in" }).click();
  await saying(page, "#verdict", verdict);
}

async function order(page, price, verdict) {
  await page.getByRole("spinbutton", { name: "Order" }).fill(String(price));
  await page.getByRole("button", { name: "Order, three times" }).click();
  await saying(page, "#verdict", verdict);
}

test("a deposit and an order have their effects once, and the customer is told", () => visit({}, async (page) => {
  await payIn(page, 1000, "3 requests, 1 deposit.");
  await saying(page, "#balance", "10.00 EUR");
  await order(page, 6.5, "3 requests, 1 order.");
  await saying(page, "#orders", "succeeded");
  await saying(page, "#balance", "3.50 EUR");
  await saying(page, "#notifications", "Your order is paid.");
  assert.equal(await rows(page, "orders").count(), 1);
  assert.equal(await rows(page, "notifications").count(), 1);
  const id = await page.locator("#orders .id").innerText();
  assert.equal(await page.locator("#notifications .id").innerText(), id);
  assert.equal(await page.locator("#notifications .total").innerText(), "6.50 EUR");
}));

test("an order that the balance does not cover is refused, and takes nothing", () => visit({}, async (page) => {
  await payIn(page, 1000, "1 deposit");
  await order(page, 6.5, "1 order");
  await saying(page, "#orders", "succeeded");
  await order(page, 6.5, "1 order");
  await saying(page, "#orders", "failed");
  await saying(page, "#notifications", "Your order could not be paid: insufficient funds.");
  assert.equal(await rows(page, "orders").count(), 2);
  assert.equal(await rows(page, "notifications").count(), 2);
  // The newest first.
  assert.deepEqual(await page.locator("#orders .what").allInnerTexts(), ["failed", "succeeded"]);
  assert.equal(await page.locator("#balance").innerText(), "3.50 EUR");
}));

test("a customer without an account cannot pay", () => visit({}, async (page) => {
  await order(page, 6.5, "1 order");
  await saying(page, "#orders", "failed");
  await saying(page, "#notifications", "Your order could not be paid: no account.");
}));

test("what a service refuses is said", () => visit({}, async (page) => {
  await payIn(page, 0, "422");
  await order(page, -1, "422");
  await page.getByLabel("Operator's token").fill("another");
  await payIn(page, 1000, "401");
  await saying(page, "#balance", "401");
  assert.equal(await rows(page, "orders").count(), 0);
}));

test("each customer sees what is theirs", () => visit({}, async (page) => {
  await order(page, 2, "1 order");
  await saying(page, "#notifications", "could not be paid");
  await page.getByLabel("Customer").fill("browser-nobody");
  await rows(page, "orders").first().waitFor({ state: "detached" });
  await rows(page, "notifications").first().waitFor({ state: "detached" });
}));

for (const colorScheme of ["light", "dark"]) {
  for (const [size, viewport] of [["desktop", DESKTOP], ["phone", PHONE]]) {
    test(`accessible, ${colorScheme}, ${size}`, () => visit({ viewport, colorScheme }, async (page) => {
      assert.deepEqual(await violations(page), []);
      await payIn(page, 1000, "1 deposit");
      await order(page, 6.5, "1 order");
      await saying(page, "#notifications", "Your order is paid.");
      await payIn(page, 0, "422");
      assert.deepEqual(await violations(page), []);
      await assertNotTooWide(page);
    }));
  }
}
