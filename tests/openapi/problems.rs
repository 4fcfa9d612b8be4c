//! The problems in the document and in the API page are those of the code's table.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use exactly_once::key::KeyError;
use exactly_once::{ListState, ResourceId, Violation};
use exactly_once_http::identity::Unidentified;
use exactly_once_http::{MAX_BODY_BYTES, PROBLEMS, Problem, QueryError};
use orders::ORDERS;
use serde_json::{Map, Value, json};

use crate::document::orders_document;

/// One of every row.
fn every() -> Vec<Problem> {
    let current = ListState::parse("52e44b94ab36d2c4c5232665e6f4b664").unwrap();
    let invalid = json!({
        "currency": "EUR", "items": [{"sku": "A-1", "quantity": 0, "unitPrice": 1250}], "gift": true
    });
    let id = ResourceId::parse("01a200a8-c63f-7136-bf4f-05cf9d2ee2a7").unwrap();
    let (name, rule) = ("wait", "must be a number of seconds from 0 to 20");
    vec![
        Problem::Unidentified(Unidentified::NotNamed),
        Problem::Unidentified(Unidentified::NoToken),
        Problem::Unidentified(Unidentified::InvalidToken),
        Problem::Unidentified(Unidentified::KeyNotNamed),
        Problem::Unidentified(Unidentified::ExpiredToken),
        Problem::Forbidden,
        Problem::Key(KeyError::Missing),
        Problem::Key(KeyError::Malformed),
        Problem::Key(KeyError::Ambiguous),
        Problem::UnsupportedMediaType("application/json"),
        Problem::UnsupportedContentCoding,
        Problem::BodyTooLarge(MAX_BODY_BYTES),
        Problem::BodyTruncated,
        Problem::BodyTimedOut,
        Problem::NotJson(exactly_once::json::parse(b"{\"currency\": \"EUR\"").unwrap_err()),
        Problem::Invalid(ORDERS.validate(&invalid).unwrap_err()),
        Problem::KeyReused { id, differs: vec!["/items/0/quantity".to_owned()] },
        Problem::PreconditionRequired,
        Problem::Changed { etag: None },
        Problem::ListExists,
        Problem::UnsupportedCondition,
        Problem::MalformedCondition,
        Problem::PreconditionFailed { current },
        Problem::CollectionLocked { remaining: Duration::from_secs(5) },
        Problem::Query(QueryError::Unknown),
        Problem::Query(QueryError::Repeated),
        Problem::Query(QueryError::Limit),
        Problem::Query(QueryError::Cursor),
        Problem::Query(QueryError::Parameter { name, rule }),
        Problem::UnknownPath,
        Problem::NotFound,
        Problem::KeyNotFound,
        Problem::MethodNotAllowed { allow: "GET, HEAD, POST" },
        Problem::Unreadable,
        Problem::DatabaseUnavailable,
        Problem::ValueRejected,
        Problem::CreationUndecided,
        Problem::UndecidedWithoutKey,
        Problem::Misconfigured,
        Problem::WrongVariables(vec!["redis_url", "database_url"]),
        Problem::FeedOff,
        Problem::CursorOfAnotherHistory { feed: "/api/v1/events".to_owned() },
    ]
}

