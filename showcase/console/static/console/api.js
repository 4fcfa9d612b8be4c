// Sends requests to the API with the customer's identity, and keeps what was sent and what came back.

const TIME_OUT_MS = 30_000;

/** The path of the collection. */
export const ORDERS = "/api/v1/orders";

/** The path of a key's state. */
export const keyPath = (key) => `/api/v1/idempotency-keys/${encodeURIComponent(key)}`;

const at = (id) => document.getElementById(id).value.trim();

/** The fields that identify the customer, as typed in the section "Customer". */
function identity() {
  const fields = {};
  if (at("identity-value") !== "") fields[at("identity-field") || "X-User-Id"] = at("identity-value");
  if (at("token") !== "") fields.Authorization = `Bearer ${at("token")}`;
  return fields;
}

/**
 * Sends one request. Never throws: an exchange without `status` has no answer, and `error` says why.
 * `latency` is in milliseconds and includes the time that the browser holds the request back.
 */
export async function send(method, path, fields = {}, body = undefined) {
  const request = { method, path, fields: { ...fields, ...identity() }, body };
  const start = performance.now();
  try {
    const response = await fetch(path, {
      method,
      headers: request.fields,
      body,
      cache: "no-store",
      signal: AbortSignal.timeout(TIME_OUT_MS),
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
export function create(key, body, fields = {}) {
  const all = { "Content-Type": "application/json", ...fields };
  if (key !== "") all["Idempotency-Key"] = key;
  return send("POST", ORDERS, all, body);
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
