// Visits a page in Debian's Chromium: fails on an error in the browser's console and on a request to another host.
// CHROMIUM is the browser. And axe-core's rules for accessibility.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before } from "node:test";
import { chromium } from "playwright-core";

const DESKTOP = { width: 1280, height: 1000 };
const PHONE = { width: 320, height: 740 };
/** What a desktop's window is for a page at 200 %. */
const ZOOMED = { width: 640, height: 500 };

const TIME_OUT_MS = 15_000;

let browser;
let axe;
before(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM });
  axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
});
after(() => browser.close());

/**
 * Opens a page and runs a flow. `ready` is a selector that the page has when its script has run. In a flow that loses
 * the server, `mayLose` allows what the browser says about that.
 */
export async function visit(address, { ready, mayLose = false, ...options }, flow) {
  const { origin } = new URL(address);
  const context = await browser.newContext({ viewport: DESKTOP, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(TIME_OUT_MS);
  const wrong = [];
  page.on("console", (message) => {
    // Chromium reports every status of 400 or more as an error, also those that a flow provokes.
    const isProvoked = message.text().startsWith("Failed to load resource: the server responded with a status of 4")
      && message.location().url.startsWith(`${origin}/api/v1/`);
    const isLoss = mayLose && message.text().startsWith("Failed to load resource: net::ERR_");
    const isWrong = ["error", "warning"].includes(message.type()) && !isProvoked && !isLoss;
    if (isWrong) wrong.push(`console: ${message.text()}`);
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

/** Asserts that the page as it is now violates no rule and fits into the window, in both themes and windows of each size. */
export async function assertAccessible(page) {
  // The driver evaluates axe-core, which the page's policy does not restrict.
  await page.evaluate(axe);
  for (const colorScheme of ["light", "dark"]) {
    for (const viewport of [PHONE, ZOOMED, DESKTOP]) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.setViewportSize(viewport);
      const where = `${colorScheme}, ${viewport.width} px`;
      assert.deepEqual(await violations(page), [], where);
      const { width, background } = await page.evaluate(() => ({
        width: document.documentElement.scrollWidth,
        background: getComputedStyle(document.body).backgroundColor,
      }));
      assert.ok(width <= viewport.width, `${where}: the page has ${width} px`);
      assert.equal(background.match(/\d+/)[0] < 128, colorScheme === "dark", background);
    }
  }
}

async function violations(page) {
  const runOnly = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
  const options = { runOnly, resultTypes: ["violations"] };
  const { violations: found } = await page.evaluate((options) => axe.run(document, options), options);
  const of = ({ target, failureSummary }) => `${target} ${failureSummary}`;
  return found.map(({ id, nodes }) => `${id}: ${nodes.map(of).join("; ")}`);
}
