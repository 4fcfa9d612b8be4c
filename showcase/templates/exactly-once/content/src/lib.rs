//! What a {{resource}} is, and on Wasm the component that serves it. Replace the members by those of your resource.

use exactly_once::members::{created_at, id, integer, required, text};
use exactly_once::{Collection, Resource};

const COLLECTION: Collection = Collection {
    name: "{{collection}}",
    one: "{{resource}}",
    path: "/api/v1/{{collection}}",
};

/// The representation has the members in this order.
pub static RESOURCE: Resource = Resource::new(
    COLLECTION,
    &[
        id("{{resource}}Id"),
        required("name", text(1, 100)),
        required("quantity", integer(1, 1_000)),
        created_at("createdAt"),
    ],
);

#[cfg(target_arch = "wasm32")]
exactly_once_spin::component!(RESOURCE);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_laws_of_every_resource_hold() {
        let body = json!({"name": "Ada", "quantity": 2});
        assert_eq!(exactly_once::laws::check(&RESOURCE, &body), Ok(()));
    }

    #[test]
    fn every_violation_is_named() {
        let refused = RESOURCE.validate(&json!({"name": "", "extra": 1})).expect_err("not valid");
        let pointers: Vec<&str> = refused.iter().map(|violation| violation.pointer.as_str()).collect();
        assert_eq!(pointers, ["/extra", "/name", "/quantity"]);
    }
}
