//! The document itself.

use std::sync::LazyLock;

use exactly_once::IdempotencyKey;
use exactly_once::key::MAX_KEY_CHARS;
use exactly_once_http::PageRequest;
use openapi_check::Document;
use orders::ORDERS;
use serde_json::{Value, json};

/// The largest page.
const MAX_LIMIT: usize = 100;

/// The document of this API.
pub fn orders_document() -> &'static Document {
    static DOCUMENT: LazyLock<Document> = LazyLock::new(|| {
        let file = devstack::workspace::root().join("showcase/console/static/openapi.json");
        Document::read(&file).unwrap()
    });
    &DOCUMENT
}

#[test]
fn examples_match_their_schemas() {
    let document = orders_document();
    assert!(document.examples().len() > 30);
    let bad = document.bad_examples().unwrap();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

const NEW_ORDER: &str = "/components/schemas/NewOrder";

/// Whether the document's schema and the code accept an order; they have to agree.
fn accepted(order: &Value) -> bool {
    let violations = orders_document().violations(NEW_ORDER, order).unwrap();
    let by_code = ORDERS.validate(order);
    assert_eq!(
        violations.is_empty(),
        by_code.is_ok(),
        "the document says {violations:?}, the code says {by_code:?} of {order}"
    );
    by_code.is_ok()
}

fn with(pointer: &str, value: Value) -> Value {
    let mut order = json!({
        "currency": "EUR", "items": [{"sku": "A-1", "quantity": 2, "unitPrice": 0}], "note": "n"
    });
    *order.pointer_mut(pointer).unwrap() = value;
    order
}

#[test]
fn the_limits_of_an_order_are_those_of_the_code() {
    let item = json!({"sku": "A-1", "quantity": 1, "unitPrice": 1});
    for (pointer, good, bad) in [
        ("/items", json!(vec![&item; 100]), json!(vec![&item; 101])),
        ("/items", json!([item]), json!([])),
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
        (
            "/items/0/unitPrice",
            json!(i64::MAX / 2),
            json!(i64::MAX as u64 + 1),
        ),
        ("/items/0/unitPrice", json!(1), json!(null)),
        ("/note", json!("ñ".repeat(500)), json!("ñ".repeat(501))),
        ("/note", json!(null), json!("\u{0}")),
        ("/note", json!(""), json!(7)),
        ("/currency", json!("CHF"), json!("chf")),
    ] {
        assert!(accepted(&with(pointer, good)), "{pointer}");
        assert!(!accepted(&with(pointer, bad)), "{pointer}");
    }
    for (pointer, member) in [("", "gift"), ("/items/0", "colour")] {
        let mut order = with("/note", json!(null));
        order.pointer_mut(pointer).unwrap()[member] = json!(1);
        assert!(!accepted(&order), "{member}");
    }
    for (pointer, member) in [
        ("", "currency"),
        ("", "items"),
        ("/items/0", "sku"),
        ("/items/0", "quantity"),
        ("/items/0", "unitPrice"),
    ] {
        let mut order = with("/note", json!(null));
        let object = order.pointer_mut(pointer).unwrap();
        object.as_object_mut().unwrap().remove(member);
        assert!(!accepted(&order), "{member}");
    }
    for other in [json!(null), json!([]), json!("order"), json!({})] {
        assert!(!accepted(&other));
    }
}

#[test]
fn the_currencies_are_those_of_the_code() {
    let letters = || b'A'..=b'Z';
    let codes =
        letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| [a, b, c])));
    let accepted = codes.filter(|code| {
        let code = std::str::from_utf8(code).unwrap();
        accepted(&with("/currency", json!(code)))
    });
    assert!(accepted.count() > 150);
}

#[test]
fn keys_are_what_the_code_takes_for_keys() {
    let pattern = "/components/parameters/IdempotencyKey/schema";
    let longest = "k".repeat(MAX_KEY_CHARS);
    let escaped = format!("\"{}\"", "\\\\".repeat(MAX_KEY_CHARS));
    for key in [
        "k",
        "8e03978e-40d5-43dd-bc93-6894a57f9324",
        "!~",
        "a\\b",
        "\"a\"",
        "\"a\\\"b\"",
        "\"a\\\\b\"",
        &longest,
        &escaped,
        &format!("\"{longest}\""),
        "",
        "two words",
        "\"",
        "\"\"",
        "a\"b",
        "\"a",
        "a\"",
        "\"a\\b\"",
        "\"a\"b\"",
        "\"\\\"",
        "ü",
        &format!("{longest}k"),
        &format!("\"{longest}k\""),
        &format!("\"{escaped}\\\\\""),
        "\"a b\"",
    ] {
        let by_document = orders_document().violations(pattern, &json!(key)).unwrap();
        let by_code = IdempotencyKey::parse(key.as_bytes());
        assert_eq!(by_document.is_empty(), by_code.is_some(), "{key}");
    }
    let limit = "/components/parameters/Limit/schema";
    for (value, good) in [
        (1, true),
        (MAX_LIMIT, true),
        (0, false),
        (MAX_LIMIT + 1, false),
    ] {
        let by_document = orders_document().violations(limit, &json!(value)).unwrap();
        let by_code = PageRequest::parse(&format!("limit={value}"));
        assert_eq!(
            (by_document.is_empty(), by_code.is_ok()),
            (good, good),
            "{value}"
        );
    }
    let without = PageRequest::parse("").map(|page| page.limit);
    let schema = orders_document().at(limit).unwrap();
    assert_eq!(without.ok(), schema["default"].as_u64().map(|n| n as usize));
}
