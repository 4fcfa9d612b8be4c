//! Strict JSON: one value per document, no member name twice (RFC 8259 section 4 leaves that case open; two readers
//! that resolve it differently would disagree on what was requested), and JSON Pointers (RFC 6901).

use std::fmt;

use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Why a document was not accepted. The text is about the document's syntax only and is safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

/// Parses one JSON document. Nesting is bounded by serde_json (128 levels).
///
/// # Errors
/// [`Malformed`] when the bytes are not one JSON value in UTF-8, or a member name occurs twice in an object.
pub fn parse(bytes: &[u8]) -> Result<Value, Malformed> {
    serde_json::from_slice::<Strict>(bytes).map(|strict| strict.0).map_err(|e| Malformed(e.to_string()))
}

/// The JSON text of a value. Only for types whose serialisation cannot fail: string keys, no fallible implementations.
pub fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// `base` extended by one reference token, escaped as RFC 6901 §3 says.
pub fn pointer(base: &str, token: &str) -> String {
    format!("{base}/{}", token.replace('~', "~0").replace('/', "~1"))
}

/// The pointers at which a stored document and a requested one differ, by the names of members. A member that only one
/// has is named itself, not its contents. Another program may have stored null for what is absent.
pub fn differences(stored: &Value, requested: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect_differences("", stored, requested, &mut found);
    found
}

fn collect_differences(at: &str, stored: &Value, requested: &Value, found: &mut Vec<String>) {
    match (stored, requested) {
        (Value::Object(a), Value::Object(b)) => {
            for (name, left) in a {
                match b.get(name) {
                    Some(right) => collect_differences(&pointer(at, name), left, right, found),
                    None if left.is_null() => {}
                    None => found.push(pointer(at, name)),
                }
            }
            found.extend(b.keys().filter(|name| !a.contains_key(*name)).map(|name| pointer(at, name)));
        }
        (Value::Array(a), Value::Array(b)) => {
            for index in 0..a.len().max(b.len()) {
                let here = pointer(at, &index.to_string());
                match (a.get(index), b.get(index)) {
                    (Some(left), Some(right)) => collect_differences(&here, left, right, found),
                    _ => found.push(here),
                }
            }
        }
        _ if stored == requested => {}
        _ => found.push(at.to_owned()),
    }
}

/// A [`Value`] whose objects have distinct member names.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }

    fn visit_bool<E>(self, v: bool) -> Result<Strict, E> {
        Ok(Strict(v.into()))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Strict, E> {
        Ok(Strict(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Strict, E> {
        Ok(Strict(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Strict, E> {
        Ok(Strict(v.into()))
    }

    fn visit_str<E>(self, v: &str) -> Result<Strict, E> {
        Ok(Strict(v.into()))
    }

    fn visit_string<E>(self, v: String) -> Result<Strict, E> {
        Ok(Strict(v.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Strict, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Strict(Value::Array(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(de::Error::custom("a member name occurs twice in an object"));
            }
            let Strict(value) = map.next_value()?;
            members.insert(name, value);
        }
        Ok(Strict(Value::Object(members)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parses_what_serde_json_parses() {
        let text = r#" {"a":[1,-2,3.5,true,null,"x"],"b":{"c":{}}} "#;
        assert_eq!(parse(text.as_bytes()), Ok(serde_json::from_str(text).expect("valid")));
    }

    #[test]
    fn refuses_a_member_given_twice_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"a":2}}]"#, r#"{"a":1,"\u0061":2}"#] {
            let Err(Malformed(why)) = parse(text.as_bytes()) else {
                panic!("accepted {text}");
            };
            assert!(why.contains("twice"), "{why}");
        }
    }

    #[test]
    fn refuses_what_is_not_one_document() {
        for bytes in [&b""[..], b"{", b"{} {}", b"{\"a\":\"\xff\"}", b"nope", b"1e400", b"{\"a\":01}"] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn names_the_shortest_differing_pointers() {
        let a = json!({"currency": "EUR", "items": [{"sku": "A", "quantity": 1}, {"sku": "B"}], "note": null});
        let b = json!({"currency": "EUR", "items": [{"sku": "A", "quantity": 2}], "note": "x", "a/b~c": 1});
        assert_eq!(differences(&a, &b), ["/items/0/quantity", "/items/1", "/note", "/a~1b~0c"]);
        assert_eq!(differences(&a, &a), [""; 0]);
        let (null, absent) = (json!({"items": [{"sku": null}]}), json!({"items": [{}]}));
        assert_eq!(differences(&null, &absent), [""; 0]);
        assert_eq!(differences(&absent, &null), ["/items/0/sku"]);
    }
}
