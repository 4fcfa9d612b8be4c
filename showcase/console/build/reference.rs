//! The reference page: what can be read without JavaScript comes from the OpenAPI document, routes and types of
//! problems; the rest is drawn from the same document in the browser.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

/// Not shown: what HEAD and OPTIONS do follows from the others.
const METHODS: [&str; 2] = ["post", "get"];

/// Members that every problem has (RFC 9457).
const OF_EVERY_PROBLEM: [&str; 4] = ["type", "title", "status", "detail"];

/// Writes the page into a folder.
pub fn generate(package: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let document: Value = serde_json::from_slice(&fs::read(package.join("static/openapi.json"))?)?;
    let page = fs::read_to_string(package.join("reference.html"))?
        .replace("<!-- routes -->", &routes(&document)?)
        .replace("<!-- problems -->", &problems(&document)?);
    Ok(fs::write(folder.join("index.html"), page)?)
}

/// A row for each operation.
fn routes(document: &Value) -> Result<String> {
    let mut rows = String::new();
    for (path, item) in members(document, "/paths")? {
        for method in METHODS {
            let Some(summary) = text(item, &format!("/{method}/summary")) else {
                continue;
            };
            let (method, path) = (method.to_uppercase(), escaped(path));
            let summary = escaped(summary);
            writeln!(rows, "<tr><td><code>{method}</code><td><code>{path}</code><td>{summary}")?;
        }
    }
    Ok(rows)
}

/// An entry for each type of problem. Its id is the last part of the type: a problem's `Link` leads there.
fn problems(document: &Value) -> Result<String> {
    let mut entries = String::new();
    for schema in members(document, "/components/schemas")?.values() {
        let kind = text(schema, "/properties/type/const");
        // An event has a type, too.
        let Some(kind) = kind.filter(|kind| kind.starts_with("urn:")) else {
            continue;
        };
        // Events have a type as well.
        let Some((_, id)) = kind.rsplit_once(':') else {
            continue;
        };
        let status = schema.pointer("/properties/status/const");
        let status = status.with_context(|| format!("no status of {kind}"))?;
        let description = code(text(schema, "/description").unwrap_or_default());
        writeln!(
            entries,
            "<section id=\"{id}\"><h3><a href=\"#{id}\">{id}</a> <span class=\"status\">{status}</span></h3>\n\
             <p><code>{kind}</code>\n<p>{description}"
        )?;
        for (name, member) in members(schema, "/properties")? {
            if !OF_EVERY_PROBLEM.contains(&name.as_str()) {
                let description = code(text(member, "/description").unwrap_or_default());
                writeln!(entries, "<p>Member <code>{name}</code>: {description}")?;
            }
        }
        entries.push_str("</section>\n");
    }
    Ok(entries)
}

/// The members of the object at a JSON Pointer.
fn members<'v>(value: &'v Value, pointer: &str) -> Result<&'v Map<String, Value>> {
    let object = value.pointer(pointer).and_then(Value::as_object);
    object.with_context(|| format!("no object at {pointer}"))
}

/// The text at a JSON Pointer.
fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer)?.as_str()
}

/// Text with code in backquotes, as HTML.
fn code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts
        .map(|(n, part)| match n % 2 {
            0 => escaped(part),
            _ => format!("<code>{}</code>", escaped(part)),
        })
        .collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
