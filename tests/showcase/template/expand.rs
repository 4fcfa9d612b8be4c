//! Expands a template of `templates/` as `spin new` does, without Spin: parameters from its metadata, every file of its
//! content as a Liquid template, `.tmpl` removed from names.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// `metadata/spin-template.toml`, version 1: what Spin rejects is rejected here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    manifest_version: String,
    #[serde(rename = "id")]
    _id: String,
    #[serde(rename = "description")]
    _description: String,
    #[serde(rename = "tags")]
    _tags: Vec<String>,
    #[serde(rename = "add_component")]
    _add_component: toml::Table,
    /// What Spin asks for.
    pub parameters: BTreeMap<String, Parameter>,
}

/// One of `[parameters]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "prompt")]
    _prompt: String,
    /// The value when none is given.
    pub default: String,
    /// The regular expression that values match.
    pub pattern: Option<String>,
}

/// Reads a template's metadata.
///
/// # Errors
/// Spin could not read them.
pub fn metadata(template: &Path) -> Result<Metadata> {
    let file = template.join("metadata/spin-template.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let metadata: Metadata = toml::from_str(&text)?;
    ensure!(metadata.manifest_version == "1", "manifest_version must be 1");
    for (name, parameter) in &metadata.parameters {
        ensure!(parameter.kind == "string", "{name}: type must be string");
    }
    Ok(metadata)
}

/// Expands a template into a folder. Parameters that are not in `values` have their defaults.
///
/// # Errors
/// A value without a parameter, or a file that is not a valid template.
pub fn expand(template: &Path, into: &Path, name: &str, values: &[(&str, &str)]) -> Result<()> {
    let metadata = metadata(template)?;
    let mut globals = liquid::object!({"project-name": name, "authors": "", "username": ""});
    for (parameter, Parameter { default, .. }) in &metadata.parameters {
        globals.insert(parameter.clone().into(), liquid::model::Value::scalar(default.clone()));
    }
    for (parameter, value) in values {
        if !metadata.parameters.contains_key(*parameter) {
            bail!("the template has no parameter {parameter}");
        }
        globals.insert((*parameter).to_owned().into(), liquid::model::Value::scalar((*value).to_owned()));
    }
    let parser = liquid::ParserBuilder::with_stdlib().build()?;
    expand_folder(&template.join("content"), into, &parser, &globals)
}

fn expand_folder(from: &Path, into: &Path, parser: &liquid::Parser, globals: &liquid::Object) -> Result<()> {
    fs::create_dir_all(into)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.context("a name that is not UTF-8")?;
        if path.is_dir() {
            expand_folder(&path, &into.join(name), parser, globals)?;
            continue;
        }
        let expanded = parser
            .parse(&fs::read_to_string(&path)?)
            .and_then(|template| template.render(globals))
            .with_context(|| format!("expanding {}", path.display()))?;
        let name = name.strip_suffix(".tmpl").unwrap_or(name);
        fs::write(into.join(name), expanded)?;
    }
    Ok(())
}
