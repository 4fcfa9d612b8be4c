//! An OpenAPI 3.1 document, and what a response has that it does not document.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// Fields that HTTP itself, or this service always, has a message carry; no document has to name them.
const OF_HTTP: &str =
    "connection content-length content-type date transfer-encoding x-content-type-options x-request-id";

/// An OpenAPI document.
pub struct Document {
    root: Value,
    /// By what they validate.
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// A response, as a client got it: the request's method and path, and the response's status, headers and body.
#[allow(missing_docs, reason = "above")]
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub status: u16,
    pub fields: &'a [(&'a str, &'a str)],
    pub body: &'a str,
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// The file cannot be read, or is not JSON.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        let root = serde_json::from_slice(&text).with_context(|| file.display().to_string())?;
        Ok(Self { root, validators: Mutex::default() })
    }

    /// What is at a JSON Pointer, with references followed.
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        let mut tokens = pointer.split('/').skip(1);
        tokens.try_fold(&self.root, |value, token| {
            let value = value.pointer(&format!("/{token}"))?;
            self.followed(value)
        })
    }

    fn followed<'d>(&'d self, value: &'d Value) -> Option<&'d Value> {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.at(reference.strip_prefix('#')?),
            None => Some(value),
        }
    }

    /// How a value breaks the schema at a JSON Pointer; empty if it does not.
    ///
    /// # Errors
    /// There is no schema, or it is none.
    pub fn violations(&self, pointer: &str, value: &Value) -> Result<Vec<String>> {
        let schema = self.at(pointer).with_context(|| format!("no schema at {pointer}"))?;
        self.validate(pointer, || schema.clone(), value)
    }

    fn validate(&self, name: &str, schema: impl FnOnce() -> Value, value: &Value) -> Result<Vec<String>> {
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let validator = match validators.get(name) {
            Some(validator) => Arc::clone(validator),
            None => {
                // References lead into the components, so these come along.
                let components = self.root.get("components");
                let whole = json!({"components": components, "allOf": [schema()]});
                let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012);
                let built = options.should_validate_formats(true).build(&whole);
                let built = Arc::new(built.map_err(|error| anyhow!("{name}: {error}"))?);
                validators.insert(name.to_owned(), Arc::clone(&built));
                built
            }
        };
        drop(validators);
        let errors = validator.iter_errors(value);
        Ok(errors.map(|error| format!("{}: {error}", error.instance_path())).collect())
    }

    /// The operations: method, path template, and pointer.
    pub fn operations(&self) -> Vec<(String, String, String)> {
        let mut operations = Vec::new();
        for (path, item) in self.root.get("paths").and_then(Value::as_object).into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                // Other members are about all of them.
                if operation.get("responses").is_some() {
                    let pointer = format!("/paths/{}/{method}", path.replace('~', "~0").replace('/', "~1"));
                    operations.push((method.to_ascii_uppercase(), path.clone(), pointer));
                }
            }
        }
        // A path without parameters comes before those with some.
        operations.sort_by_key(|(_, path, _)| path.matches('{').count());
        operations
    }

    /// The pointer to the operation that a method and a path name.
    pub fn operation(&self, method: &str, path: &str) -> Option<String> {
        let mut operations = self.operations().into_iter().filter(|(_, template, _)| matches(template, path));
        operations.find(|(other, ..)| other == method).map(|(.., pointer)| pointer)
    }

    /// What a response has that the document does not say; empty if there is nothing. At paths and for methods that the
    /// document does not have, it has to be the response `NotFound` or `MethodNotAllowed`.
    ///
    /// # Errors
    /// The document is not well formed.
    pub fn undocumented(&self, answer: &Answer<'_>) -> Result<Vec<String>> {
        let mut operations = self.operations().into_iter();
        let known = operations.any(|(_, template, _)| matches(&template, answer.path));
        let pointer = match self.operation(answer.method, answer.path) {
            Some(operation) => format!("{operation}/responses/{}", answer.status),
            None if known && answer.status == 405 => "/components/responses/MethodNotAllowed".into(),
            None if !known && answer.status == 404 => "/components/responses/NotFound".into(),
            None => String::from("/none"),
        };
        let Some(response) = self.at(&pointer) else {
            return Ok(vec![format!("status {} is not documented", answer.status)]);
        };
        let mut fields: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in answer.fields {
            if !OF_HTTP.split(' ').any(|other| other == *name) {
                fields.entry(name).or_default().push(value);
            }
        }
        let mut content = Map::new();
        if !answer.body.is_empty() {
            let media_type = answer.fields.iter().find(|(name, _)| *name == "content-type");
            let media_type = media_type.map_or("", |(_, value)| *value);
            let body = serde_json::from_str(answer.body).unwrap_or_else(|_| answer.body.into());
            content.insert(media_type.to_owned(), body);
        }
        let has_body = answer.method != "HEAD";
        let schema = || self.schema(response, has_body).unwrap_or(json!(false));
        let found = json!({"fields": fields, "content": content});
        self.validate(&format!("{pointer} {has_body}"), schema, &found)
    }

    /// The schema of a response's headers and body, by its media type.
    fn schema(&self, response: &Value, has_body: bool) -> Option<Value> {
        let (mut fields, mut required, mut content) = (Map::new(), Vec::new(), Map::new());
        for (name, header) in response.get("headers").and_then(Value::as_object).into_iter().flatten() {
            let (name, header) = (name.to_ascii_lowercase(), self.followed(header)?);
            if header.get("required") == Some(&json!(true)) {
                required.push(name.clone());
            }
            fields.insert(name, json!({"items": header.get("schema")?}));
        }
        let documented = response.get("content").and_then(Value::as_object).filter(|_| has_body);
        for (name, media_type) in documented.into_iter().flatten() {
            content.insert(name.clone(), media_type.get("schema")?.clone());
        }
        let count = content.len().min(1);
        Some(json!({"properties": {
            "fields": {"properties": fields, "required": required, "additionalProperties": false},
            "content": {"properties": content, "minProperties": count, "additionalProperties": false},
        }}))
    }
}

