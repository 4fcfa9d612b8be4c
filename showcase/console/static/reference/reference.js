// Shows the operations of the OpenAPI document, each with a form that sends it to the server that the page is from.

import { newKey, send } from "../console/api.js";
import { byId, element } from "../console/dom.js";
import { indented, show } from "../console/exchange.js";
import { awaiting, exclusively } from "../console/pending.js";

/** Not shown: what HEAD and OPTIONS do follows from the others. */
const METHODS = ["post", "get"];

/** How many values of an enumeration are shown. */
const MAX_VALUES = 8;

const api = await (await fetch("../openapi.json")).json();

/** What a `$ref` refers to, or the value itself. */
function resolved(value) {
  const names = value?.$ref?.slice(2).split("/");
  return names ? resolved(names.reduce((at, name) => at[name], api)) : value;
}

/** Text with code in backquotes. */
function prose(text = "") {
  return text.split("`").map((part, index) => (index % 2 === 1 ? element("code", {}, part) : part));
}

const code = (text) => element("code", {}, text);

/** What values a schema allows, in a few words. */
function kind(schema) {
  const { const: constant, enum: values, type, format, items } = schema;
  if (constant !== undefined) return JSON.stringify(constant);
  if (values) {
    const more = values.length > MAX_VALUES ? `, … (${values.length} values)` : "";
    return values.slice(0, MAX_VALUES).map((value) => JSON.stringify(value)).join(", ") + more;
  }
  const any = schema.oneOf ?? schema.anyOf;
  if (any) return any.map((one) => kind(resolved(one))).join(" or ");
  const unit = (name) => (name.endsWith("Length") ? " characters" : name.endsWith("Items") ? " items" : "");
  // A bound of 64 bits is no number of JavaScript; the format says it.
  const bounds = Object.entries(schema)
    .filter(([name, bound]) => /^(min|max)/.test(name) && Number.isSafeInteger(bound))
    .map(([name, bound]) => `${name.startsWith("min") ? "≥" : "≤"} ${bound.toLocaleString("en")}${unit(name)}`);
  const base = [type ?? "object"].flat().join(" or ") + (items ? ` of ${kind(resolved(items))}` : "");
  return [format ? `${base} (${format})` : base, ...bounds].join(", ");
}

/** The properties of a schema, and theirs. */
function properties(schema) {
  const { properties: own, required = [], items } = schema;
  if (items) return properties(resolved(items));
  const alternatives = schema.oneOf ?? schema.anyOf;
  if (alternatives) return alternatives.flatMap((one) => properties(resolved(one))).slice(0, 1);
  if (!own) return [];
  return [element("ul", { class: "properties" }, ...Object.entries(own).map(([name, reference]) => {
    const property = resolved(reference);
    const needed = required.includes(name) ? ", required" : "";
    const type = element("span", { class: "hint" }, ` ${kind(property)}${needed}`);
    return element("li", {}, code(name), type, " ", ...prose(property.description), ...properties(property));
  }))];
}

/** An input for a parameter. A key is new each time; what is optional is empty. */
function input({ name, in: place, required, description, schema }, id) {
  const value = name === "Idempotency-Key" ? newKey() : "";
  const about = `${place}${required ? ", required" : ""}, ${kind(resolved(schema))}`;
  return element("div", { class: "field" },
    element("label", { for: id }, name, " ", element("span", { class: "hint" }, about)),
    element("input", {
      id, class: "code", value, "data-name": name, "data-in": place, "aria-describedby": `${id}-about`,
      autocomplete: "off", spellcheck: "false",
    }),
    element("p", { id: `${id}-about`, class: "hint" }, ...prose(description)),
  );
}

/** The values of a form's parameters at a place. */
function values(form, place) {
  const inputs = [...form.querySelectorAll(`[data-in="${place}"]`)];
  const filled = inputs.filter(({ value }) => value !== "");
  return Object.fromEntries(filled.map(({ dataset, value }) => [dataset.name, value]));
}

/** The form that sends an operation, and where its exchange is shown. */
function trying(method, path, parameters, body) {
  const id = `${method}${path}`;
  const content = body?.content["application/json"];
  const form = element("form", { novalidate: "" }, ...parameters.map((one, index) => input(one, `${id}-${index}`)));
  if (content) {
    const examples = Object.values(content.examples).map(({ value }) => JSON.stringify(value));
    form.append(
      element("div", { class: "field" },
        element("label", { for: `${id}-body` }, "Body ", element("span", { class: "hint" }, "application/json")),
        element("textarea", { id: `${id}-body`, class: "code", rows: 12, spellcheck: "false" }, indented(examples[0])),
      ),
      ...properties(resolved(content.schema)),
    );
  }
  const verdict = element("p", { class: "verdict", role: "status" });
  const panel = element("div", { class: "exchange" });
  const again = element("button", { type: "button", hidden: "" }, "Send it again with the same key");
  form.append(element("div", { class: "actions" }, element("button", { class: "primary" }, "Send"), again), verdict);
  let last;
  const request = async () => {
    const exchange = await awaiting(panel, verdict, (signal) => send(...last, signal));
    verdict.replaceChildren();
    show(panel, exchange);
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const inPath = values(form, "path");
    const target = path.replace(/{(\w+)}/g, (_, name) => encodeURIComponent(inPath[name] ?? ""));
    const query = new URLSearchParams(values(form, "query")).toString();
    const headers = { ...(content ? { "Content-Type": "application/json" } : {}), ...values(form, "header") };
    const text = form.querySelector("textarea")?.value;
    last = [method.toUpperCase(), query ? `${target}?${query}` : target, headers, text];
    exclusively(event.submitter, [again], request);
    const key = form.querySelector('[data-name="Idempotency-Key"]');
    if (!key) return;
    again.hidden = key.value === "";
    key.value = newKey();
  });
  again.addEventListener("click", () => exclusively(again, [...form.querySelectorAll("button")], request));
  return [form, panel];
}

function response([status, reference]) {
  const { description, content = {} } = resolved(reference);
  const [schema] = Object.values(content).map((one) => resolved(one.schema));
  const problems = (schema?.oneOf ?? (schema ? [schema] : []))
    .map((one) => resolved(one).properties?.type?.const?.split(":").at(-1))
    .filter((type) => type && byId(type));
  const links = problems.flatMap((type) => [" ", element("a", { href: `#${type}` }, type)]);
  const shown = schema && problems.length === 0 ? properties(schema) : [];
  return [element("dt", {}, code(status)), element("dd", {}, ...prose(description), ...links, ...shown)];
}

function operation(path, method) {
  const { operationId, summary, description, parameters = [], requestBody, responses } = api.paths[path][method];
  const badge = element("span", { class: "method", "data-method": method }, method.toUpperCase());
  return element("details", { class: "operation", id: operationId },
    element("summary", {}, badge, " ", code(path), ` ${summary}`),
    element("p", {}, ...prose(description)),
    element("h4", {}, "Try it"),
    ...trying(method, path, parameters.map(resolved), resolved(requestBody)),
    element("h4", {}, "Responses"),
    element("dl", {}, ...Object.entries(responses).flatMap(response)),
  );
}

function group({ name, description }) {
  const all = Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]?.tags.includes(name)).map((method) => operation(path, method)));
  return element("section", {}, element("h3", {}, name), element("p", {}, ...prose(description)), ...all);
}

for (const place of document.querySelectorAll(".origin")) place.textContent = location.origin;
byId("renderer").append(...api.tags.map(group));
// The entry that the address names has moved down.
document.getElementById(location.hash.slice(1))?.scrollIntoView();
document.documentElement.dataset.ready = "true";
