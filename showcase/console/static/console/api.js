// Sends requests to the API with the customer's identity, and keeps what was sent and what came back.

const TIME_OUT_MS = 30_000;

/** The path of the collection. */
export const ORDERS = "/api/v1/orders";

/** The path of a key's state. */
export const keyPath = (key) => `/api/v1/idempotency-keys/${encodeURIComponent(key)}`;

const at = (id) => document.getElementById(id).value.trim();

/** The headers that identify the customer, as typed in the section "Customer". */
function identity() {
  const headers = {};
  if (at("identity-value") !== "") headers[at("identity-header") || "X-User-Id"] = at("identity-value");
  if (at("token") !== "") headers.Authorization = `Bearer ${at("token")}`;
  return headers;
}

/**
 * Sends one request. Never throws: an exchange without `status` has no response, and `error` says why. `signal` gives
 * the request up. `latency` is in milliseconds and includes the time that the browser holds the request back.
 */
export async function send(method, path, headers = {}, body = undefined, signal = undefined) {
  const request = { method, path, headers: { ...headers, ...identity() }, body };
  const timeOut = AbortSignal.timeout(TIME_OUT_MS);
  const start = performance.now();
  try {
    const response = await fetch(path, {
      method,
      headers: request.headers,
      body,
      cache: "no-store",
      signal: signal ? AbortSignal.any([signal, timeOut]) : timeOut,
    });
    const text = await response.text();
    return {
      request,
      latency: performance.now() - start,
      status: response.status,
      statusText: response.statusText,
      headers: response.headers,
      text,
      json: parsed(text),
    };
  } catch (error) {
    return { request, latency: performance.now() - start, error: error.message };
  }
}

/** Sends a request to create an order. */
export function create(key, body, headers = {}, signal = undefined) {
  const all = { "Content-Type": "application/json", ...headers };
  if (key !== "") all["Idempotency-Key"] = key;
  return send("POST", ORDERS, all, body, signal);
}

/** A key that no other request has. Works without HTTPS, unlike crypto.randomUUID. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `console-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
