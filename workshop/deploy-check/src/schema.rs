//! Validates objects: Kubernetes' own kinds with its strict schemas, custom resources with those in
//! deploy/schemas/.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jsonschema::{Registry, Validator};
use serde_json::Value;

use crate::Finding;
use crate::render::{Object, Overlay};
use crate::tools::Tools;

/// The oldest and the newest version of Kubernetes that the manifests are for.
const VERSIONS: [&str; 2] = ["1.34", "1.37"];
const DEFINITIONS: &str = "_definitions.json";

/// Holds every object of the overlays against its schema.
///
/// # Errors
/// A schema file that cannot be read or is none.
pub fn check(root: &Path, tools: &Tools, overlays: &[Overlay]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for version in VERSIONS {
        let folder = tools.schemas.join(format!("v{version}.0-local-strict"));
        let definitions = read(&folder.join(DEFINITIONS))?;
        let registry = Registry::new()
            .add("https://kubernetes.io/api/_definitions.json", definitions)?
            .prepare()?;
        let mut validators: HashMap<PathBuf, Validator> = HashMap::new();
        for object in overlays.iter().flat_map(|overlay| &overlay.objects) {
            let (file, of) = match schema_file(root, &folder, object) {
                Schema::Kubernetes(file) => (file, format!("Kubernetes {version}")),
                Schema::Ours(file) => (file, "deploy/schemas".to_owned()),
            };
            if !file.exists() {
                findings.push(object.finding(
                    "kind",
                    format!(
                        "{} {} is neither in Kubernetes {version} nor in deploy/schemas",
                        object.value["apiVersion"].as_str().unwrap_or("?"),
                        object.kind()
                    ),
                ));
                continue;
            }
            if !validators.contains_key(&file) {
                let validator = jsonschema::options()
                    .with_registry(&registry)
                    .build(&read(&file)?)
                    .map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
                validators.insert(file.clone(), validator);
            }
            if let Some(validator) = validators.get(&file) {
                findings.extend(validator.iter_errors(&object.value).map(|error| {
                    let field = error.instance_path().to_string();
                    let field = field.trim_start_matches('/').replace('/', ".");
                    object.finding(field, format!("{error} ({of})"))
                }));
            }
        }
    }
    Ok(findings)
}

enum Schema {
    Kubernetes(PathBuf),
    Ours(PathBuf),
}

fn schema_file(root: &Path, kubernetes: &Path, object: &Object) -> Schema {
    let kind = object.kind().to_lowercase();
    let api_version = object.value["apiVersion"].as_str().unwrap_or_default();
    let ours = root.join("deploy/schemas").join(format!(
        "{}_{}.json",
        api_version.replace('/', "_"),
        object.kind()
    ));
    if ours.exists() {
        return Schema::Ours(ours);
    }
    let name = match api_version.split_once('/') {
        // The files carry the first label of the group's domain only.
        Some((group, version)) => {
            let group = group.split('.').next().unwrap_or(group);
            format!("{kind}-{group}-{version}.json")
        }
        None => format!("{kind}-{api_version}.json"),
    };
    Schema::Kubernetes(kubernetes.join(name))
}

fn read(file: &Path) -> Result<Value> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))
}
