//! The schemas of requests in the document accept what the code accepts.

use std::sync::LazyLock;

use exactly_once::IdempotencyKey;
use exactly_once::key::MAX_KEY_CHARS;
use exactly_once_http::PageRequest;
use openapi_check::Document;
use orders::ORDERS;
use serde_json::{Value, json};

/// The document of this API.
pub fn orders_document() -> &'static Document {
    static DOCUMENT: LazyLock<Document> = LazyLock::new(|| {
        let file = devstack::workspace::root().join("showcase/console/static/openapi.json");
        Document::read(&file).unwrap()
    });
    &DOCUMENT
}

/// Whether the document's schema accepts a value; the code has to agree.
fn accepted(schema: &str, value: &Value, by_code: bool) -> bool {
    let pointer = format!("/components/{schema}");
    let violations = orders_document().violations(&pointer, value).unwrap();
    assert_eq!(violations.is_empty(), by_code, "{violations:?} of {value}");
    by_code
}

fn order_accepted(order: &Value) -> bool {
    accepted("schemas/NewOrder", order, ORDERS.validate(order).is_ok())
}

/// An order with another value at a JSON Pointer, or, for the `null` of `Value`, without the member there.
fn with(pointer: &str, value: Option<Value>) -> Value {
    let mut order = json!({
        "currency": "EUR", "items": [{"sku": "A-1", "quantity": 2, "unitPrice": 0}], "note": "n"
    });
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    let parent = order.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => parent.insert(member.to_owned(), value),
        None => parent.remove(member),
    };
    order
}

#[test]
fn the_limits_of_an_order_are_those_of_the_code() {
    let items = |count| json!(vec![json!({"sku": "A-1", "quantity": 1, "unitPrice": 1}); count]);
    for (pointer, good, bad) in [
        ("/items", items(100), items(101)),
        ("/items", items(1), json!([])),
        ("/items/0/quantity", json!(10_000), json!(10_001)),
        ("/items/0/quantity", json!(1), json!(0)),
        ("/items/0/quantity", json!(1), json!(1.5)),
        ("/items/0/quantity", json!(1), json!("1")),
        ("/items/0/sku", json!("€".repeat(64)), json!("€".repeat(65))),
        ("/items/0/sku", json!("𝄞".repeat(64)), json!("𝄞".repeat(65))),
        ("/items/0/sku", json!("\u{1}"), json!("")),
        ("/items/0/sku", json!("\n"), json!("a\u{0}b")),
        ("/items/0/sku", json!("1"), json!(1)),
        ("/items/0/unitPrice", json!(0), json!(-1)),
        ("/items/0/unitPrice", json!(i64::MAX / 2), json!(i64::MAX as u64 + 1)),
        ("/items/0/unitPrice", json!(1), json!(null)),
        ("/note", json!("ñ".repeat(500)), json!("ñ".repeat(501))),
        ("/note", json!(null), json!("\u{0}")),
        ("/note", json!(""), json!(7)),
        ("/currency", json!("CHF"), json!("chf")),
    ] {
        assert!(order_accepted(&with(pointer, Some(good))), "{pointer}");
        assert!(!order_accepted(&with(pointer, Some(bad))), "{pointer}");
    }
    for added in ["/gift", "/items/0/colour"] {
        assert!(!order_accepted(&with(added, Some(json!(1)))), "{added}");
    }
    for required in ["/currency", "/items", "/items/0/sku", "/items/0/quantity", "/items/0/unitPrice"] {
        assert!(!order_accepted(&with(required, None)), "{required}");
    }
    for other in [json!(null), json!([]), json!("order"), json!({})] {
        assert!(!order_accepted(&other));
    }
    let letters = || b'A'..=b'Z';
    let codes = letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| [a, b, c])));
    let currency = |code: &[u8; 3]| order_accepted(&with("/currency", Some(json!(str::from_utf8(code).unwrap()))));
    assert!(codes.filter(currency).count() > 150);
}

#[test]
fn keys_and_limits_are_what_the_code_takes() {
    // But for a bare key with a comma: no pattern tells a list of two keys from one of equal ones.
    let longest = "k".repeat(MAX_KEY_CHARS);
    let escaped = format!("\"{}\"", "\\\\".repeat(MAX_KEY_CHARS));
    let keys = concat!(
        r#"k|8e03978e-40d5-43dd-bc93-6894a57f9324|!~|a\b|"a"|"a,b"|"a\"b"|"a\\b"||two words|"|""|a"b|"a|a"|"#,
        r#""a\b"|"a"b"|"\"|ü|"a b""#
    );
    let long = [
        longest.clone(),
        escaped.clone(),
        format!("\"{longest}\""),
        format!("{longest}k"),
        format!("\"{longest}k\""),
        format!("\"{escaped}\\\\\""),
    ];
    let keys = keys.split('|').chain(long.iter().map(String::as_str));
    let taken = keys.filter(|key| {
        let by_code = IdempotencyKey::parse(key.as_bytes()).is_some();
        accepted("parameters/IdempotencyKey/schema", &json!(key), by_code)
    });
    assert_eq!(taken.count(), 11);
    for limit in [0, 1, 100, 101] {
        let by_code = PageRequest::parse(&format!("limit={limit}")).is_ok();
        let taken = accepted("parameters/Limit/schema", &json!(limit), by_code);
        assert_eq!(taken, (1..=100).contains(&limit), "{limit}");
    }
    let limit = orders_document().at("/components/parameters/Limit/schema").unwrap();
    let without = PageRequest::parse("").map(|page| page.limit).ok();
    assert_eq!(without, limit["default"].as_u64().map(|n| n as usize));
}

/// Redocly checks the other examples.
#[test]
fn the_examples_of_headers_match_their_schemas() {
    for file in ["console/static/openapi.json", "order-by-key/openapi.json", "order-by-etag/openapi.json"] {
        let file = devstack::workspace::root().join("showcase").join(file);
        let document = Document::read(&file).unwrap();
        let headers = document.at("/components/headers").and_then(Value::as_object);
        for (name, header) in headers.into_iter().flatten() {
            if let Some(example) = header.get("example") {
                let schema = format!("/components/headers/{name}/schema");
                let violations = document.violations(&schema, example).unwrap();
                assert_eq!(violations, [""; 0], "{name}");
            }
        }
    }
}