/// Whether a path is one that a template means: segment by segment, a parameter being one segment that is not empty.
fn matches(template: &str, path: &str) -> bool {
    let (templates, segments) = (template.split('/'), path.split('/'));
    templates.clone().count() == segments.clone().count()
        && templates
            .zip(segments)
            .all(|(template, segment)| (template.starts_with('{') && !segment.is_empty()) || template == segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_documented_is_found() {
        let components = json!({
            "headers": {"Tag": {"required": true, "schema": {"const": "t"}}},
            "responses": {"NotFound": {"content": {"a/b": {"schema": {"const": 404}}}}, "MethodNotAllowed": {}},
        });
        let get = json!({"responses": {"200": {
            "headers": {"Tag": {"$ref": "#/components/headers/Tag"}, "Other": {"schema": {}}},
            "content": {"a/b": {"schema": {"const": 1}}},
        }}});
        let head = json!({"responses": {"200": {"content": {"a/b": {"schema": {}}}}}});
        let root = json!({"components": components, "paths": {"/x/{id}": {"get": get, "head": head}}});
        let document = Document { root, validators: Mutex::default() };
        let (body, tag) = (("content-type", "a/b"), ("tag", "t"));
        for (method, path, status, fields, body, good) in [
            ("GET", "/x/1", 200, &[body, tag, ("other", "o"), ("date", "d")][..], "1", true),
            ("GET", "/x/1", 200, &[body], "1", false),
            ("GET", "/x/1", 200, &[body, tag, ("tag", "u")], "1", false),
            ("GET", "/x/1", 200, &[body, tag, ("more", "o")], "1", false),
            ("GET", "/x/1", 200, &[body, tag], "2", false),
            ("GET", "/x/1", 200, &[body, tag], "<", false),
            ("GET", "/x/1", 200, &[tag], "", false),
            ("GET", "/x/1", 200, &[("content-type", "a/c"), tag], "1", false),
            ("GET", "/x/1", 201, &[body, tag], "1", false),
            ("HEAD", "/x/1", 200, &[body], "", true),
            ("HEAD", "/x/1", 200, &[body], "1", false),
            ("PUT", "/x/1", 405, &[], "", true),
            ("PUT", "/x/1", 404, &[body], "404", false),
            ("GET", "/x/", 404, &[body], "404", true),
            ("GET", "/x/1/y", 404, &[body], "405", false),
            ("GET", "/x", 405, &[], "", false),
        ] {
            let answer = Answer { method, path, status, fields, body };
            let found = document.undocumented(&answer).unwrap_or_default();
            assert_eq!(found.is_empty(), good, "{answer:?}: {found:?}");
        }
    }
}
