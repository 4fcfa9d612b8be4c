// Sends many requests at once and draws each as a dot that turns into what became of it; sends the failed ones again.

import { byId, element } from "./dom.js";
import { ms } from "./exchange.js";
import { exclusively } from "./pending.js";
import { isWorthRetrying, outcome } from "./verdict.js";

const WORDS = {
  created: "created",
  replayed: "replayed",
  stale: "list changed",
  locked: "locked",
  failed: "failed",
  unchecked: "could not be checked",
};
const LETTERS = { created: "C", replayed: "R", stale: "S", locked: "L", failed: "!", unchecked: "?" };

/** Reads how many requests are wanted, and puts a number beyond the limits back within them. */
export function readCount(input) {
  const count = Math.min(Math.max(Math.trunc(Number(input.value)) || 1, Number(input.min)), Number(input.max));
  input.value = String(count);
  return count;
}

/**
 * Runs a race of `count` requests; `request(index)` sends one. `name` is what the ids of its parts begin with. Each time
 * that all have ended, shows what `conclude(exchanges, counts)` says, the latencies, and a button that sends the failed
 * ones again.
 */
export async function race(name, path, count, request, conclude) {
  const result = byId(`${name}-result`);
  const drawn = Array.from({ length: count }, () => element("li", { class: "dot" }));
  const exchanges = Array(count);
  const showCounts = () => show(byId(`${name}-legend`), counted(exchanges));
  const run = async (indices) => {
    for (const index of indices) {
      exchanges[index] = undefined;
      draw(drawn[index], "waiting", "waiting");
    }
    showCounts();
    performance.clearResourceTimings();
    performance.setResourceTimingBufferSize(count + 50);
    const start = performance.now();
    await Promise.all(indices.map(async (index) => {
      exchanges[index] = await request(index);
      const kind = outcome(exchanges[index]);
      draw(drawn[index], kind, `${WORDS[kind]}, ${exchanges[index].status ?? "no response"}`);
      showCounts();
    }));
    const took = performance.now() - start;
    const measured = latencies(path, start, indices.map((index) => exchanges[index]));
    const sentence = await conclude(exchanges, counted(exchanges));
    result.replaceChildren(element("p", {}, ...sentence), ...figures(took, measured));
    const failed = [...exchanges.keys()].filter((index) => isWorthRetrying(exchanges[index]));
    if (failed.length === 0) return;
    const words = failed.length === 1 ? "Retry the failed one" : `Retry the failed ones (${failed.length})`;
    const retry = element("button", { type: "button", class: "primary" }, words);
    retry.addEventListener("click", () => exclusively(retry, raceButtons(), () => run(failed)));
    result.append(retry);
  };
  byId(`${name}-dots`).replaceChildren(...drawn);
  result.replaceChildren();
  await run([...exchanges.keys()]);
}

/** One race at a time: two would share the browser's connections and its list of timings. */
export const raceButtons = () => [...document.querySelectorAll("#race-form button, #etag-form button, .result button")];

function counted(exchanges) {
  const counts = { created: 0, replayed: 0, stale: 0, locked: 0, failed: 0, unchecked: 0, waiting: 0 };
  for (const exchange of exchanges) counts[exchange ? outcome(exchange) : "waiting"] += 1;
  return counts;
}

/** Shows the counts that a legend has a place for; every other outcome counts as failed there. */
function show(legend, counts) {
  const places = [...legend.querySelectorAll("[data-count]")];
  const named = places.map(({ dataset }) => dataset.count);
  const others = Object.entries(counts).filter(([kind]) => !named.includes(kind));
  const failed = others.reduce((sum, [, count]) => sum + count, counts.failed);
  for (const place of places) {
    const kind = place.dataset.count;
    place.textContent = String(kind === "failed" ? failed : counts[kind]);
  }
}

function draw(dot, kind, words) {
  dot.dataset.outcome = kind;
  dot.title = words;
  const letter = element("span", { "aria-hidden": "true" }, LETTERS[kind] ?? "");
  dot.replaceChildren(letter, element("span", { class: "unseen" }, words));
}

function latencies(path, start, exchanges) {
  const url = new URL(path, location.href).href;
  const timed = performance.getEntriesByType("resource")
    .filter((entry) => entry.name === url && entry.startTime >= start && entry.requestStart > 0)
    .map((entry) => entry.responseEnd - entry.requestStart);
  const answered = exchanges.filter(({ status }) => status !== undefined);
  const all = timed.length === answered.length ? timed : answered.map(({ latency }) => latency);
  return all.sort((a, b) => a - b);
}

/** The latencies of the requests that got a response. */
function figures(took, sorted) {
  if (sorted.length === 0) return [];
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  const all = [["Minimum", sorted[0]], ["Median", median], ["Maximum", sorted.at(-1)], ["All requests", took]];
  const shown = ([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, `${ms(value)} ms`));
  return [element("dl", {}, ...all.map(shown))];
}
