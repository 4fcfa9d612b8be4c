// Shows that a response is awaited. A press meanwhile sends nothing by accident; a retry has a button of its own.

import { say } from "./verdict.js";

/** How long a response may take before the page says that it waits. */
const SLOW_MS = 1_000;

/**
 * Runs an action while its buttons are busy. The pressed one is not disabled: that would take the focus from it, and
 * the reader's place.
 */
export async function exclusively(pressed, buttons, action) {
  if (pressed.getAttribute("aria-busy") === "true") return;
  const others = buttons.filter((button) => button !== pressed && !button.disabled);
  pressed.setAttribute("aria-busy", "true");
  pressed.setAttribute("aria-disabled", "true");
  for (const button of others) button.disabled = true;
  try {
    await action();
  } finally {
    pressed.removeAttribute("aria-busy");
    pressed.removeAttribute("aria-disabled");
    for (const button of others) button.disabled = false;
    // A button that was pressed meanwhile, and is hidden now, had the focus.
    if (document.activeElement === document.body) pressed.focus({ preventScroll: true });
  }
}

/** How many responses a region awaits. */
const awaited = new WeakMap();

function count(region, change) {
  awaited.set(region, (awaited.get(region) ?? 0) + change);
  region.setAttribute("aria-busy", awaited.get(region) > 0);
}

/**
 * Marks a region as busy until the response to `send(signal)` is there, and says so at `place` when it takes long. With
 * a button `again`, the wait may then be given up, as an impatient client would, and the same request is sent again.
 */
export async function awaiting(region, place, send, again = undefined) {
  count(region, 1);
  try {
    for (;;) {
      const attempt = new AbortController();
      const timer = setTimeout(() => {
        const rest = again ? "You may send the same request with the same key again: there will be one order." : "";
        say(place, "waiting", "Waiting for the response …", rest);
        if (again) {
          again.hidden = false;
          again.onclick = () => attempt.abort();
        }
      }, SLOW_MS);
      const exchange = await send(attempt.signal);
      clearTimeout(timer);
      if (again) again.hidden = true;
      if (!attempt.signal.aborted) return exchange;
    }
  } finally {
    count(region, -1);
  }
}
