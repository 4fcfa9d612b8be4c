// Sends many requests at once and draws each as a dot that turns into what became of it.

import { element } from "./dom.js";
import { ms } from "./exchange.js";
import { outcome } from "./verdict.js";

const WORDS = { created: "created", replayed: "replayed", stale: "list changed", locked: "locked", failed: "failed" };
const LETTERS = { created: "C", replayed: "R", stale: "S", locked: "L", failed: "!" };

/** Reads how many requests are wanted, and puts a number beyond the limits back within them. */
export function readCount(input) {
  const count = Math.min(Math.max(Math.trunc(Number(input.value)) || 1, Number(input.min)), Number(input.max));
  input.value = String(count);
  return count;
}

/**
 * Runs a race of `count` requests; `request(index)` sends one. Draws them in `dots`, and counts them in `legend`. Gives their
 * exchanges, the time that all took, and latencies in milliseconds: a browser sends about six requests to a server at once and
 * holds the others back, so a latency begins when the request is sent.
 */
export async function race(dots, legend, path, count, request) {
  const waiting = () => element("li", { class: "dot", "data-outcome": "waiting" }, element("span", { class: "unseen" }, "waiting"));
  const drawn = Array.from({ length: count }, waiting);
  const counts = { created: 0, replayed: 0, stale: 0, locked: 0, failed: 0, waiting: count };
  dots.replaceChildren(...drawn);
  showCounts(legend, counts);
  performance.clearResourceTimings();
  performance.setResourceTimingBufferSize(count + 50);
  const start = performance.now();
  const exchanges = await Promise.all(drawn.map(async (dot, index) => {
    const exchange = await request(index);
    draw(dot, exchange);
    counts.waiting -= 1;
    counts[outcome(exchange)] += 1;
    showCounts(legend, counts);
    return exchange;
  }));
  const took = performance.now() - start;
  return { exchanges, counts, took, latencies: latencies(path, start, exchanges) };
}

/** Shows the counts that a legend has a place for; every other outcome counts as failed there. */
function showCounts(legend, counts) {
  const places = [...legend.querySelectorAll("[data-count]")];
  const named = places.map(({ dataset }) => dataset.count);
  const others = Object.entries(counts).filter(([kind]) => !named.includes(kind)).reduce((sum, [, count]) => sum + count, 0);
  for (const place of places) {
    const kind = place.dataset.count;
    place.textContent = String(counts[kind] + (kind === "failed" ? others : 0));
  }
}

function draw(dot, exchange) {
  const kind = outcome(exchange);
  dot.dataset.outcome = kind;
  const words = `${WORDS[kind]}, ${exchange.status ?? "no answer"}`;
  dot.title = words;
  dot.replaceChildren(element("span", { "aria-hidden": "true" }, LETTERS[kind]), element("span", { class: "unseen" }, words));
}

function latencies(path, start, exchanges) {
  const url = new URL(path, location.href).href;
  const timed = performance.getEntriesByType("resource")
    .filter((entry) => entry.name === url && entry.startTime >= start && entry.requestStart > 0)
    .map((entry) => entry.responseEnd - entry.requestStart);
  const all = timed.length === exchanges.length ? timed : exchanges.map(({ latency }) => latency);
  return all.sort((a, b) => a - b);
}

/** Shows the outcome of a race: a sentence and the latencies. */
export function showResult(place, sentence, { took, latencies: sorted }) {
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  const figures = [["Minimum", sorted[0]], ["Median", median], ["Maximum", sorted[sorted.length - 1]], ["All answers", took]];
  const shown = ([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, `${ms(value)} ms`));
  place.replaceChildren(element("p", {}, ...sentence), element("dl", {}, ...figures.map(shown)));
}
