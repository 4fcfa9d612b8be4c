//! The problems in the document and in the API page are those of the code's table.

use std::collections::{BTreeMap, BTreeSet};

use exactly_once_http::{PROBLEMS, Problem};
use orders::ORDERS;
use regex::Regex;
use serde_json::{Map, json};

use crate::document::DOCUMENT;

/// A row of the table for orders: its title, and a pattern of what the caller can do.
type Row = (String, String);

/// A type of problem: its name, its status, the header that it may have, and its rows.
struct Kind {
    name: String,
    status: u16,
    field: &'static str,
    rows: Vec<Row>,
}

impl Kind {
    /// The names of its examples.
    fn examples(&self) -> impl Iterator<Item = String> {
        (1..=self.rows.len()).map(|n| if n == 1 { self.name.clone() } else { format!("{}-{n}", self.name) })
    }
}

/// The types of problems of this API by the name of their schema. Only an example of this repository refuses as a
/// gateway, and only others fetch keys.
fn kinds() -> BTreeMap<String, Kind> {
    let collection = ORDERS.collection;
    let text = |template: &str| {
        let text = template.replace("{name}", collection.name).replace("{one}", collection.one);
        text.replace("{path}", collection.path)
    };
    let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
    let others = [Problem::Forbidden.row(), Problem::KeysUnavailable.row()];
    for row in PROBLEMS.iter().filter(|row| !others.contains(row)) {
        let (name, status, field) = (text(row.kind), row.status.as_u16(), row.field);
        let word = |word: &str| word[..1].to_uppercase() + &word[1..];
        let schema = name.split('-').map(word).collect::<String>() + "Problem";
        let kind = kinds.entry(schema).or_insert(Kind { name, status, field, rows: Vec::new() });
        assert_eq!(kind.status, status, "{}", kind.name);
        let detail = regex::escape(&text(row.detail)).replace(r"\{value\}", ".+");
        kind.rows.push((text(row.title), format!("^{detail}$")));
    }
    kinds
}

#[test]
fn the_examples_in_the_document_are_the_problems() {
    let documented = DOCUMENT.at("/components/examples").unwrap().as_object().unwrap();
    let mut count = 0;
    for (schema, kind) in kinds() {
        let mut left = kind.rows.clone();
        for name in kind.examples() {
            let (summary, body) = (&documented[&name]["summary"], &documented[&name]["value"]);
            assert_eq!(body["type"], format!("urn:problem-type:orders:{}", kind.name));
            assert_eq!((&body["status"], summary), (&kind.status.into(), &body["title"]), "{name}");
            let is_row = |(title, detail): &Row| {
                body["title"] == **title && Regex::new(detail).unwrap().is_match(body["detail"].as_str().unwrap())
            };
            let row = left.iter().position(is_row);
            left.remove(row.unwrap_or_else(|| panic!("{name} must be one of {left:?}")));
            let violations = DOCUMENT.violations(&format!("/components/schemas/{schema}"), body);
            assert_eq!(violations.unwrap(), [""; 0], "{name}");
            count += 1;
        }
    }
    assert_eq!(documented.len(), count);
}

#[test]
fn every_type_has_its_schema_and_no_schema_is_left_over() {
    let schemas = DOCUMENT.at("/components/schemas").unwrap().as_object().unwrap();
    let documented: BTreeSet<&String> = schemas.keys().filter(|name| name.ends_with("Problem")).collect();
    let kinds = kinds();
    assert_eq!(documented, kinds.keys().collect());
    for (schema, kind) in &kinds {
        let members = &schemas[schema]["properties"];
        assert_eq!(members["type"]["const"], format!("urn:problem-type:orders:{}", kind.name));
        assert_eq!(members["status"]["const"], kind.status, "{schema}");
        let title = &members["title"];
        let titles = title["enum"].as_array().cloned().unwrap_or_else(|| vec![title["const"].clone()]);
        let titles: BTreeSet<_> = titles.iter().map(|title| title.as_str().unwrap()).collect();
        assert_eq!(titles, kind.rows.iter().map(|(title, _)| &**title).collect(), "{schema}");
    }
}

#[test]
fn every_type_is_at_an_operation_under_its_status_with_its_header_and_examples() {
    let kinds = kinds();
    let mut left: BTreeSet<&String> = kinds.keys().collect();
    for (_, _, operation) in DOCUMENT.operations() {
        let responses = DOCUMENT.at(&format!("{operation}/responses")).unwrap();
        for status in responses.as_object().unwrap().keys() {
            let at = format!("{operation}/responses/{status}");
            let response = DOCUMENT.at(&at).unwrap();
            let content = &response["content"]["application/problem+json"];
            let fields = response["headers"].to_string().to_lowercase();
            let mut examples = Map::new();
            for (schema, kind) in &kinds {
                if content.to_string().contains(&format!("/schemas/{schema}\"")) {
                    left.remove(schema);
                    assert_eq!(kind.status.to_string(), *status, "{at}: {schema}");
                    let has_field = kind.field.is_empty() || fields.contains(&format!("\"{}\":", kind.field));
                    assert!(has_field, "{at}: no {} for {schema}", kind.field);
                    let reference = |name: &String| json!({"$ref": format!("#/components/examples/{name}")});
                    examples.extend(kind.examples().map(|name| (name.clone(), reference(&name))));
                }
            }
            assert_eq!(content["examples"].as_object().cloned().unwrap_or_default(), examples, "{at}");
        }
    }
    assert!(left.is_empty(), "no operation has {left:?}");
}

#[test]
fn the_table_in_the_api_page_has_every_type() {
    let page = include_str!("../../docs/api.md");
    let (_, table) = page.split_once("## Problems").unwrap();
    let mut rows = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        rows.extend(cells[1].split(", ").map(|kind| format!("{kind} {}", cells[2])));
    }
    let of_code = kinds().into_values().map(|kind| format!("`{}` {}", kind.name, kind.status));
    assert_eq!(rows, of_code.collect());
}
