// Shows a request and its response: status, headers and body.

import { element } from "./dom.js";

/** Headers that tell what the request became. */
const NOTABLE = ["idempotent-replayed", "etag", "location", "retry-after", "allow", "x-request-id"];

/** Shows an exchange instead of what the panel had. */
export function show(panel, exchange) {
  const request = requestOf(exchange);
  panel.replaceChildren(
    heading("Request", copying(exchange.request, request)),
    request,
    heading("Response", `${ms(exchange.latency)} ms`),
    responseOf(exchange),
  );
}

/** Says what the panel is for while there is no exchange. */
export function showNothing(panel) {
  const words = "Nothing has been sent yet. The request and its response appear here, with status, headers and body.";
  panel.replaceChildren(element("p", {}, words));
}

/** A number of milliseconds, with a decimal if it is small. */
export const ms = (value) => (value < 10 ? value.toFixed(1) : value.toFixed(0));

/** The request as a command. A token is left out: commands are passed on, and tokens are not for others. */
export function curl({ method, path, headers, body }) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const header = ([name, value]) =>
    name === "Authorization" ? `-H "Authorization: Bearer $TOKEN"` : `-H ${quoted(`${name}: ${value}`)}`;
  const parts = [`curl -i ${quoted(new URL(path, location.href).href)}`, ...Object.entries(headers).map(header)];
  if (method !== "GET") parts.push(`-X ${method}`);
  if (body) parts.push(`--data-raw ${quoted(body)}`);
  return parts.join(" \\\n  ");
}

/** A button that copies the request as a command; without a clipboard (there is none over plain HTTP) it shows it. */
function copying(request, shown) {
  const button = element("button", { type: "button", class: "quiet" }, "Copy as curl");
  button.addEventListener("click", async () => {
    const command = curl(request);
    try {
      await navigator.clipboard.writeText(command);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy as curl"), 2_000);
    } catch {
      shown.textContent = command;
      getSelection().selectAllChildren(shown);
    }
  });
  return button;
}

function heading(text, aside) {
  return element("div", { class: "heading" }, element("h3", {}, text), aside);
}

function requestOf({ request: { method, path, headers, body } }) {
  const secret = ([name, value]) => [name, name === "Authorization" ? "Bearer …" : value];
  return message(`${method} ${path}`, Object.entries(headers).map(secret), body, []);
}

function responseOf({ status, statusText, headers, text, error }) {
  if (status === undefined) return message(`No response: ${error}`, [], "", []);
  return message(`${status} ${statusText}`.trim(), [...headers.entries()], text, NOTABLE);
}

function message(first, headers, body, notable) {
  const lines = [element("span", { class: "first" }, first)];
  for (const [name, value] of headers) {
    const isNotable = notable.includes(name);
    const shown = isNotable
      ? [element("span", { class: "notable" }, `${name}: ${value}`)]
      : [element("span", { class: "name" }, `${name}:`), ` ${value}`];
    lines.push("\n", ...shown);
  }
  if (body) lines.push(`\n\n${indented(body)}`);
  return element("pre", {}, ...lines);
}

/**
 * JSON with line breaks and indentation. Works on the text, because parsing it would change numbers beyond 2^53.
 */
export function indented(json) {
  try {
    JSON.parse(json);
  } catch {
    return json;
  }
  const tokens = json.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g);
  let depth = 0;
  let text = "";
  const line = () => `\n${"  ".repeat(depth)}`;
  tokens.forEach((token, index) => {
    if (token === "{" || token === "[") {
      depth += 1;
      const isEmpty = "}]".includes(tokens[index + 1]);
      text += token + (isEmpty ? "" : line());
    } else if (token === "}" || token === "]") {
      depth -= 1;
      const isEmpty = "{[".includes(tokens[index - 1]);
      text += (isEmpty ? "" : line()) + token;
    } else {
      text += token === "," ? token + line() : token === ":" ? ": " : token;
    }
  });
  return text;
}
