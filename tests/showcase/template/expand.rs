//! Expands a template of `templates/` as `spin new` does, without Spin: parameters from its metadata, every file of its
//! content as a Liquid template, `.tmpl` removed from names.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use liquid::model::Value;
use regex::Regex;
use serde::Deserialize;

/// `metadata/spin-template.toml`, version 1: what Spin rejects is rejected here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "read so that nothing else is there")]
struct Metadata {
    manifest_version: String,
    id: String,
    description: String,
    tags: Vec<String>,
    add_component: toml::Table,
    /// What Spin asks for.
    parameters: BTreeMap<String, Parameter>,
}

/// One of `[parameters]`: a string, with its default, and the regular expression that values match.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "read so that nothing else is there")]
struct Parameter {
    #[serde(rename = "type")]
    kind: String,
    prompt: String,
    default: String,
    pattern: Option<String>,
}

/// Reads a template's metadata.
fn metadata(template: &Path) -> Metadata {
    let text = fs::read_to_string(template.join("metadata/spin-template.toml")).unwrap();
    let metadata: Metadata = toml::from_str(&text).unwrap();
    assert_eq!(metadata.manifest_version, "1");
    for Parameter { kind, default, pattern, .. } in metadata.parameters.values() {
        let is_allowed = pattern.as_ref().is_none_or(|pattern| Regex::new(pattern).unwrap().is_match(default));
        assert!(kind == "string" && is_allowed, "{default}");
    }
    metadata
}

/// Expands a template into a folder. Parameters that are not in `values` have their defaults.
pub fn expand(template: &Path, into: &Path, name: &str, values: &[(&str, &str)]) {
    let metadata = metadata(template);
    let mut globals = liquid::object!({"project-name": name, "authors": "", "username": ""});
    for (parameter, Parameter { default, .. }) in &metadata.parameters {
        globals.insert(parameter.clone().into(), Value::scalar(default.clone()));
    }
    for (parameter, value) in values {
        assert!(metadata.parameters.contains_key(*parameter), "the template has no parameter {parameter}");
        globals.insert((*parameter).to_owned().into(), Value::scalar((*value).to_owned()));
    }
    expand_folder(&template.join("content"), into, &liquid::ParserBuilder::with_stdlib().build().unwrap(), &globals);
}

/// A text with these values.
pub fn render(text: &str, values: &[(&str, &str)]) -> String {
    let scalar = |(name, value): &(&str, &str)| ((*name).to_owned().into(), Value::scalar((*value).to_owned()));
    let globals: liquid::Object = values.iter().map(scalar).collect();
    let parser = liquid::ParserBuilder::with_stdlib().build().unwrap();
    parser.parse(text).and_then(|text| text.render(&globals)).unwrap()
}

fn expand_folder(from: &Path, into: &Path, parser: &liquid::Parser, globals: &liquid::Object) {
    fs::create_dir_all(into).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            expand_folder(&path, &into.join(name), parser, globals);
            continue;
        }
        let expanded = parser.parse(&fs::read_to_string(&path).unwrap()).and_then(|file| file.render(globals));
        let name = name.strip_suffix(".tmpl").unwrap_or(name);
        fs::write(into.join(name), expanded.unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap();
    }
}
