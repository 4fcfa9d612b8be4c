// The reference page in Debian's Chromium: no error in the browser's console, no request to another host, every operation and
// type of problem there, a request sent from the page, and the same page without JavaScript. CONSOLE_URL is a service.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const { CHROMIUM, CONSOLE_URL, SCREENSHOTS } = process.env;
const PAGE = `${CONSOLE_URL}/reference/`;

let browser;
before(async () => {
  browser = await chromium.launch({ executablePath: CHROMIUM });
});
after(() => browser.close());

/** Opens the page and runs a flow; fails on errors in the browser's console and on requests to other hosts. */
async function visit(address, options, flow) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const wrong = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) wrong.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => wrong.push(`exception: ${error.message}`));
  page.on("request", (request) => {
    const target = new URL(request.url());
    if (target.protocol !== "data:" && target.origin !== CONSOLE_URL) wrong.push(`another host: ${request.url()}`);
  });
  await page.goto(address);
  if (options.javaScriptEnabled !== false) await page.waitForSelector("html[data-ready]", { state: "attached" });
  await flow(page);
  await context.close();
  assert.deepEqual(wrong, []);
}

async function problemTypes() {
  const document = await (await fetch(`${CONSOLE_URL}/openapi.json`)).json();
  const types = Object.values(document.components.schemas).map((schema) => schema.properties?.type?.const);
  // An event has a type, too.
  return types.filter((type) => type?.startsWith("urn:")).map((type) => type.split(":").at(-1));
}

test("the page shows every operation, and sends requests", async () => {
  await visit(PAGE, {}, async (page) => {
    assert.equal(await page.locator("#renderer .opblock").count(), 19);
    const creation = page.locator("#renderer .opblock-post");
    await creation.locator(".opblock-summary-control").click();
    await creation.getByText("Creates an order exactly once per customer").waitFor();
    await creation.getByRole("button", { name: "Try it out" }).click();
    await creation.getByRole("button", { name: "Execute" }).click();
    await creation.locator(".live-responses-table .response-col_status", { hasText: "201" }).waitFor();
    if (SCREENSHOTS) await page.screenshot({ path: `${SCREENSHOTS}/reference.png`, fullPage: true });
  });
});

test("a problem's Link leads to the entry of its type", async () => {
  const answer = await fetch(`${CONSOLE_URL}/api/v1/orders/none`);
  const { type } = await answer.json();
  const link = answer.headers.get("link").match(/<([^>]*)>; rel="help"/)[1];
  await visit(`${CONSOLE_URL}${link}`, {}, async (page) => {
    const entry = page.locator(":target");
    assert.match(await entry.innerText(), new RegExp(type));
    // A browser scrolls to whole pixels.
    const { y } = await entry.boundingBox();
    assert.ok(y > -1 && y < page.viewportSize().height, `the entry is at ${y}`);
  });
});

test("without JavaScript, the page has the routes, a command, and every type of problem", async () => {
  await visit(PAGE, { javaScriptEnabled: false }, async (page) => {
    const text = await page.locator("main").innerText();
    for (const words of ["/api/v1/orders/{orderId}", "/readyz", "curl -i", "they are in the OpenAPI document"]) {
      assert.ok(text.toLowerCase().includes(words.toLowerCase()), words);
    }
    const types = await problemTypes();
    assert.ok(types.length > 20);
    for (const type of types) assert.equal(await page.locator(`section#${type}`).count(), 1, type);
  });
});

test("what the page adds to Swagger UI is accessible", async () => {
  const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  await visit(PAGE, {}, async (page) => {
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => axe.run({ exclude: ["#renderer"] }));
    assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]), []);
  });
});
