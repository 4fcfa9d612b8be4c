{%- assign many = project-name | downcase | replace: "-", "_" | replace: " ", "_" -%}
{%- assign path = many | replace: "_", "-" -%}
{%- assign one = many -%}{%- assign last = many | slice: -1 -%}{%- assign length = many | size | minus: 1 -%}
{%- if last == "s" -%}{%- assign one = many | slice: 0, length -%}{%- endif -%}
{%- assign words = one | replace: "_", " " -%}{%- assign parts = one | split: "_" -%}
{%- capture member -%}{%- for part in parts -%}
{%- if forloop.first -%}{{part}}{%- else -%}{{part | capitalize}}{%- endif -%}
{%- endfor -%}Id{%- endcapture -%}
//! What a {{words}} is, and on Wasm the component that serves it. Replace the members by those of your resource.

use exactly_once::members::{created_at, id, integer, required, text};
use exactly_once::{Collection, Documentation, Resource};

const COLLECTION: Collection = Collection { name: "{{many}}", one: "{{one}}", path: "/api/v1/{{path}}" };

/// The library makes both from the table below.
const DOCUMENTATION: Documentation =
    Documentation { description: "/api/v1/{{path}}/openapi.json", reference: "/api/v1/{{path}}/" };

/// The representation has the members in this order.
pub static RESOURCE: Resource = Resource::new(
    COLLECTION,
    &[
        id("{{member}}"),
        required("name", text(1, 100)),
        required("quantity", integer(1, 1_000)),
        created_at("createdAt"),
    ],
)
.documented(DOCUMENTATION);

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
