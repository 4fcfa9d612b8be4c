//! The rules of rules.yaml: about one member of one object, in JSON Schema.

use anyhow::{Context, Result, anyhow};
use jsonschema::Validator;
use serde_json::Value;

use super::{Findings, is_workload};
use crate::render::{Object, child, elements, text, yaml};

/// What a member must be; see the head of rules.yaml.
pub struct Rule {
    of: Vec<String>,
    at: String,
    only: String,
    must: Validator,
    why: String,
}

/// Reads rules.yaml.
pub fn load() -> Result<Vec<Rule>> {
    let rules = yaml(include_str!("rules.yaml")).context("rules.yaml")?;
    let rule = |rule: &Value| {
        let must = jsonschema::validator_for(&rule["must"]).map_err(|error| anyhow!("{rule}: {error}"))?;
        Ok(Rule {
            of: elements(&rule["of"]).map(|kind| text(kind).to_owned()).collect(),
            at: text(&rule["at"]).to_owned(),
            only: text(&rule["only"]).to_owned(),
            must,
            why: text(&rule["why"]).to_owned(),
        })
    };
    elements(&rules).map(rule).collect()
}

impl Rule {
    /// Adds a finding for each member that is not as it must be.
    pub fn check(&self, found: &mut Findings, object: &Object, is_restricted: bool) {
        let is_meant = match self.only.as_str() {
            "production" => object.stage == "production",
            "shared" => object.stage != "laptop",
            "restricted" => is_restricted,
            _ => true,
        };
        let name = format!("{}/{}", object.kind(), object.name());
        let is_of = |of: &String| *of == object.kind() || *of == name || (of == "Workload" && is_workload(object));
        if !is_meant || !(self.of.is_empty() || self.of.iter().any(is_of)) {
            return;
        }
        let words: Vec<&str> = self.at.split(' ').collect();
        let mut members = Vec::new();
        select(&object.value, &words, "", &mut members);
        for (field, value) in members.into_iter().filter(|(_, value)| !self.must.is_valid(value)) {
            let value = match value {
                Value::Null => "missing".to_owned(),
                Value::Object(_) | Value::Array(_) => "here".to_owned(),
                value => value.to_string(),
            };
            found.when(true, object, field, format!("{value}: {}", self.why));
        }
    }
}

/// The members at a path. One that is named in full is there as `Null` if it is missing.
fn select<'a>(value: &'a Value, words: &[&str], path: &str, found: &mut Vec<(String, &'a Value)>) {
    let join = |name: &str| format!("{path}.{name}").trim_start_matches('.').to_owned();
    let Some((first, rest)) = words.split_first() else {
        return found.push((path.to_owned(), value));
    };
    if !first.starts_with('*') {
        for name in first.split('|') {
            select(child(value, name), rest, &join(name), found);
        }
        return;
    }
    let list = elements(value).enumerate().map(|(n, element)| (n.to_string(), element));
    let members = value.as_object().into_iter().flatten();
    for (name, value) in list.chain(members.map(|(name, member)| (name.clone(), member))) {
        let is_named = rest.first().is_some_and(|names| names.split('|').any(|n| n == name));
        let words = match *first {
            "*" => rest,
            _ if is_named => rest.get(1..).unwrap_or_default(),
            _ => words,
        };
        select(value, words, &join(&name), found);
    }
}
