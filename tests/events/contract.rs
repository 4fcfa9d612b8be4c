//! The published contract: the event's schema, the AsyncAPI document, and the page, compared with the code.

use devstack::{or_skip, workspace};
use jsonschema::Validator;
use openapi_check::tools::{lint, node_tools};
use serde_json::Value;

use crate::stream::Row;

/// The page.
pub fn page() -> String {
    std::fs::read_to_string(workspace::root().join("docs/events.md")).unwrap()
}

fn read(file: &str) -> Value {
    let text = std::fs::read_to_string(workspace::root().join(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn schema() -> Value {
    read("docs/events/order-created.schema.json")
}

fn validator(schema: &Value) -> Validator {
    jsonschema::draft202012::meta::validate(schema).unwrap();
    let options = jsonschema::options().should_validate_formats(true);
    options.build(schema).unwrap()
}

/// Asserts that the schema allows the event.
pub fn assert_valid(event: &Value) {
    let validator = validator(&schema());
    let errors: Vec<String> =
        (validator.iter_errors(event)).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{event}: {}", errors.join("\n"));
}

#[test]
fn the_example_is_valid_and_is_what_its_row_becomes() {
    let schema = schema();
    let example = &schema["examples"][0];
    assert_valid(example);
    let row = Row {
        order_id: example["id"].as_str().unwrap().to_owned(),
        customer_id: example["partitionkey"].as_str().unwrap().to_owned(),
        created_at: "2026-11-22 00:29:50.527+00".to_owned(),
        document: r#"{"currency":"EUR","items":[{"quantity":2,"sku":"A-1","unitPrice":1250}],"note":null}"#.to_owned(),
    };
    assert_eq!(&row.event(), example);
}

#[test]
fn the_schema_refuses_what_is_no_event() {
    let schema = schema();
    let validator = validator(&schema);
    let example = &schema["examples"][0];
    for attribute in schema["required"].as_array().unwrap() {
        let mut event = example.clone();
        let attributes = event.as_object_mut().unwrap();
        attributes.remove(attribute.as_str().unwrap());
        assert!(!validator.is_valid(&event), "{attribute}");
    }
    for (pointer, bad) in [
        ("/specversion", "0.3"),
        ("/type", "orders.order.created.v2"),
        ("/source", "/api/v1/refunds"),
        ("/id", "1"),
        ("/time", "yesterday"),
        ("/partitionkey", ""),
        ("/data/total", "2500"),
        ("/data/items/0/quantity", "2"),
    ] {
        let mut event = example.clone();
        *event.pointer_mut(pointer).unwrap() = bad.into();
        assert!(!validator.is_valid(&event), "{pointer}");
    }
}

#[test]
fn the_data_of_an_event_are_described_as_the_api_describes_an_order() {
    let order = orders::ORDERS.representation_schema();
    assert_eq!(schema()["properties"]["data"], order);
}

#[test]
fn the_page_has_every_attribute_and_the_type() {
    let (page, schema) = (page(), schema());
    for attribute in schema["properties"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("| `{attribute}` |")), "{attribute}");
    }
    let kind = schema["properties"]["type"]["const"].as_str().unwrap();
    assert!(page.contains(kind));
    let asyncapi = read("docs/events/asyncapi.json");
    assert_eq!(asyncapi["components"]["messages"]["orderCreated"]["name"], kind);
}

#[test]
fn the_linter_finds_nothing_in_the_asyncapi_document() {
    let test = "the_linter_finds_nothing_in_the_asyncapi_document";
    if let Some(tools) = or_skip(test, node_tools(false)) {
        lint(&tools, &workspace::root().join("docs/events/asyncapi.json")).unwrap();
    }
}