#[test]
fn there_is_one_of_every_row() {
    let rows: Vec<_> = every().iter().map(Problem::row).collect();
    let missing: Vec<_> = PROBLEMS.iter().filter(|row| !rows.contains(row)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A type of problem: its name, the header that it may have, and the bodies.
type Kind = (String, &'static str, Vec<Value>);

/// The types of problems of this API by the name of their schema. Only an example of this repository refuses as a
/// gateway.
fn kinds() -> BTreeMap<String, Kind> {
    let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
    for problem in every().into_iter().filter(|problem| *problem != Problem::Forbidden) {
        let field = problem.row().field;
        let response = problem.into_response_of(&ORDERS);
        let body: Value = serde_json::from_str(&response.body).unwrap();
        let kind = body["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
        let (_, link) = response.headers.iter().rfind(|(name, _)| *name == "link").unwrap();
        assert!(link.ends_with(&format!("</reference/#{kind}>; rel=\"help\"")));
        assert_eq!(body["status"], response.status.as_u16());
        let word = |word: &str| word[..1].to_uppercase() + &word[1..];
        let schema = kind.split('-').map(word).collect::<String>() + "Problem";
        let (_, _, bodies) = kinds.entry(schema).or_insert((kind, field, Vec::new()));
        bodies.push(body);
    }
    kinds
}

/// The names of a type's examples.
fn names((kind, _, bodies): &Kind) -> impl Iterator<Item = String> {
    (1..=bodies.len()).map(move |n| if n == 1 { kind.clone() } else { format!("{kind}-{n}") })
}

#[test]
fn the_examples_in_the_document_are_the_problems() {
    let mut examples = Map::new();
    for kind in kinds().values() {
        let of = |(name, body): (_, &Value)| (name, json!({"summary": body["title"], "value": body}));
        examples.extend(names(kind).zip(&kind.2).map(of));
    }
    let documented = orders_document().at("/components/examples").unwrap();
    let wrong = examples.iter().filter(|(name, example)| documented.get(name) != Some(example));
    let wrong: Map<_, _> = wrong.map(|(name, example)| (name.clone(), example.clone())).collect();
    assert!(wrong.is_empty(), "these must be: {:#}", Value::Object(wrong));
    assert_eq!(documented.as_object().unwrap().len(), examples.len());
}

#[test]
fn every_type_has_its_schema_and_no_schema_is_left_over() {
    let schemas = orders_document().at("/components/schemas").unwrap().as_object().unwrap();
    let documented: BTreeSet<&String> = schemas.keys().filter(|name| name.ends_with("Problem")).collect();
    let kinds = kinds();
    assert_eq!(documented, kinds.keys().collect());
    for (name, (kind, _, bodies)) in &kinds {
        let members = schemas[name]["properties"].as_object().unwrap();
        let violation = Violation::new("/x", "is required");
        let many = Problem::Invalid(vec![violation; 60]).into_response_of(&ORDERS);
        let many: Value = serde_json::from_str(&many.body).unwrap();
        for body in bodies.iter().chain((kind == "invalid-order").then_some(&many)) {
            let violations = orders_document().violations(&format!("/components/schemas/{name}"), body);
            assert_eq!(violations.unwrap(), [""; 0], "{name}");
            assert!(body.as_object().unwrap().keys().all(|member| members.contains_key(member)), "{name}");
        }
        for (member, is) in [("type", &bodies[0]["type"]), ("status", &bodies[0]["status"])] {
            assert_eq!(members[member]["const"], *is, "{name}");
        }
        let titles: BTreeSet<_> = bodies.iter().map(|body| body["title"].to_string()).collect();
        let title = &members["title"];
        let documented = title["enum"].as_array().cloned().unwrap_or_else(|| vec![title["const"].clone()]);
        assert_eq!(documented.iter().map(Value::to_string).collect::<BTreeSet<_>>(), titles, "{name}");
    }
}

#[test]
fn every_type_is_at_an_operation_under_its_status_with_its_header_and_examples() {
    let (document, kinds) = (orders_document(), kinds());
    let mut left: BTreeSet<&String> = kinds.keys().collect();
    for (_, _, operation) in document.operations() {
        let responses = document.at(&format!("{operation}/responses")).unwrap();
        for status in responses.as_object().unwrap().keys() {
            let at = format!("{operation}/responses/{status}");
            let response = document.at(&at).unwrap();
            let content = response["content"]["application/problem+json"].to_string();
            let there = kinds.iter().filter(|(name, _)| content.contains(&format!("/schemas/{name}\"")));
            let there: Vec<_> = there.collect();
            let fields = response["headers"].as_object().into_iter().flatten();
            let fields: Vec<_> = fields.map(|(name, _)| name.to_lowercase()).collect();
            let has = |field: &str| field.is_empty() || fields.iter().any(|name| name == field);
            let mut examples = BTreeSet::new();
            for (name, kind) in &there {
                left.remove(name);
                assert_eq!(kind.2[0]["status"].to_string(), *status, "{at}: {name}");
                assert!(has(kind.1), "{at}: no {} for {name}", kind.1);
                examples.extend(names(kind));
            }
            if !there.is_empty() {
                let documented = response["content"]["application/problem+json"]["examples"].as_object();
                let documented = documented.unwrap().iter().map(|(name, example)| {
                    assert_eq!(example["$ref"], format!("#/components/examples/{name}"));
                    name.clone()
                });
                assert_eq!(documented.collect::<BTreeSet<_>>(), examples, "{at}");
            }
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
    let kinds = kinds();
    let of_code = kinds.values().map(|(kind, _, bodies)| format!("`{kind}` {}", bodies[0]["status"]));
    assert_eq!(rows, of_code.collect());
}
