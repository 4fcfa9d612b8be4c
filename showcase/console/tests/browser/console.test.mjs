// The console in Debian's Chromium: each flow with real requests, no error in the browser's console, no request to
// another host, no violation of axe-core's rules. CONSOLE_URL is a service with identity=none, IDENTITY_URL one with
// identity=header. With SCREENSHOTS, writes pictures there.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { assertAccessible, visit as visitPage } from "./visit.mjs";

const { CONSOLE_URL, IDENTITY_URL, SCREENSHOTS } = process.env;

/** Opens the console and runs a flow. */
const visit = ({ url = CONSOLE_URL, ...options }, flow) =>
  visitPage(`${url}/`, { ready: "html[data-ready]", ...options }, flow);

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
  const note = '"note": "ring <b>twice</b>"';
  for (const part of ["POST /api/v1/orders", "Idempotency-Key: console-", "201 Created", "location: /api/v1/", note]) {
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
  await page.getByRole("button", { name: "Reuse this key for a different order (expect 422)" }).click();
  await saying(page, "#order-verdict", "It differs at /items/0/quantity.");
  const panel = await text(page, "#order-exchange");
  assert.ok(panel.includes("422") && panel.includes("idempotency-key-reused"), panel);
  const marked = page.locator('[aria-invalid="true"]');
  assert.equal(await marked.getAttribute("data-pointer"), "/items/0/quantity");
}));

test("what is not valid is listed and marked", () => visit({}, async (page) => {
  await page.getByLabel("Currency").fill("EURO");
  await page.getByRole("button", { name: "Add an item" }).click();
  await page.getByLabel("Quantity").nth(1).fill("many");
  await place(page, "The order is not valid.");
  const { violations: broken } = JSON.parse((await text(page, "#order-exchange pre >> nth=1")).split("\n\n")[1]);
  assert.deepEqual(broken.map(({ pointer }) => pointer).sort(), ["/currency", "/items/1/quantity", "/items/1/sku"]);
  for (const { pointer, detail } of broken) {
    const marked = page.locator(`[data-pointer="${pointer}"][aria-invalid="true"]`);
    const described = await marked.getAttribute("aria-describedby");
    assert.equal(await text(page, `#${described}`), detail);
  }
  assert.ok(await page.getByLabel("Currency").evaluate((input) => input === document.activeElement));
  assert.equal(await page.locator('[aria-invalid="true"]').count(), 3);
  await page.getByLabel("Currency").fill("EUR");
  await page.getByRole("button", { name: "Remove item 2" }).click();
  await place(page, "Created.");
  assert.equal(await page.locator('[aria-invalid="true"], [aria-describedby^="why"]').count(), 0);
  await page.getByRole("button", { name: "Remove item 1" }).click();
  await place(page, "The order is not valid.");
  await saying(page, "#violations", "/items");
  await page.getByRole("button", { name: "Add an item" }).click();
  await page.getByLabel("Idempotency-Key").fill("");
  await place(page, "400.");
  const described = await page.getByLabel("Idempotency-Key").getAttribute("aria-describedby");
  assert.match(await text(page, `#${described}`), /Idempotency-Key/);
  assert.ok(await page.locator("#violations").isHidden());
}));

test("the stores are named as the server names them, and a lost one without which it works is not down", async () => {
  await visit({}, async (page) => {
    await saying(page, "#readiness[data-state=up]", "ready");
    assert.match(await text(page, "#checks"), /^redis up, [0-9.]+ ms\s+postgres up, [0-9.]+ ms$/);
  });
  await visit({}, async (page) => {
    const checks = { redis: { status: "down", latencyMs: 500 }, postgres: { status: "up", latencyMs: 1 } };
    await page.route("**/readyz", (route) => route.fulfill({ json: { status: "degraded", checks } }));
    // Without a visit anew: the page reads it again.
    await saying(page, "#readiness[data-state=partly]", "degraded");
    await saying(page, "#checks [data-state=partly]", "redis down, 500 ms");
    await saying(page, "#checks [data-state=up]", "postgres up");
  });
});

test("while a response is awaited, a press sends nothing; a retry has its own button", () => visit({}, async (page) => {
  const sent = [];
  let respond;
  await page.route("**/api/v1/orders", async (route) => {
    sent.push(route.request().headers()["idempotency-key"]);
    const response = await route.fetch();
    // The first response is on its way for long; the order exists.
    if (sent.length === 1) await new Promise((resolve) => (respond = resolve));
    await route.fulfill({ response }).catch(() => {});
  });
  const button = page.getByRole("button", { name: "Place order" });
  await button.dblclick();
  await page.locator('#place[aria-busy="true"]').waitFor();
  await page.locator('#order-exchange[aria-busy="true"]').waitFor();
  await saying(page, "#order-verdict", "Waiting for the response");
  await page.getByLabel("Note").press("Enter");
  await page.getByLabel("Note").fill("for the next order");
  assert.equal(sent.length, 1);
  await page.getByRole("button", { name: "Send it again with the same key" }).click();
  await saying(page, "#order-verdict", "Replayed.");
  respond();
  assert.equal(sent.length, 2);
  assert.equal(sent[0], sent[1]);
  assert.ok(await button.evaluate((place) => place === document.activeElement && !place.hasAttribute("aria-busy")));
  await place(page, "Rejected.");
}));

