//! Every problem that the code knows is in the document, as it is sent, and the document has no others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use exactly_once::json::Malformed;
use exactly_once::key::KeyError;
use exactly_once::{ListState, ResourceId, Violation};
use exactly_once_http::identity::Unidentified;
use exactly_once_http::{ETag, Problem, QueryError, Response};
use openapi_check::same_shape;
use orders::ORDERS;
use serde_json::{Value, json};

use crate::document::orders_document;

const SCHEMAS: &str = "/components/schemas";

/// At least one of every variant. Compilation of [`variant`] fails when there is a new one: add it here, too.
fn every() -> Vec<Problem> {
    let state = ListState::parse("52e44b94ab36d2c4c5232665e6f4b664").unwrap();
    let invalid = json!({
        "currency": "EUR", "items": [{"sku": "A-1", "quantity": 0, "unitPrice": 1250}], "gift": true
    });
    let malformed = exactly_once::json::parse(b"{\"currency\": \"EUR\"").unwrap_err();
    vec![
        Problem::Unidentified(Unidentified::NotNamed),
        Problem::Unidentified(Unidentified::NoToken),
        Problem::Unidentified(Unidentified::InvalidToken),
        Problem::Unidentified(Unidentified::ExpiredToken),
        Problem::Forbidden,
        Problem::Key(KeyError::Missing),
        Problem::Key(KeyError::Malformed),
        Problem::Key(KeyError::Ambiguous),
        Problem::UnsupportedMediaType("application/json"),
        Problem::UnsupportedContentCoding,
        Problem::BodyTooLarge(exactly_once_http::MAX_BODY_BYTES),
        Problem::BodyTruncated,
        Problem::BodyTimedOut,
        Problem::NotJson(malformed),
        Problem::NotJson(Malformed(String::new())),
        Problem::Invalid(ORDERS.validate(&invalid).unwrap_err()),
        Problem::Invalid(vec![Violation::new("/x", "is required"); 60]),
        Problem::KeyReused {
            id: ResourceId::parse("01a200a8-c63f-7136-bf4f-05cf9d2ee2a7").unwrap(),
            differs: vec!["/items/0/quantity".to_owned()],
        },
        Problem::PreconditionRequired,
        Problem::Changed { etag: None },
        Problem::Changed {
            etag: Some(ETag::of_state(&state)),
        },
        Problem::ListExists,
        Problem::UnsupportedCondition,
        Problem::PreconditionFailed { current: state },
        Problem::CollectionLocked {
            remaining: Duration::from_secs(5),
        },
        Problem::Query(QueryError::Unknown),
        Problem::Query(QueryError::Repeated),
        Problem::Query(QueryError::Limit),
        Problem::Query(QueryError::Cursor),
        Problem::Query(QueryError::Parameter {
            name: "limit",
            rule: "must be a number",
        }),
        Problem::UnknownPath,
        Problem::NotFound,
        Problem::KeyNotFound,
        Problem::MethodNotAllowed {
            allow: "GET, HEAD, POST",
        },
        Problem::Unreadable,
        Problem::DatabaseUnavailable,
        Problem::CreationUndecided,
        Problem::UndecidedWithoutKey,
        Problem::Misconfigured,
        Problem::FeedOff,
        Problem::CursorOfAnotherHistory,
    ]
}

/// How many variants [`variant`] numbers.
const VARIANTS: usize = 39;

/// The number of a variant.
fn variant(problem: &Problem) -> usize {
    match problem {
        Problem::Unidentified(Unidentified::NotNamed) => 0,
        Problem::Unidentified(Unidentified::NoToken) => 1,
        Problem::Unidentified(Unidentified::InvalidToken) => 2,
        Problem::Unidentified(Unidentified::ExpiredToken) => 3,
        Problem::Forbidden => 4,
        Problem::Key(KeyError::Missing) => 5,
        Problem::Key(KeyError::Malformed) => 6,
        Problem::Key(KeyError::Ambiguous) => 7,
        Problem::UnsupportedMediaType(_) => 8,
        Problem::UnsupportedContentCoding => 9,
        Problem::BodyTooLarge(_) => 10,
        Problem::BodyTruncated => 11,
        Problem::BodyTimedOut => 12,
        Problem::NotJson(_) => 13,
        Problem::Invalid(_) => 14,
        Problem::KeyReused { .. } => 15,
        Problem::PreconditionRequired => 16,
        Problem::Changed { etag: None } => 17,
        Problem::Changed { etag: Some(_) } => 18,
        Problem::ListExists => 19,
        Problem::UnsupportedCondition => 20,
        Problem::PreconditionFailed { .. } => 21,
        Problem::CollectionLocked { .. } => 22,
        Problem::Query(QueryError::Unknown) => 23,
        Problem::Query(QueryError::Repeated) => 24,
        Problem::Query(QueryError::Limit) => 25,
        Problem::Query(QueryError::Cursor) => 26,
        Problem::Query(QueryError::Parameter { .. }) => 27,
        Problem::UnknownPath => 28,
        Problem::NotFound => 29,
        Problem::KeyNotFound => 30,
        Problem::MethodNotAllowed { .. } => 31,
        Problem::Unreadable => 32,
        Problem::DatabaseUnavailable => 33,
        Problem::CreationUndecided => 34,
        Problem::UndecidedWithoutKey => 35,
        Problem::Misconfigured => 36,
        Problem::FeedOff => 37,
        Problem::CursorOfAnotherHistory => 38,
    }
}

