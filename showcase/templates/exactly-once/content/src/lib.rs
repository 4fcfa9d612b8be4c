//! What a {{resource}} is, and on Wasm the component that serves it. Replace the members by those of your resource.

use exactly_once::json::pointer;
use exactly_once::{Collection, Document, Resource, ResourceId, Violation};
use serde_json::{Value, json};

/// The longest name, in Unicode scalar values.
const MAX_NAME_CHARS: usize = 100;
/// The largest quantity.
const MAX_QUANTITY: u64 = 1_000;

/// A valid {{resource}}.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct {{resource | capitalize}} {
    name: String,
    quantity: u64,
}

impl Resource for {{resource | capitalize}} {
    const COLLECTION: Collection = Collection {
        name: "{{collection}}",
        one: "{{resource}}",
        path: "/api/v1/{{collection}}",
    };

    fn from_json(body: &Value) -> Result<Self, Vec<Violation>> {
        let Value::Object(members) = body else {
            return Err(vec![violation("", "must be an object with name and quantity")]);
        };
        // An unknown member may be a mistyped one: it is refused, not lost.
        let mut violations: Vec<Violation> = members
            .keys()
            .filter(|member| !["name", "quantity"].contains(&member.as_str()))
            .map(|member| violation(&pointer("", member), "is not a member this API knows"))
            .collect();
        let name = members.get("name").and_then(Value::as_str).filter(|name| is_name(name));
        if name.is_none() {
            violations.push(violation("/name", "must be a string of 1 to 100 characters, none of them U+0000"));
        }
        let quantity = members.get("quantity").and_then(Value::as_u64);
        let quantity = quantity.filter(|quantity| (1..=MAX_QUANTITY).contains(quantity));
        if quantity.is_none() {
            violations.push(violation("/quantity", "must be an integer from 1 to 1000"));
        }
        match (name, quantity) {
            (Some(name), Some(quantity)) if violations.is_empty() => Ok(Self {
                name: name.to_owned(),
                quantity,
            }),
            _ => Err(violations),
        }
    }

    // A stored document was valid once: later rules do not make it invalid.
    fn from_stored(document: &Document) -> Option<Self> {
        let stored = document.value();
        Some(Self {
            name: stored.get("name")?.as_str()?.to_owned(),
            quantity: stored.get("quantity")?.as_u64()?,
        })
    }

    // serde_json sorts members by name: equal documents have equal texts.
    fn canonical(&self) -> Document {
        Document::from_text(json!({"name": self.name, "quantity": self.quantity}).to_string())
    }

    fn representation(&self, id: ResourceId) -> String {
        json!({
            "{{resource}}Id": id.to_string(),
            "name": self.name,
            "quantity": self.quantity,
            "createdAt": id.created_at(),
        })
        .to_string()
    }
}

/// Postgres cannot hold U+0000 in text.
fn is_name(name: &str) -> bool {
    !name.contains('\0') && (1..=MAX_NAME_CHARS).contains(&name.chars().count())
}

fn violation(pointer: &str, detail: &'static str) -> Violation {
    Violation {
        pointer: pointer.to_owned(),
        detail,
    }
}

#[cfg(target_arch = "wasm32")]
exactly_once_spin::component!({{resource | capitalize}}, exactly_once_http::respond::<{{resource | capitalize}}>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_{{resource}}_is_stored_as_it_was_sent() {
        let sent = json!({"quantity": 2, "name": "Ada"});
        let read = {{resource | capitalize}}::from_json(&sent).expect("valid");
        assert_eq!(read.canonical().as_str(), r#"{"name":"Ada","quantity":2}"#);
        assert_eq!({{resource | capitalize}}::from_stored(&read.canonical()), Some(read));
    }

    #[test]
    fn every_violation_is_named() {
        let refused = {{resource | capitalize}}::from_json(&json!({"name": "", "extra": 1})).expect_err("not valid");
        let pointers: Vec<&str> = refused.iter().map(|violation| violation.pointer.as_str()).collect();
        assert_eq!(pointers, ["/extra", "/name", "/quantity"]);
    }
}