test("a slow list and a slow look-up say that they wait", () => visit({}, async (page) => {
  let respond;
  const responses = new Promise((resolve) => (respond = resolve));
  await page.route(/limit=|idempotency-keys/, async (route) => {
    await responses;
    await route.continue();
  });
  await page.getByRole("button", { name: "Refresh" }).click();
  await page.locator('#refresh[aria-busy="true"]').waitFor();
  await page.getByRole("button", { name: "Look up" }).click();
  await saying(page, "#list-verdict", "Waiting for the response");
  await saying(page, "#state-verdict", "Waiting for the response");
  respond();
  await saying(page, "#state-verdict", "Not known.");
  await page.locator("#refresh:not([aria-busy])").waitFor();
}));

test("an order of the list shows its request and response, and the request is a command", async () => {
  const permissions = ["clipboard-read", "clipboard-write"];
  await visit({ permissions }, async (page) => {
    await page.getByLabel("Note").fill("it's \"quoted\"");
    await place(page, "Created.");
    const [, id] = /"orderId": "([0-9a-f-]{36})"/.exec(await text(page, "#order-exchange"));
    const copied = async (panel) => {
      await page.locator(panel).getByRole("button", { name: "Copy as curl" }).click();
      await saying(page, panel, "Copied");
      const command = await page.evaluate(() => navigator.clipboard.readText());
      return execFileSync("sh", ["-c", command], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    };
    const replay = await copied("#order-exchange");
    assert.ok(replay.includes("idempotent-replayed: true") && replay.includes(id), replay);

    const button = page.getByRole("button", { name: id });
    await button.click();
    await saying(page, "#orders .exchange", `GET /api/v1/orders/${id}`);
    assert.match(await text(page, "#orders .exchange"), /200 OK[^]*x-request-id: \S+[^]*it's/);
    assert.equal(await button.getAttribute("aria-expanded"), "true");
    assert.ok((await copied("#orders .exchange")).includes(id));
    // The list is read again, and the order stays open.
    await page.getByRole("button", { name: "New key" }).click();
    await place(page, "Created.");
    await page.locator("#orders li >> nth=1", { hasText: `GET /api/v1/orders/${id}` }).waitFor();
    await button.click();
    await page.locator("#orders .exchange").waitFor({ state: "detached" });
    assert.equal(await button.getAttribute("aria-expanded"), "false");
  });
});

test("the list begins after a time", () => visit({}, async (page) => {
  await place(page, "Created.");
  await page.getByLabel("Created after").fill("2999-01-01T00:00:00");
  await saying(page, "#list-verdict", "0 orders.");
  await page.locator("#orders li").waitFor({ state: "detached" });
  await page.getByLabel("Created after").fill("2020-01-01T00:00:00");
  await page.locator("#orders li").first().waitFor();
  const request = await page.locator("#list-exchange pre").first().textContent();
  assert.match(request, /createdAfter=20(19|20)-[0-9-]+T[0-9:.]+Z/);
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
  assert.match(await text(page, "#etag-result"), /One order on this state, 39 rejected\./);
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
  for (const id of ["key", "new-key", "currency", "note", "add-item", "place"]) {
    assert.ok(reached.includes(id), `${id} in ${reached}`);
  }
  await page.keyboard.press("Enter");
  await saying(page, "#order-verdict", "Created.");
  await page.waitForFunction(() => document.activeElement.id === "place");
  await page.keyboard.press("Enter");
  await saying(page, "#order-verdict", "Replayed.");
}));

test("a browser without JavaScript gets the reference and a command", async () => {
  await visit({ ready: undefined, javaScriptEnabled: false }, async (page) => {
    // What is rendered, and nothing else.
    const shown = await text(page, "body");
    for (const words of ["This console needs JavaScript", "Idempotency-Key: my-first-order"]) {
      assert.ok(shown.includes(words), shown);
    }
  });
});

test("accessible in both themes, on a phone, and at 200 %", () => visit({}, async (page) => {
  await assertAccessible(page);
  await place(page, "Created.");
  await page.getByRole("button", { name: "Reuse this key for a different order (expect 422)" }).click();
  await saying(page, "#order-verdict", "Rejected.");
  await page.getByRole("button", { name: "Look up" }).click();
  await saying(page, "#state-verdict", "Completed.");
  await raceOneKey(page, 30);
  await raceOneState(page, 30);
  await page.locator("#orders .id").first().click();
  await saying(page, "#orders .exchange", "200 OK");
  for (const summary of await page.locator("summary").all()) await summary.click();
  await assertAccessible(page);
  await page.getByLabel("Currency").fill("");
  await place(page, "The order is not valid.");
  await assertAccessible(page);
}));

test("screenshots", { skip: SCREENSHOTS ? false : "without the variable SCREENSHOTS" }, async () => {
  const shown = async (page, racing) => {
    await place(page, "Created.");
    await place(page, "Replayed.");
    await page.getByRole("button", { name: "Look up" }).click();
    await raceOneKey(page, racing);
    await raceOneState(page, 50);
    await page.evaluate(() => document.activeElement.blur());
  };
  await visit({ reducedMotion: "reduce", viewport: { width: 1280, height: 1720 } }, async (page) => {
    await shown(page, 200);
    await page.screenshot({ path: `${SCREENSHOTS}/console.png` });
  });
  const phone = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2 };
  await visit({ reducedMotion: "reduce", colorScheme: "dark", ...phone }, async (page) => {
    // As many as there is room for, with the result.
    await shown(page, 100);
    await page.locator("#race-title").evaluate((title) => title.closest("section").scrollIntoView());
    await page.screenshot({ path: `${SCREENSHOTS}/console-phone.png` });
  });
});
