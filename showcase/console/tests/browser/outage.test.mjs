// The console in front of a host on the embedded store, which is killed and started again.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { HOST_URL, end, kill, pause, start } from "./host.mjs";
import { assertAccessible, visit as visitPage } from "./visit.mjs";

before(start);
after(end);

const visit = (flow) => visitPage(`${HOST_URL}/`, { ready: "html[data-ready]", mayLose: true }, flow);

const text = (page, selector) => page.locator(selector).innerText();
const saying = (page, selector, words) => page.locator(selector, { hasText: words }).waitFor();
const press = (page, name) => page.getByRole("button", { name }).click();

test("on the embedded store, the console names SQLite and no other store", () => visit(async (page) => {
  await saying(page, "#readiness[data-state=up]", "ready");
  assert.match(await text(page, "#checks"), /^sqlite up, [0-9.]+ ms$/);
}));

test("a race whose host is killed claims nothing, and its retry ends with one order", () => visit(async (page) => {
  // Most requests are held until some have responses: otherwise the race is over before this program hears of it.
  let sent = 0;
  let release;
  const released = new Promise((resolve) => (release = resolve));
  await page.route("**/api/v1/orders", async (route) => {
    sent += 1;
    if (sent > 40) await released;
    await route.continue();
  });
  await page.locator("#race-count").fill("100");
  await press(page, "Start the race");
  await page.locator("#race-dots li:not([data-outcome=waiting]) >> nth=19").waitFor();
  // Requests are with the host when it is killed: it hangs before.
  pause();
  release();
  await page.waitForTimeout(200);
  kill();
  await saying(page, "#race-result", "could not be checked");
  const dots = (outcome) => page.locator(`#race-dots [data-outcome="${outcome}"]`).count();
  const lost = await dots("unchecked");
  assert.ok(lost > 0 && lost < 100 && await dots("waiting") === 0, `${lost} of 100 lost`);
  const result = await text(page, "#race-result");
  const sentence = `${lost} could not be checked. The state of the key could not be checked. No response: `;
  assert.ok(result.includes(sentence), result);
  assert.doesNotMatch(result, /not known/);
  const labels = await page.locator("#race-dots .unseen").allTextContents();
  assert.equal(labels.filter((label) => label === "could not be checked, no response").length, lost);

  await assertAccessible(page);

  await start();
  await press(page, "Retry the failed ones");
  await saying(page, "#race-result", "One order: ");
  assert.equal(await dots("created") + await dots("replayed"), 100);
  assert.equal(await page.getByRole("button", { name: "Retry" }).count(), 0);
  const [, id] = /have the order ([0-9a-f-]{36})/.exec(await text(page, "#race-result"));
  await saying(page, "#orders .id", id);
  assert.equal(await page.locator("#orders .id").count(), 1);
}));

test("a host that is gone is not reachable, and the list stays", () => visit(async (page) => {
  await press(page, "Place order");
  await saying(page, "#order-verdict", "Created.");
  const id = /"orderId": "([0-9a-f-]{36})"/.exec(await text(page, "#order-exchange"))[1];
  await saying(page, "#orders .id", id);
  kill();
  await saying(page, "#readiness[data-state=down]", "not reachable");

  await press(page, "Refresh");
  await saying(page, "#stale", "Stale: this list was read at ");
  await saying(page, "#orders .id", id);
  await press(page, "Look up");
  await saying(page, "#state-verdict", "No response.");
  for (const verdict of ["#list-verdict", "#state-verdict"]) assert.doesNotMatch(await text(page, verdict), /key/);
  await press(page, "New key");
  await press(page, "Place order");
  await saying(page, "#order-verdict", "Send the same request with the same key again");
  await assertAccessible(page);

  await start();
  await press(page, "Place order");
  await saying(page, "#order-verdict", "Created.");
  await page.locator("#stale").waitFor({ state: "hidden" });
  await saying(page, "#readiness[data-state=up]", "ready");
}));
