//! The JSON Schemas (2020-12) of a resource, made from its table of members: of what a client sends, and of what it
//! gets.

#![allow(clippy::indexing_slicing, reason = "every value that is indexed is an object, which gets the member")]

use serde_json::{Map, Value, json};

use crate::members::{Kind, Member, Resource, Source};

/// No U+0000.
const STORABLE: &str = "^[^\\u0000]*$";

impl Resource {
    /// The schema of a request's body.
    pub fn request_schema(&self) -> Value {
        let about = format!("A new {}. {}", self.collection.one, self.about);
        let mut schema = object(self.members, true);
        schema["description"] = about.trim_end().into();
        schema
    }

    /// The schemas that those of the members refer to, by name: of values with a rule of their own.
    pub fn code_schemas(&self) -> Map<String, Value> {
        fn add(schemas: &mut Map<String, Value>, table: &[Member]) {
            for (kind, _) in table.iter().filter_map(Member::sent) {
                match kind {
                    Kind::Code { schema, rule, .. } => {
                        schemas.insert((*schema).to_owned(), json!({"type": "string", "description": rule}));
                    }
                    Kind::List { of, .. } => add(schemas, of),
                    _ => {}
                }
            }
        }
        let mut schemas = Map::new();
        add(&mut schemas, self.members);
        schemas
    }

    /// The schema of the representation. It allows members that a newer release has stored.
    pub fn representation_schema(&self) -> Value {
        let mut schema = object(self.members, false);
        schema["description"] = format!(
            "One {}. It never changes. It may have more members, which a newer release has stored.",
            self.collection.one
        )
        .into();
        schema
    }
}

fn object(table: &[Member], is_sent: bool) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for member in table {
        let schema = match is_sent {
            true => member.sent().map(|(kind, required)| sent(kind, !required)),
            false => Some(shown(member)),
        };
        let Some(mut schema) = schema else {
            continue;
        };
        if !member.about.is_empty() {
            schema["description"] = member.about.into();
        }
        properties.insert(member.name.to_owned(), schema);
        let is_required = match is_sent {
            true => matches!(member.source, Source::Required(_)),
            false => !matches!(member.source, Source::Optional(_)),
        };
        if is_required {
            required.push(member.name);
        }
    }
    let mut schema = json!({"type": "object", "required": required, "properties": properties});
    if is_sent {
        schema["additionalProperties"] = false.into();
    }
    schema
}

/// The schema of a value that a client sends.
fn sent(kind: &Kind, is_nullable: bool) -> Value {
    let mut schema = match kind {
        Kind::Text { min: 0, max } => {
            json!({"type": "string", "maxLength": max, "pattern": STORABLE})
        }
        Kind::Text { min, max } => {
            json!({"type": "string", "minLength": min, "maxLength": max, "pattern": STORABLE})
        }
        Kind::Code { schema, .. } => json!({"$ref": format!("#/components/schemas/{schema}")}),
        Kind::Integer { min, max } | Kind::Money { min, max } => {
            json!({"type": "integer", "format": "int64", "minimum": min, "maximum": max})
        }
        Kind::Number { rule, .. } => json!({"type": "number", "description": rule}),
        Kind::List { min, max, of } => {
            json!({"type": "array", "minItems": min, "maxItems": max, "items": object(of, true)})
        }
    };
    if is_nullable {
        nullable(&mut schema);
    }
    schema
}

/// The schema of a member that a representation has. Limits may have been others when it was stored.
fn shown(member: &Member) -> Value {
    let plain = |kind: &Kind| match kind {
        Kind::Text { .. } | Kind::Code { .. } => json!({"type": "string"}),
        Kind::Integer { .. } => json!({"type": "integer", "format": "int64"}),
        Kind::Money { .. } => json!({"type": "integer", "format": "int64", "minimum": 0}),
        Kind::Number { .. } => json!({"type": "number"}),
        Kind::List { of, .. } => json!({"type": "array", "items": object(of, false)}),
    };
    match &member.source {
        Source::Required(kind) | Source::Optional(kind) | Source::Computed(kind, _) => plain(kind),
        Source::Nullable(kind) => {
            let mut schema = plain(kind);
            nullable(&mut schema);
            schema
        }
        Source::Id => json!({
            "type": "string",
            "format": "uuid",
            "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        }),
        Source::CreatedAt => json!({"type": "string", "format": "date-time"}),
        Source::Constant(value) => json!({"const": value}),
    }
}

fn nullable(schema: &mut Value) {
    match schema["type"].take() {
        Value::Null => *schema = json!({"anyOf": [{"$ref": schema["$ref"]}, {"type": "null"}]}),
        plain => schema["type"] = json!([plain, "null"]),
    }
}
