// Shows whether the service is ready: in the words and by the names that it uses itself, read again and again.

import { send } from "./api.js";
import { byId, element } from "./dom.js";
import { ms } from "./exchange.js";

const EVERY_MS = 5_000;

/** What a state of the service, or of one of its stores, is drawn as; any other word is neither good nor bad. */
const DRAWN = { ready: "up", up: "up", unavailable: "down", down: "down" };

/** Shows the readiness now, and then for as long as somebody looks at the page. */
export async function follow() {
  if (!document.hidden) await read();
  setTimeout(follow, EVERY_MS);
}

async function read() {
  const { status, json } = await send("GET", "/readyz");
  if (status === undefined) return showState("not reachable", "down", []);
  if (!json?.checks) return showState(`not ready: ${status} ${json?.title ?? ""}`, "down", []);
  // A lost store that the service can do without is not down for its clients.
  const drawn = (word) => (word === "down" && json.status === "degraded" ? "partly" : DRAWN[word] ?? "partly");
  const checks = Object.entries(json.checks).map(([name, { status: word, latencyMs }]) => {
    const latency = latencyMs === undefined ? "" : `, ${ms(latencyMs)} ms`;
    return element("li", { "data-state": drawn(word) }, `${name} ${word}${latency}`);
  });
  return showState(json.status, drawn(json.status), checks);
}

/** The state is announced when it changes, and the latencies never are. */
function showState(words, drawn, checks) {
  const state = byId("readiness");
  if (state.textContent !== words) state.textContent = words;
  state.dataset.state = drawn;
  byId("checks").replaceChildren(...checks);
}
