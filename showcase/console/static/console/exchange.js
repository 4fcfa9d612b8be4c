// Shows a request and its answer: status, fields and body.

import { element } from "./dom.js";

/** Fields that tell what the request became. */
const NOTABLE = ["idempotent-replayed", "etag", "location", "retry-after", "allow"];

/** Shows an exchange in place of what the panel had. */
export function show(panel, exchange) {
  panel.replaceChildren(heading("Request"), requestOf(exchange), heading("Answer", `${ms(exchange.latency)} ms`), answerOf(exchange));
}

/** Says what the panel is for while there is no exchange. */
export function showNothing(panel) {
  panel.replaceChildren(element("p", {}, "Nothing has been sent yet. The request and its answer appear here, with status, fields and body."));
}

/** A number of milliseconds, with a decimal if it is small. */
export const ms = (value) => (value < 10 ? value.toFixed(1) : value.toFixed(0));

function heading(text, aside = "") {
  return element("h3", {}, element("span", {}, text), element("span", {}, aside));
}

function requestOf({ request: { method, path, fields, body } }) {
  const secret = ([name, value]) => [name, name === "Authorization" ? "Bearer …" : value];
  return message(`${method} ${path}`, Object.entries(fields).map(secret), body, []);
}

function answerOf({ status, statusText, headers, text, error }) {
  if (status === undefined) return message(`No answer: ${error}`, [], "", []);
  return message(`${status} ${statusText}`.trim(), [...headers.entries()], text, NOTABLE);
}

function message(first, fields, body, notable) {
  const lines = [element("span", { class: "first" }, first)];
  for (const [name, value] of fields) {
    const isNotable = notable.includes(name);
    const shown = isNotable ? [element("span", { class: "notable" }, `${name}: ${value}`)] : [element("span", { class: "name" }, `${name}:`), ` ${value}`];
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