/// The response to a problem, and its body.
fn answer(problem: Problem) -> (Response, Value) {
    let response = problem.into_response_of(&ORDERS);
    let body = serde_json::from_str(&response.body).unwrap();
    (response, body)
}

/// The problems that this API answers with. Only an example has the other one.
fn of_orders() -> impl Iterator<Item = (Response, Value)> {
    let admitted = |problem: &Problem| *problem != Problem::Forbidden;
    every().into_iter().filter(admitted).map(answer)
}

/// The schemas of problems in the document, by the problem's type.
fn documented() -> BTreeMap<String, String> {
    let schemas = orders_document().at(SCHEMAS).unwrap().as_object().unwrap();
    let of_problems = schemas.iter().filter_map(|(name, schema)| {
        let kind = schema.pointer("/properties/type/const")?.as_str()?;
        // An event has a type, too.
        kind.starts_with("urn:").then_some(())?;
        Some((kind.to_owned(), format!("{SCHEMAS}/{name}")))
    });
    of_problems.collect()
}

#[test]
fn every_variant_is_there() {
    let there: BTreeSet<usize> = every().iter().map(variant).collect();
    assert_eq!(there, (0..VARIANTS).collect());
}

#[test]
fn every_problem_has_its_schema_and_no_schema_is_left_over() {
    let documented = documented();
    let mut left: BTreeSet<&String> = documented.keys().collect();
    for (response, body) in of_orders() {
        let kind = body["type"].as_str().unwrap().to_owned();
        let schema = documented.get(&kind);
        let schema = schema.unwrap_or_else(|| panic!("no schema for {kind}"));
        left.remove(&kind);
        let violations = orders_document().violations(schema, &body).unwrap();
        assert!(violations.is_empty(), "{kind}: {violations:?}");
        let schema = orders_document().at(schema).unwrap();
        let members = schema["properties"].as_object().unwrap();
        for member in body.as_object().unwrap().keys() {
            assert!(
                members.contains_key(member),
                "{kind} does not document {member}"
            );
        }
        let (_, id) = kind.rsplit_once(':').unwrap();
        let entry = format!("</reference/#{id}>; rel=\"help\"");
        let mut fields = response.headers.iter();
        assert!(fields.any(|(name, links)| *name == "link" && links.ends_with(&entry)));
        let status = &schema["properties"]["status"]["const"];
        assert_eq!(*status, response.status.as_u16());
    }
    assert!(left.is_empty(), "the code has no {left:?}");
}

#[test]
fn every_problem_is_at_an_operation_under_its_status() {
    let document = orders_document();
    let mut places: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for (_, _, operation) in document.operations() {
        let responses = document.at(&format!("{operation}/responses")).unwrap();
        for status in responses.as_object().unwrap().keys() {
            let content =
                format!("{operation}/responses/{status}/content/application~1problem+json/schema");
            let Some(schema) = document.root().pointer(&content).or(document.at(&content)) else {
                continue;
            };
            let text = schema.to_string();
            for (kind, named) in documented() {
                if text.contains(&format!("#{named}\"")) || text.contains(&format!("\"{kind}\"")) {
                    places
                        .entry(kind)
                        .or_default()
                        .insert(status.parse().unwrap());
                }
            }
        }
    }
    for (response, body) in of_orders() {
        let kind = body["type"].as_str().unwrap();
        // At paths and for methods that the document does not have.
        if !kind.ends_with(":not-found") {
            let statuses = places.get(kind);
            let expected = BTreeSet::from([response.status.as_u16()]);
            assert_eq!(statuses, Some(&expected), "{kind}");
        }
    }
}

#[test]
fn the_examples_of_problems_are_the_codes_own() {
    let answers: Vec<Value> = of_orders().map(|(_, body)| body).collect();
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for (pointer, example) in orders_document().examples() {
        let Some(kind) = example.get("type").and_then(Value::as_str) else {
            continue;
        };
        seen.insert(kind.to_owned());
        if !answers.iter().any(|answer| same_shape(answer, example)) {
            wrong.push(format!("{pointer}: {example}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "no answers of the code:\n{}",
        wrong.join("\n")
    );
    let missing: Vec<String> = documented()
        .into_keys()
        .filter(|kind| !seen.contains(kind))
        .collect();
    assert!(missing.is_empty(), "no example of {missing:?}");
}

#[test]
fn the_table_in_the_api_page_has_every_problem() {
    let page = include_str!("../../docs/api.md");
    let (_, table) = page.split_once("## Problems").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let in_table: BTreeSet<String> = rows
        .flat_map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let status = cells[2].to_owned();
            let kinds = cells[1].split(", ");
            kinds
                .map(move |kind| format!("{} {status}", kind.trim_matches('`')))
                .collect::<Vec<_>>()
        })
        .collect();
    let of_code: BTreeSet<String> = of_orders()
        .map(|(response, body)| {
            let kind = body["type"].as_str().unwrap();
            let kind = kind.trim_start_matches("urn:problem-type:orders:");
            format!("{kind} {}", response.status.as_u16())
        })
        .collect();
    assert_eq!(in_table, of_code);
}
