//! An OpenAPI 3.1 document, and what it says about answers.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// Fields that HTTP itself has a message carry; no document has to name them.
const OF_HTTP: [&str; 5] = [
    "connection",
    "content-length",
    "content-type",
    "date",
    "transfer-encoding",
];

/// An OpenAPI document.
pub struct Document {
    root: Value,
    /// By JSON Pointer into the document.
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// An answer, as a client got it.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The request's method, in upper case.
    pub method: &'a str,
    /// The request's path, without its query.
    pub path: &'a str,
    /// The status.
    pub status: u16,
    /// The fields, names in lower case.
    pub fields: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a str,
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// The file cannot be read, or is not JSON.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        let root = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not JSON", file.display()))?;
        Ok(Self {
            root,
            validators: Mutex::default(),
        })
    }

    /// The document.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// What is at a JSON Pointer, with references followed.
    pub fn at<'d>(&'d self, pointer: &str) -> Option<&'d Value> {
        self.followed(pointer).map(|(_, value)| value)
    }

    /// The same, with the pointer that the references lead to.
    fn followed(&self, pointer: &str) -> Option<(String, &Value)> {
        let mut at = String::new();
        for token in pointer.split('/').skip(1) {
            at = format!("{at}/{token}");
            while let Some(reference) = self.root.pointer(&at)?.get("$ref") {
                reference.as_str()?.strip_prefix('#')?.clone_into(&mut at);
            }
        }
        let value = self.root.pointer(&at)?;
        Some((at, value))
    }

    /// How a value breaks the schema at a JSON Pointer; empty if it does not.
    ///
    /// # Errors
    /// There is no schema, or it is none.
    pub fn violations(&self, schema: &str, value: &Value) -> Result<Vec<String>> {
        let validator = self.validator(schema)?;
        let errors = validator.iter_errors(value);
        Ok(errors
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect())
    }

    fn validator(&self, pointer: &str) -> Result<Arc<Validator>> {
        let mut validators = self
            .validators
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(validator) = validators.get(pointer) {
            return Ok(Arc::clone(validator));
        }
        let schema = self.root.pointer(pointer);
        let schema = schema.with_context(|| format!("no schema at {pointer}"))?;
        // References lead into the components, so these come along.
        let whole = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "components": self.root.get("components"),
            "allOf": [schema],
        });
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&whole)
            .map_err(|error| anyhow!("{pointer}: {error}"))?;
        let validator = Arc::new(validator);
        validators.insert(pointer.to_owned(), Arc::clone(&validator));
        Ok(validator)
    }

    /// The paths of the document with their pointers.
    fn paths(&self) -> impl Iterator<Item = (&String, String)> {
        let paths = self.root.get("paths").and_then(Value::as_object);
        paths.into_iter().flatten().map(|(path, _)| {
            let token = path.replace('~', "~0").replace('/', "~1");
            (path, format!("/paths/{token}"))
        })
    }

    /// The operations: method, path template, and pointer.
    pub fn operations(&self) -> Vec<(String, String, String)> {
        const METHODS: [&str; 8] = [
            "get", "put", "post", "delete", "options", "head", "patch", "trace",
        ];
        let mut operations = Vec::new();
        for (path, pointer) in self.paths() {
            for method in METHODS {
                let operation = format!("{pointer}/{method}");
                if self.root.pointer(&operation).is_some() {
                    operations.push((method.to_ascii_uppercase(), path.clone(), operation));
                }
            }
        }
        operations
    }

    /// The document's path for a request, with its pointer. A path without parameters comes before those with some.
    fn path(&self, path: &str) -> Option<String> {
        let matching = self
            .paths()
            .filter(|(template, _)| matches(template, path))
            .min_by_key(|(template, _)| template.matches('{').count());
        matching.map(|(_, pointer)| pointer)
    }

    /// The pointer to the operation that a method and a path name.
    pub fn operation(&self, method: &str, path: &str) -> Option<String> {
        let operation = format!("{}/{}", self.path(path)?, method.to_ascii_lowercase());
        self.root.pointer(&operation).map(|_| operation)
    }

    /// What an answer has that the document does not say; empty if there is nothing. At paths and for methods that the
    /// document does not have, it has to be a problem of the type `not-found` or `method-not-allowed`.
    ///
    /// # Errors
    /// The document is not well formed.
    pub fn undocumented(&self, answer: &Answer<'_>) -> Result<Vec<String>> {
        let Some(path) = self.path(answer.path) else {
            return self.refused(answer, 404, ":not-found");
        };
        let method = answer.method.to_ascii_lowercase();
        let operation = format!("{path}/{method}");
        if self.root.pointer(&operation).is_none() {
            return self.refused(answer, 405, ":method-not-allowed");
        }
        let at = format!("{operation}/responses/{}", answer.status);
        let Some((at, response)) = self.followed(&at) else {
            let problem = format!("status {} is not documented", answer.status);
            return Ok(vec![problem]);
        };
        let mut found = self.undocumented_fields(answer, &at, response)?;
        found.extend(self.undocumented_content(answer, &at, response)?);
        Ok(found)
    }

    /// What is wrong with a refusal of a path or method.
    fn refused(&self, answer: &Answer<'_>, status: u16, kind: &str) -> Result<Vec<String>> {
        if answer.status != status {
            let problem = format!("status {} where {status} is due", answer.status);
            return Ok(vec![problem]);
        }
        let Ok(body) = serde_json::from_str::<Value>(answer.body) else {
            // HEAD
            return Ok(Vec::new());
        };
        let schemas = self.at("/components/schemas").and_then(Value::as_object);
        let of_kind = schemas.into_iter().flatten().find(|(_, schema)| {
            let named = schema.pointer("/properties/type/const");
            named
                .and_then(Value::as_str)
                .is_some_and(|named| named.ends_with(kind))
        });
        let (name, _) = of_kind.with_context(|| format!("no schema for {kind}"))?;
        self.violations(&format!("/components/schemas/{name}"), &body)
    }

    fn undocumented_fields(
        &self,
        answer: &Answer<'_>,
        at: &str,
        response: &Value,
    ) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let documented = response.get("headers").and_then(Value::as_object);
        let empty = Map::new();
        let documented = documented.unwrap_or(&empty);
        for (name, value) in answer.fields {
            if OF_HTTP.contains(name) {
                continue;
            }
            let named = documented
                .keys()
                .find(|other| other.eq_ignore_ascii_case(name));
            let Some(named) = named else {
                found.push(format!("field {name} is not documented"));
                continue;
            };
            let header = format!("{at}/headers/{named}");
            let (header, _) = self.followed(&header).context("a header")?;
            let value = json!(value);
            let violations = self.violations(&format!("{header}/schema"), &value)?;
            found.extend(violations.iter().map(|why| format!("field {name}{why}")));
        }
        for (name, header) in documented {
            let header = match header.get("$ref").and_then(Value::as_str) {
                Some(reference) => self.at(reference.trim_start_matches('#')),
                None => Some(header),
            };
            let required = header.and_then(|header| header.get("required")) == Some(&json!(true));
            let mut fields = answer.fields.iter();
            if required && !fields.any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                found.push(format!("field {name} is missing"));
            }
        }
        Ok(found)
    }

    fn undocumented_content(
        &self,
        answer: &Answer<'_>,
        at: &str,
        response: &Value,
    ) -> Result<Vec<String>> {
        let documented = response.get("content").and_then(Value::as_object);
        let Some(documented) = documented.filter(|_| answer.method != "HEAD") else {
            let empty = answer.body.is_empty();
            return Ok(match empty {
                true => Vec::new(),
                false => vec!["the answer has a body, which is not documented".to_owned()],
            });
        };
        let content_type = answer
            .fields
            .iter()
            .find(|(name, _)| *name == "content-type");
        let content_type = content_type.map_or("", |(_, value)| *value);
        if !documented.contains_key(content_type) {
            return Ok(vec![format!(
                "content type {content_type:?} is not documented"
            )]);
        }
        let Ok(body) = serde_json::from_str(answer.body) else {
            return Ok(vec!["the body is not JSON".to_owned()]);
        };
        let token = content_type.replace('~', "~0").replace('/', "~1");
        self.violations(&format!("{at}/content/{token}/schema"), &body)
    }

    /// The examples of the document that break their schemas.
    ///
    /// # Errors
    /// The document is not well formed.
    pub fn bad_examples(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for (pointer, value) in self.examples() {
            let schema = pointer
                .rsplit_once("/example")
                .map_or("", |(parent, _)| parent);
            let schema = format!("{schema}/schema");
            let violations = self.violations(&schema, value)?;
            found.extend(violations.iter().map(|why| format!("{pointer}: {why}")));
        }
        Ok(found)
    }

    /// All examples of parameters, headers and contents, with their pointers.
    pub fn examples(&self) -> Vec<(String, &Value)> {
        let mut found = Vec::new();
        self.collect_examples("", &self.root, &mut found);
        found
    }

    fn collect_examples<'d>(
        &'d self,
        at: &str,
        value: &'d Value,
        found: &mut Vec<(String, &'d Value)>,
    ) {
        match value {
            Value::Object(members) => {
                let has_schema = members.contains_key("schema");
                for (name, member) in members {
                    let token = name.replace('~', "~0").replace('/', "~1");
                    let below = format!("{at}/{token}");
                    match name.as_str() {
                        "example" if has_schema => found.push((below, member)),
                        "examples" if has_schema => {
                            for name in member.as_object().into_iter().flat_map(Map::keys) {
                                let example = format!("{below}/{name}");
                                let value = self.at(&format!("{example}/value"));
                                found.extend(value.map(|value| (example, value)));
                            }
                        }
                        "schema" | "schemas" => {}
                        _ => self.collect_examples(&below, member, found),
                    }
                }
            }
            Value::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    self.collect_examples(&format!("{at}/{index}"), element, found);
                }
            }
            _ => {}
        }
    }
}

/// Whether a path is one that a template means: segment by segment, a parameter being one segment that is not empty.
fn matches(template: &str, path: &str) -> bool {
    let (templates, segments) = (template.split('/'), path.split('/'));
    templates.clone().count() == segments.clone().count()
        && templates.zip(segments).all(|(template, segment)| {
            (template.starts_with('{') && !segment.is_empty()) || template == segment
        })
}
