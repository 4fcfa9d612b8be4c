// The reference page in Debian's Chromium: every operation and type of problem is there, requests are sent from it, and
// it is readable without JavaScript. CONSOLE_URL is a service.
import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, visit as visitPage } from "./visit.mjs";

const { CONSOLE_URL } = process.env;
const PAGE = `${CONSOLE_URL}/reference/`;

const visit = (options, flow, address = PAGE) => visitPage(address, { ready: "html[data-ready]", ...options }, flow);

const document = async () => (await fetch(`${CONSOLE_URL}/openapi.json`)).json();

async function problemTypes() {
  const types = Object.values((await document()).components.schemas).map((schema) => schema.properties?.type?.const);
  // An event has a type, too.
  return types.filter((type) => type?.startsWith("urn:")).map((type) => type.split(":").at(-1));
}

/** Opens an operation. */
async function opened(page, id) {
  await page.locator(`#${id} > summary`).click();
  return page.locator(`#${id}`);
}

test("the page shows every operation but HEAD and OPTIONS, which add nothing", () => visit({}, async (page) => {
  const methods = Object.values((await document()).paths).flatMap((item) => Object.keys(item));
  const expected = methods.filter((method) => ["get", "post"].includes(method)).map((method) => method.toUpperCase());
  assert.deepEqual((await page.locator(".operation .method").allInnerTexts()).sort(), expected.sort());
  assert.deepEqual((await page.locator("tbody td:first-child").allInnerTexts()).sort(), expected.sort());
  const creation = await opened(page, "createOrder");
  const text = await creation.innerText();
  for (const words of ["Creates an order exactly once per", "unitPrice", "idempotency-key-reused", "If-Match"]) {
    assert.ok(text.includes(words), words);
  }
}));

test("each try has a key of its own and goes to the page's own server", () => visit({}, async (page) => {
  assert.ok((await page.locator("header").innerText()).includes(`Server: ${CONSOLE_URL}`));
  assert.ok((await page.locator("main pre").first().innerText()).includes(`${CONSOLE_URL}/api/v1/orders`));
  const creation = await opened(page, "createOrder");
  const ids = new Set();
  const send = async (name, words) => {
    await creation.locator(".exchange").evaluate((panel) => panel.replaceChildren());
    await creation.getByRole("button", { name, exact: true }).click();
    await creation.locator(".exchange", { hasText: "201 Created" }).waitFor();
    const shown = await creation.locator(".exchange").innerText();
    assert.equal(shown.includes("idempotent-replayed: true"), words === "replayed", shown);
    return ids.add(/"orderId": "([^"]*)"/.exec(shown)[1]).size;
  };
  assert.equal(await send("Send", "created"), 1);
  assert.equal(await send("Send", "created"), 2);
  assert.equal(await send("Send it again with the same key", "replayed"), 2);

  const reading = await opened(page, "getOrder");
  await reading.getByLabel("orderId").fill([...ids][0]);
  await reading.getByRole("button", { name: "Send" }).click();
  await reading.locator(".exchange", { hasText: "200 OK" }).waitFor();
  const listing = await opened(page, "listOrders");
  await listing.getByLabel("limit").fill("1");
  await listing.getByRole("button", { name: "Send" }).click();
  await listing.locator(".exchange", { hasText: "GET /api/v1/orders?limit=1" }).waitFor();
}));

test("a problem's Link leads to the entry of its type", async () => {
  const answer = await fetch(`${CONSOLE_URL}/api/v1/orders/none`);
  const { type } = await answer.json();
  const link = answer.headers.get("link").match(/<([^>]*)>; rel="help"/)[1];
  await visit({}, async (page) => {
    const entry = page.locator(":target");
    assert.match(await entry.innerText(), new RegExp(type));
    // A browser scrolls to whole pixels.
    const { y } = await entry.boundingBox();
    assert.ok(y > -1 && y < page.viewportSize().height, `the entry is at ${y}`);
  }, `${CONSOLE_URL}${link}`);
});

test("without JavaScript, the page has the routes, a command, and every type of problem", async () => {
  await visit({ ready: undefined, javaScriptEnabled: false }, async (page) => {
    const text = await page.locator("main").innerText();
    for (const words of ["/api/v1/orders/{orderId}", "/readyz", "curl -i", "they are in the OpenAPI document"]) {
      assert.ok(text.toLowerCase().includes(words.toLowerCase()), words);
    }
    const types = await problemTypes();
    assert.ok(types.length > 20);
    for (const type of types) assert.equal(await page.locator(`section#${type}`).count(), 1, type);
  });
});

test("accessible in both themes, on a phone, and at 200 %", () => visit({}, async (page) => {
  for (const summary of await page.locator("summary").all()) await summary.click();
  await page.locator("#createOrder").getByRole("button", { name: "Send" }).click();
  await page.locator("#createOrder .exchange", { hasText: "201 Created" }).waitFor();
  await assertAccessible(page);
}));
