// The console in Debian's Chromium: each flow with real requests, no error in the browser's console, no request to another
// host, no violation of axe-core's rules. CONSOLE_URL is a service with identity=none, IDENTITY_URL one with
// identity=header. With SCREENSHOTS, writes pictures there.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DESKTOP, PHONE, assertNotTooWide, violations, visit as visitPage } from "./visit.mjs";

const { CONSOLE_URL, IDENTITY_URL, SCREENSHOTS } = process.env;

/** Opens the console and runs a flow. */
const visit = ({ url = CONSOLE_URL, ...options }, flow) => visitPage(`${url}/`, { ready: "html[data-ready]", ...options }, flow);

const text = (page, selector) => page.locator(selector).innerText();
const saying = (page, selector, words) => page.locator(selector, { hasText: words }).waitFor();

async function place(page, verdict) {
  await page.getByRole("button", { name: "Place order" }).click();
  await saying(page, "#order-verdict", verdict);
}

async function raceOneKey(page, count) {
  await page.locator("#race-count").fill(String(count));
  await page.getByRole("button", { name: "Start the race" }).click();
  await saying(page, "#race-result", "Maximum");
}

async function raceOneState(page, count) {
  await page.locator("#etag-count").fill(String(count));
  await page.getByRole("button", { name: "Start the ETag race" }).click();
  await saying(page, "#etag-result", "Maximum");
}

const dots = (page, race, outcome) => page.locator(`#${race}-dots [data-outcome="${outcome}"]`).count();
const orderIds = (page) => page.locator("#orders .id").allInnerTexts();

test("an order is created, and replayed when it is placed again", () => visit({}, async (page) => {
  await page.getByLabel("Note").fill("ring <b>twice</b>");
  await place(page, "Created.");
  const panel = await text(page, "#order-exchange");
  for (const part of ["POST /api/v1/orders", "Idempotency-Key: console-", "201 Created", "location: /api/v1/orders/", '"note": "ring <b>twice</b>"']) {
    assert.ok(panel.includes(part), `${part} in ${panel}`);
  }
  assert.ok(!panel.includes("idempotent-replayed"));
  const [id] = /[0-9a-f-]{36}/.exec(panel.split("location:")[1]);
  await place(page, "Replayed.");
  const again = await text(page, "#order-exchange");
  assert.ok(again.includes("idempotent-replayed: true") && again.includes(id), again);
  await page.locator("#orders .id", { hasText: id }).waitFor();
  assert.equal((await orderIds(page)).filter((other) => other === id).length, 1);

  await page.getByRole("button", { name: "Look up" }).click();
  await saying(page, "#state-verdict", `Completed. The key has the order ${id}`);
  await page.getByRole("button", { name: "New key" }).click();
  await place(page, "Created.");
  assert.ok(!(await text(page, "#order-exchange")).includes(id));
}));

test("another order with the same key is refused with what differs", () => visit({}, async (page) => {
  await place(page, "Created.");
  await page.getByRole("button", { name: "Change the quantity, keep the key" }).click();
  await saying(page, "#order-verdict", "It differs at /items/0/quantity.");
  const panel = await text(page, "#order-exchange");
  assert.ok(panel.includes("422") && panel.includes("idempotency-key-reused"), panel);
  assert.deepEqual(await page.locator('[aria-invalid="true"]').evaluateAll((fields) => fields.map((field) => field.dataset.pointer)), ["/items/0/quantity"]);
}));

test("what is not valid is listed and marked", () => visit({}, async (page) => {
  await page.getByLabel("Currency").fill("EURO");
  await page.getByRole("button", { name: "Add an item" }).click();
  await page.getByLabel("Quantity").nth(1).fill("many");
  await place(page, "The order is not valid.");
  const listed = await text(page, "#violations");
  for (const pointer of ["/currency", "/items/1/sku", "/items/1/quantity"]) assert.ok(listed.includes(pointer), listed);
  assert.equal(await page.locator('[aria-invalid="true"]').count(), 3);
  await page.getByLabel("Currency").fill("EUR");
  await page.getByRole("button", { name: "Remove item 2" }).click();
  await place(page, "Created.");
  assert.equal(await page.locator('[aria-invalid="true"]').count(), 0);
  assert.ok(await page.locator("#violations").isHidden());
}));

test("a race of 200 ends with one order", () => visit({}, async (page) => {
  const before = new Set(await orderIds(page));
  await raceOneKey(page, 200);
  assert.equal(await dots(page, "race", "created"), 1);
  assert.equal(await dots(page, "race", "replayed"), 199);
  const result = await text(page, "#race-result");
  assert.match(result, /One order: 1 created, 199 replayed\./);
  for (const figure of ["Minimum", "Median", "Maximum"]) assert.match(result, new RegExp(`${figure}\\s+[0-9.]+ ms`));
  const labels = await page.locator("#race-dots .unseen").allTextContents();
  assert.equal(labels.filter((label) => label === "created, 201").length, 1);
  assert.equal(labels.filter((label) => label === "replayed, 201").length, 199);
  const added = (await orderIds(page)).filter((id) => !before.has(id));
  assert.equal(added.length, 1, "the list has one more order");
  assert.ok(result.includes(added[0]), result);
}));

test("a race on one state of the list has one winner", () => visit({}, async (page) => {
  await raceOneState(page, 40);
  assert.equal(await dots(page, "etag", "created"), 1);
  assert.equal(await dots(page, "etag", "stale") + await dots(page, "etag", "locked"), 39);
  assert.match(await text(page, "#etag-result"), /One order on this state, 39 refused\./);
}));

