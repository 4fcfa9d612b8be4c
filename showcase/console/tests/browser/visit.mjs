// Visits a page in Debian's Chromium: fails on an error in the browser's console and on a request to another host. CHROMIUM is
// the browser. And axe-core's rules for accessibility.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before } from "node:test";
import { chromium } from "playwright-core";

export const DESKTOP = { width: 1280, height: 1000 };
export const PHONE = { width: 360, height: 740 };

let browser;
let axe;
before(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM });
  axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
});
after(() => browser.close());

/** Opens a page and runs a flow. `ready` is a selector that the page has when its script has run. */
export async function visit(address, { ready, viewport = DESKTOP, colorScheme = "light", ...options }, flow) {
  const { origin } = new URL(address);
  const context = await browser.newContext({ viewport, colorScheme, ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on("console", (message) => {
    // Chromium reports every answer of 400 or more as an error, also those that a flow provokes.
    const isAnswer = message.text().startsWith("Failed to load resource: the server responded with a status of 4")
      && message.location().url.startsWith(`${origin}/api/v1/`);
    if (["error", "warning"].includes(message.type()) && !isAnswer) wrong.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => wrong.push(`exception: ${error.message}`));
  page.on("request", (request) => {
    const target = new URL(request.url());
    if (target.protocol !== "data:" && target.origin !== origin) wrong.push(`another host: ${request.url()}`);
  });
  await page.goto(address);
  if (ready) await page.waitForSelector(ready, { state: "attached" });
  await flow(page);
  await context.close();
  assert.deepEqual(wrong, []);
}

/** Which rules the page violates. axe-core is evaluated by the driver, which the page's policy does not restrict. */
export async function violations(page) {
  await page.evaluate(axe);
  const { violations: found } = await page.evaluate(() => axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  return found.map(({ id, nodes }) => `${id}: ${nodes.map(({ target, failureSummary }) => `${target} ${failureSummary}`).join("; ")}`);
}

/** Asserts that nothing of the page is beyond the window's side. */
export async function assertNotTooWide(page) {
  const [scrollWidth, clientWidth] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(scrollWidth <= clientWidth, `${scrollWidth} px wide in ${clientWidth} px`);
}
