//! Asserts what must hold for any input, by the rules written a second time in another way. The fuzz targets assert the
//! same.

use std::collections::BTreeSet;

use exactly_once::json::{self, Malformed};
use exactly_once::{Document, Fingerprint, IdempotencyKey, KeyScope, ResourceId, Violation, laws};
use exactly_once_http::Problem;
use orders::ORDERS;
use serde_json::{Value, json};

/// A field value is taken for the key it stands for, or for none.
pub fn key_header(value: &[u8]) {
    let key = IdempotencyKey::parse(value);
    let bytes = key.as_ref().map(|key| key.as_str().as_bytes());
    assert_eq!(bytes, key_of(value).as_deref());
}

/// Several field values are one key exactly if each of their parts stands for it.
pub fn key_headers(values: &[&[u8]]) {
    let parts = values.iter().flat_map(|value| parts_of(value));
    let keys: BTreeSet<_> = parts.map(|part| key_of(&part)).collect();
    let key = IdempotencyKey::from_field_values(values.iter().copied());
    match (key, keys.len(), keys.first()) {
        (Ok(key), 1, Some(Some(only))) => assert_eq!(key.as_str().as_bytes(), only),
        (Ok(key), ..) => panic!("{keys:?} gave {key:?}"),
        (Err(_), 1, Some(Some(only))) => panic!("refused {only:?}"),
        (Err(_), ..) => {}
    }
}

/// A key as a Structured Field string (RFC 9651 section 4.1.6).
pub fn quote(key: &[u8]) -> Vec<u8> {
    let escaped = key.iter().flat_map(|byte| match byte {
        b'"' | b'\\' => vec![b'\\', *byte],
        plain => vec![*plain],
    });
    [b"\"", escaped.collect::<Vec<_>>().as_slice(), b"\""].concat()
}

/// The parts of a list: what is between two commas, unless a quotation mark is open there.
fn parts_of(value: &[u8]) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for piece in value.split(|byte| *byte == b',') {
        let is_open = |part: &Vec<u8>| {
            let mut escaped = false;
            let marks = part.iter().filter(|byte| {
                let mark = **byte == b'"' && !escaped;
                escaped = **byte == b'\\' && !escaped;
                mark
            });
            marks.count() % 2 == 1
        };
        match parts.last_mut() {
            Some(part) if is_open(part) => part.extend([b",", piece].concat()),
            _ => parts.push(piece.to_vec()),
        }
    }
    parts
}

/// A key has one quoted spelling. So a value is one if undoing the quotes, in however lax a way, and quoting
/// again gives it back.
fn key_of(value: &[u8]) -> Option<Vec<u8>> {
    let value = value.trim_ascii();
    let key = if value.contains(&b'"') {
        let mut escaped = false;
        let mut key = value.get(1..value.len() - 1)?.to_vec();
        key.retain(|byte| {
            escaped = *byte == b'\\' && !escaped;
            !escaped
        });
        (quote(&key) == value).then_some(key)?
    } else {
        value.to_vec()
    };
    let bare = !value.contains(&b'"');
    let visible = key.iter().all(|byte| (0x21..=0x7e).contains(byte));
    (visible && !(bare && key.contains(&b',')) && !key.is_empty() && key.len() <= 255).then_some(key)
}

/// A body is read as serde_json reads it unless a member is given twice, and makes an order exactly if it
/// is one; what is made of it survives being written and read.
pub fn json_body(body: &[u8]) {
    let expected =
        serde_json::from_slice::<Value>(body).ok().filter(|value| members_of(value) == members_written(body));
    match json::parse(body) {
        Ok(value) => {
            assert_eq!(Some(&value), expected.as_ref());
            order(&value);
        }
        Err(Malformed(why)) => {
            assert_eq!(expected, None, "{why}");
            assert!(why.len() < 200, "{why}");
        }
    }
}

fn members_of(value: &Value) -> usize {
    match value {
        Value::Object(members) => members.len() + members.values().map(members_of).sum::<usize>(),
        Value::Array(items) => items.iter().map(members_of).sum(),
        _ => 0,
    }
}

/// How many members a valid text spells out: one for each colon outside strings.
fn members_written(text: &[u8]) -> usize {
    let (mut colons, mut in_string, mut escaped) = (0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b':' if !in_string => colons += 1,
            _ => {}
        }
    }
    colons
}

