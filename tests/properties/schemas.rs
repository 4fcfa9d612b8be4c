//! The schemas `NewOrder` and `Order` of the API's description are those of the table of members.
//! `UPDATE_SCHEMAS=1 cargo test schemas` writes them.

use std::fs;
use std::path::Path;

use orders::ORDERS;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

/// The indentation of a schema in the file.
const INDENTATION: &str = "      ";

/// The text of a schema as a member of `components.schemas`.
fn member(name: &str, schema: &Value) -> String {
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"  ");
    let mut serializer = Serializer::with_formatter(&mut text, formatter);
    schema.serialize(&mut serializer).expect("a value is JSON");
    let text = String::from_utf8(text).expect("JSON is UTF-8");
    format!("\n{INDENTATION}\"{name}\": {}", text.replace('\n', &format!("\n{INDENTATION}")))
}

#[test]
fn the_schemas_are_those_of_the_table() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("showcase/console/static/openapi.json");
    let mut description = fs::read_to_string(&file).expect("the API's description");
    let schemas = [("NewOrder", ORDERS.request_schema()), ("Order", ORDERS.representation_schema())];
    for (name, schema) in schemas {
        let written = member(name, &schema);
        if description.contains(&format!("{written},\n")) {
            continue;
        }
        assert!(
            std::env::var_os("UPDATE_SCHEMAS").is_some(),
            "{name} is not the table's in {file:?}; write it: UPDATE_SCHEMAS=1 cargo test schemas"
        );
        let start = description.find(&format!("\n{INDENTATION}\"{name}\": {{")).expect("the schema");
        let end = description[start + 1..].find(&format!("\n{INDENTATION}}},")).expect("its end");
        let end = start + 1 + end + 1 + INDENTATION.len() + 1;
        description.replace_range(start..end, &written);
    }
    fs::write(&file, description).expect("the file is written");
}