test("a number beyond the limits of a race is put back within them", () => visit({}, async (page) => {
  await raceOneKey(page, 0);
  assert.equal(await page.locator("#race-count").inputValue(), "1");
  assert.equal(await page.locator("#race-dots li").count(), 1);
}));

test("the list has pages, and an unchanged one is not sent again", () => visit({}, async (page) => {
  for (let made = 0; made < 6; made += 1) {
    await page.getByRole("button", { name: "New key" }).click();
    await place(page, "Created.");
    // The page reads the list again after the verdict: the next step waits for that list.
    const [, id] = /"orderId": "([0-9a-f-]{36})"/.exec(await text(page, "#order-exchange"));
    await page.locator("#orders .id", { hasText: id }).waitFor();
  }
  await saying(page, "#list-verdict", "There is a next page.");
  const first = await orderIds(page);
  assert.equal(first.length, 5);
  assert.match(await text(page, "#list-verdict"), /ETag "[0-9a-f]{32}"/);
  await page.getByRole("button", { name: "Refresh" }).click();
  await saying(page, "#list-verdict", "304, unchanged.");
  await page.getByRole("button", { name: "Next page" }).click();
  await page.locator("#orders .id", { hasText: first[0] }).waitFor({ state: "detached" });
  assert.ok((await orderIds(page)).every((id) => !first.includes(id)));
  await page.getByRole("button", { name: "First page" }).click();
  await page.locator("#orders .id", { hasText: first[0] }).waitFor();
  assert.deepEqual(await orderIds(page), first);
  await page.getByLabel("Per page").selectOption("100");
  await saying(page, "#list-verdict", "This is the last page.");
  assert.ok(await page.getByRole("button", { name: "Next page" }).isDisabled());
}));

test("a key that was never used is not known", () => visit({}, async (page) => {
  await page.locator("#state-key").fill("never/used?");
  await page.getByRole("button", { name: "Look up" }).click();
  await saying(page, "#state-verdict", "Not known.");
}));

test("a service with customers asks for one", () => visit({ url: IDENTITY_URL }, async (page) => {
  await place(page, "401.");
  const field = page.getByLabel("Its value");
  await field.fill("alice");
  await field.press("Tab");
  await saying(page, "#list-verdict", "0 orders.");
  await place(page, "Created.");
  assert.ok((await text(page, "#order-exchange")).includes("X-User-Id: alice"));
  await saying(page, "#list-verdict", "1 order.");
  await page.getByLabel("Bearer token").fill("a.secret.token");
  await place(page, "Replayed.");
  const panel = await text(page, "#order-exchange");
  assert.ok(panel.includes("Authorization: Bearer …") && !panel.includes("secret"), panel);
}));

test("everything works with the keyboard, and the focus is visible", () => visit({}, async (page) => {
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim());
  const reached = [];
  for (let presses = 0; presses < 40; presses += 1) {
    await page.keyboard.press("Tab");
    reached.push(await focused());
    if (reached.at(-1) === "place") break;
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.notEqual(outline, "none", reached.at(-1));
  }
  assert.equal(reached[0], "Skip to the order");
  for (const id of ["key", "new-key", "currency", "note", "add-item", "place"]) assert.ok(reached.includes(id), `${id} in ${reached}`);
  await page.keyboard.press("Enter");
  await saying(page, "#order-verdict", "Created.");
  await page.waitForFunction(() => document.activeElement.id === "place");
  await page.keyboard.press("Enter");
  await saying(page, "#order-verdict", "Replayed.");
}));

test("a browser without JavaScript gets the reference and a command", () => visit({ ready: undefined, javaScriptEnabled: false }, async (page) => {
  // What is rendered, and nothing else.
  const shown = await text(page, "body");
  assert.ok(shown.includes("This console needs JavaScript") && shown.includes("Idempotency-Key: my-first-order"), shown);
}));

for (const colorScheme of ["light", "dark"]) {
  for (const [size, viewport] of [["desktop", DESKTOP], ["phone", PHONE]]) {
    test(`accessible, ${colorScheme}, ${size}`, () => visit({ viewport, colorScheme, reducedMotion: "reduce" }, async (page) => {
      assert.deepEqual(await violations(page), []);
      await place(page, "Created.");
      await page.getByRole("button", { name: "Change the quantity, keep the key" }).click();
      await saying(page, "#order-verdict", "Refused.");
      await page.getByRole("button", { name: "Look up" }).click();
      await saying(page, "#state-verdict", "Completed.");
      await raceOneKey(page, 30);
      await raceOneState(page, 30);
      for (const summary of await page.locator("summary").all()) await summary.click();
      assert.deepEqual(await violations(page), []);
      await page.getByLabel("Currency").fill("");
      await place(page, "The order is not valid.");
      assert.deepEqual(await violations(page), []);
      await assertNotTooWide(page);
    }));
  }
}

test("screenshots", { skip: SCREENSHOTS ? false : "without the variable SCREENSHOTS" }, async () => {
  const shown = async (page) => {
    await place(page, "Created.");
    await place(page, "Replayed.");
    await page.getByRole("button", { name: "Look up" }).click();
    await raceOneKey(page, 200);
    await raceOneState(page, 50);
    await page.evaluate(() => document.activeElement.blur());
  };
  await visit({ reducedMotion: "reduce", viewport: { width: 1280, height: 1640 } }, async (page) => {
    await shown(page);
    await page.screenshot({ path: `${SCREENSHOTS}/console.png` });
  });
  await visit({ reducedMotion: "reduce", colorScheme: "dark", viewport: PHONE, deviceScaleFactor: 2 }, async (page) => {
    await shown(page);
    await page.locator("#race-title").evaluate((title) => title.closest("section").scrollIntoView());
    await page.screenshot({ path: `${SCREENSHOTS}/console-phone.png` });
  });
});