fn order(value: &Value) {
    match ORDERS.validate(value) {
        Ok(document) => {
            let total = total(value);
            accepted(value, &document, total.expect("accepted what is not an order"));
        }
        Err(violations) => {
            assert_eq!(total(value), None, "refused {value}: {violations:?}");
            refused(value, violations);
        }
    }
}

fn accepted(value: &Value, document: &Value, total: u128) {
    let mut expected = value.clone();
    if let Some(members) = expected.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    assert_eq!(document, &expected);
    assert_eq!(&Document::of(document).value(), document);
    assert_eq!(laws::check(&ORDERS, value), Ok(()));

    let id = ResourceId::parse("01970000-0000-7000-8000-000000000001").expect("an id");
    let representation = ORDERS.represent(id, document).expect("a representation");
    let represented = json::parse(representation.as_bytes()).expect("a representation is JSON");
    expected["note"] = value.get("note").cloned().unwrap_or_default();
    expected["orderId"] = id.to_string().into();
    expected["status"] = "accepted".into();
    expected["total"] = u64::try_from(total).expect("a total fits").into();
    expected["createdAt"] = id.created_at().into();
    assert_eq!(represented, expected);
}

/// Every violation names another member that is there, or is missing in an object that is there.
fn refused(value: &Value, violations: Vec<Violation>) {
    assert!(!violations.is_empty());
    let pointers: BTreeSet<_> = violations.iter().map(|v| &v.pointer).collect();
    assert_eq!(pointers.len(), violations.len(), "{violations:?}");
    for pointer in pointers {
        let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
        let parent_is_object = value.pointer(parent).is_some_and(Value::is_object);
        assert!(value.pointer(pointer).is_some() || parent_is_object, "{pointer} in {value}");
    }
    let answer = Problem::Invalid(violations).into_response(&ORDERS.collection);
    assert_eq!(answer.status, 422);
    serde_json::from_str::<Value>(&answer.body).expect("the answer is JSON");
}

/// The total of an order, if it is one by the rules of docs/api.md.
fn total(value: &Value) -> Option<u128> {
    let Value::Object(members) = value else {
        return None;
    };
    let known = |name: &String| ["currency", "items", "note"].contains(&name.as_str());
    let note_fits = match members.get("note") {
        None | Some(Value::Null) => true,
        Some(note) => chars(note).is_some_and(|chars| chars <= 500),
    };
    let Some(Value::Array(items)) = members.get("items") else {
        return None;
    };
    let total = items.iter().map(line_total).sum::<Option<u128>>()?;
    let fits = members.keys().all(known)
        && note_fits
        && is_currency(&members.get("currency").cloned().unwrap_or_default())
        && (1..=100).contains(&items.len())
        && total <= i64::MAX.unsigned_abs().into();
    fits.then_some(total)
}

/// The total of a line, if it is one.
fn line_total(item: &Value) -> Option<u128> {
    let quantity = item.get("quantity")?.as_u64()?;
    let price = item.get("unitPrice")?.as_u64()?;
    let fits = item.as_object()?.len() == 3
        && (1..=10_000).contains(&quantity)
        && i64::try_from(price).is_ok()
        && (1..=64).contains(&chars(item.get("sku")?)?);
    fits.then_some(u128::from(quantity) * u128::from(price))
}

/// The length of a string that Postgres can hold.
fn chars(value: &Value) -> Option<usize> {
    let text = value.as_str()?;
    (!text.contains('\0')).then(|| text.chars().count())
}

/// The one rule that is not written again: the list of currencies. A code is looked up through the smallest order.
fn is_currency(code: &Value) -> bool {
    let item = json!({"sku": "A", "quantity": 1, "unitPrice": 0});
    let order = ORDERS.validate(&json!({"currency": code, "items": [item]}));
    order.is_ok() && code.as_str().is_some_and(|code| code.len() == 3)
}

/// Everything that makes two requests the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub scope: KeyScope,
    pub method: String,
    pub path: String,
    pub order: Value,
}

impl Request {
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.scope, &self.method, &self.path, &Document::of(&self.order))
    }
}

/// Equal orders have equal canonical texts and no differences, equal requests equal fingerprints; and the
/// other way round.
pub fn fingerprints(a: &Request, b: &Request) {
    let (one, other) = (Document::of(&a.order), Document::of(&b.order));
    let same_order = a.order == b.order;
    assert_eq!(one == other, same_order);
    assert_eq!(json::differences(&one.value(), &other.value()).is_empty(), same_order);
    assert_eq!(a.fingerprint() == b.fingerprint(), a == b, "{a:?} {b:?}");
}
