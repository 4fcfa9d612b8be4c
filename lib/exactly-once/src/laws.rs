//! The laws of every resource, for the tests of a resource: nothing that is sent is ignored, and a stored document is
//! stored again as it is. Without them a retry could get a resource that lacks what it asks for.

use serde_json::Value;

use crate::json::pointer;
use crate::members::Resource;
use crate::resource::{Document, ResourceId};

/// The name of the member that is added.
const ADDED: &str = "noRuleHasThisName";

/// Checks the laws with a valid body.
///
/// # Errors
/// The law that does not hold.
pub fn check(resource: &Resource, body: &Value) -> Result<(), String> {
    let document = resource.validate(body).map_err(|violations| format!("the body is not valid: {violations:?}"))?;
    is_stored_as_it_is(resource, &document)?;
    // A release that adds a member would store null for it, and so would reject retries of what is stored without it.
    if let Some(at) = objects(&document).into_iter().find(|at| has_null(&document, at)) {
        return Err(format!("null is stored in {at:?}"));
    }
    if resource.represent(ResourceId::from_uuid(uuid::Uuid::nil()), &document).is_none() {
        return Err(format!("{document} has no representation"));
    }
    for at in objects(body) {
        let added = pointer(&at, ADDED);
        let more = with_member(body, &at);
        let violations = resource.validate(&more).err().unwrap_or_default();
        if !violations.iter().any(|violation| violation.pointer == added) {
            return Err(format!("{added} is accepted"));
        }
        if resource.as_stored(&more).is_some_and(|stored| stored.pointer(&added).is_none()) {
            return Err(format!("{added} is ignored"));
        }
    }
    // What another release has stored.
    for at in objects(&document) {
        is_stored_as_it_is(resource, &with_member(&document, &at))?;
    }
    Ok(())
}

fn is_stored_as_it_is(resource: &Resource, document: &Value) -> Result<(), String> {
    let again = resource.as_stored(document).as_ref().map(Document::of);
    match again == Some(Document::of(document)) {
        true => Ok(()),
        false => Err(format!("{document} is stored as {again:?}")),
    }
}

fn has_null(document: &Value, at: &str) -> bool {
    let members = document.pointer(at).and_then(Value::as_object);
    members.is_some_and(|members| members.values().any(Value::is_null))
}

/// The places of all objects.
fn objects(value: &Value) -> Vec<String> {
    let below = |token: &str, value| {
        let inner = objects(value).into_iter();
        inner.map(|rest| format!("{}{rest}", pointer("", token))).collect::<Vec<_>>()
    };
    match value {
        Value::Object(members) => {
            let inside = members.iter().flat_map(|(name, value)| below(name, value));
            std::iter::once(String::new()).chain(inside).collect()
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.flat_map(|(index, value)| below(&index.to_string(), value)).collect()
        }
        _ => Vec::new(),
    }
}

fn with_member(value: &Value, at: &str) -> Value {
    let mut more = value.clone();
    if let Some(Value::Object(members)) = more.pointer_mut(at) {
        members.insert(ADDED.to_owned(), true.into());
    }
    more
}
