//! The schemas of requests in the document accept what the code accepts.

use std::sync::LazyLock;

use exactly_once::IdempotencyKey;
use exactly_once::key::MAX_KEY_CHARS;
use exactly_once_http::page_request;
use openapi_check::Document;
use orders::ORDERS;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::documents::{almost_order, order};

/// The document of this API.
pub static DOCUMENT: LazyLock<Document> = LazyLock::new(|| {
    Document::read(&devstack::workspace::root().join("showcase/console/static/openapi.json")).unwrap()
});

/// Visible characters without commas, quotation marks and escapes in all places, and what has others in it.
const KEYS: &str = r#"[!#-+\-~]{0,9}|["\\a]{1,7}|a[ é]a"#;

/// Asserts that the document's schema accepts a value as the code does.
fn assert_accepted(schema: &str, value: &Value, by_code: bool) {
    let violations = DOCUMENT.violations(&format!("/components/{schema}"), value).unwrap();
    assert_eq!(violations.is_empty(), by_code, "{violations:?} of {value}");
}

/// What no schema says: that a total has a limit, and that 2.0 is no integer.
fn is_beyond_schemas(order: &Value) -> bool {
    let violations = ORDERS.validate(order).err().unwrap_or_default();
    violations.iter().all(|violation| {
        let value = order.pointer(&violation.pointer).unwrap_or(&Value::Null);
        value.as_f64().is_some_and(|number| value.is_f64() && number.fract() == 0.0)
            || violation.pointer == "/items" && value.as_array().is_some_and(|items| (1..=100).contains(&items.len()))
    }) && !violations.is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_schema_accepts_the_orders_that_the_code_accepts(good in order(), almost in almost_order()) {
        assert_accepted("schemas/NewOrder", &good, true);
        if !is_beyond_schemas(&almost) {
            assert_accepted("schemas/NewOrder", &almost, ORDERS.validate(&almost).is_ok());
        }
    }

    /// But for a bare key with a comma: no pattern tells a list of two keys from one of equal ones.
    #[test]
    fn the_schema_accepts_the_keys_that_the_code_accepts(key in KEYS, fill in 0..3_usize) {
        let filled = format!("{key}{}", "k".repeat([0, MAX_KEY_CHARS - 1, MAX_KEY_CHARS][fill]));
        for value in [format!("\"{filled}\""), filled] {
            let key = IdempotencyKey::parse(value.as_bytes());
            assert_accepted("parameters/IdempotencyKey/schema", &json!(value), key.is_some());
        }
    }
}

#[test]
fn limits_of_pages_are_what_the_code_takes() {
    for limit in [0, 1, 100, 101] {
        let by_code = page_request(&format!("limit={limit}")).is_ok();
        assert_accepted("parameters/Limit/schema", &json!(limit), by_code);
        assert_eq!(by_code, (1..=100).contains(&limit), "{limit}");
    }
    let limit = DOCUMENT.at("/components/parameters/Limit/schema").unwrap();
    let without = page_request("").map(|page| page.limit).ok();
    assert_eq!(without, limit["default"].as_u64().map(|n| n as usize));
}

/// Redocly checks the other examples.
#[test]
fn the_examples_of_headers_match_their_schemas() {
    for file in ["console/static/openapi.json", "order-by-key/openapi.json", "order-by-etag/openapi.json"] {
        let document = Document::read(&devstack::workspace::root().join("showcase").join(file)).unwrap();
        let headers = document.at("/components/headers").and_then(Value::as_object);
        for (name, header) in headers.into_iter().flatten() {
            if let Some(example) = header.get("example") {
                let violations = document.violations(&format!("/components/headers/{name}/schema"), example);
                assert_eq!(violations.unwrap(), [""; 0], "{name}");
            }
        }
    }
}
