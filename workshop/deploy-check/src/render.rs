//! Renders the kustomizations below deploy/ with kubectl, and says of each object which file it is from.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::Finding;
use crate::tools::Tools;

/// What a kustomization is for; its annotation `deploy-check/stage` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Part of others, never deployed by itself.
    Part,
    /// To be copied: placeholders are allowed.
    Template,
    /// Deployed: placeholders are refused.
    Production,
    /// For trying it on one machine.
    Laptop,
}

const STAGE: &str = "deploy-check/stage";
/// Kustomize notes here where an object comes from, if asked to.
const ORIGIN: &str = "config.kubernetes.io/origin";

/// One rendered object.
#[derive(Clone, Debug)]
pub struct Object {
    /// The file it is from, or the kustomization if a generator made it; relative to the checkout.
    pub file: String,
    /// The object, without what only rendering added.
    pub value: Value,
}

/// A rendered kustomization.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// Its folder, relative to the checkout.
    pub folder: String,
    /// What it is for.
    pub stage: Stage,
    /// What it deploys.
    pub objects: Vec<Object>,
}

impl Object {
    /// Its kind, such as `Deployment`.
    pub fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// What is at a path such as `spec.template.spec`; `Null` if nothing is.
    pub fn at(&self, path: &str) -> &Value {
        at(&self.value, path)
    }

    /// A finding about one of its fields.
    pub fn finding(&self, field: impl Into<String>, reason: impl Into<String>) -> Finding {
        Finding {
            file: self.file.clone(),
            object: format!("{}/{}", self.kind(), self.name()),
            field: field.into(),
            reason: reason.into(),
        }
    }
}

impl Overlay {
    /// The objects of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Object> {
        self.objects
            .iter()
            .filter(move |object| object.kind() == kind)
    }

    /// A finding about the whole.
    pub fn finding(&self, field: impl Into<String>, reason: impl Into<String>) -> Finding {
        Finding {
            file: format!("{}/kustomization.yaml", self.folder),
            object: "Kustomization".into(),
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// Whether placeholders and shortcuts that a laptop may take are refused or at least marked.
    pub fn is_for_a_cluster(&self) -> bool {
        matches!(self.stage, Stage::Template | Stage::Production)
    }
}

/// What is at a path such as `spec.template.spec`; `Null` if nothing is.
pub fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, name| &value[name])
}

/// Renders every kustomization below deploy/ that is more than a part of others. Kustomizations that do not
/// say their stage are findings.
///
/// # Errors
/// kubectl cannot be run, or refuses a kustomization; its message names the file.
pub fn render_all(root: &Path, tools: &Tools) -> Result<(Vec<Overlay>, Vec<Finding>)> {
    let mut overlays = Vec::new();
    let mut findings = Vec::new();
    for folder in kustomizations(&root.join("deploy"))? {
        let file = folder.join("kustomization.yaml");
        let kustomization = read_yaml(&file)?;
        if kustomization["kind"] == "Component" {
            continue;
        }
        let name = relative(root, &folder);
        let stage = match kustomization["metadata"]["annotations"][STAGE].as_str() {
            Some("part") => continue,
            Some("template") => Stage::Template,
            Some("production") => Stage::Production,
            Some("laptop") => Stage::Laptop,
            other => {
                findings.push(Finding {
                    file: relative(root, &file),
                    object: "Kustomization".into(),
                    field: format!("metadata.annotations.{STAGE}"),
                    reason: format!(
                        "must be part, template, production or laptop, not {}",
                        other.unwrap_or("missing")
                    ),
                });
                continue;
            }
        };
        overlays.push(render(root, tools, &name, stage)?);
    }
    ensure!(!overlays.is_empty(), "there is no kustomization in deploy/");
    Ok((overlays, findings))
}

fn render(root: &Path, tools: &Tools, folder: &str, stage: Stage) -> Result<Overlay> {
    // A kustomization around it has origins noted without that ending up in a cluster.
    let around = root.join("target/deploy-tools/render").join(folder);
    std::fs::create_dir_all(&around)?;
    let up = "../".repeat(3 + Path::new(folder).components().count());
    std::fs::write(
        around.join("kustomization.yaml"),
        format!("resources: [{up}{folder}]\nbuildMetadata: [originAnnotations]\n"),
    )?;
    let output = Command::new(&tools.kubectl)
        .arg("kustomize")
        .arg(&around)
        .output()
        .with_context(|| format!("running {}", tools.kubectl.display()))?;
    if !output.status.success() {
        bail!(
            "{folder}/kustomization.yaml cannot be rendered: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let text = String::from_utf8(output.stdout)?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
        .map_err(|error| anyhow::anyhow!("reading what kubectl rendered of {folder}: {error}"))?;
    let objects = documents
        .into_iter()
        .map(|value| object(root, &around, folder, value))
        .collect();
    Ok(Overlay {
        folder: folder.to_owned(),
        stage,
        objects,
    })
}

fn object(root: &Path, around: &Path, folder: &str, mut value: Value) -> Object {
    let annotations = value["metadata"]["annotations"].as_object_mut();
    let origin = annotations.and_then(|annotations| annotations.remove(ORIGIN));
    if value["metadata"]["annotations"]
        .as_object()
        .is_some_and(serde_json::Map::is_empty)
        && let Some(metadata) = value["metadata"].as_object_mut()
    {
        metadata.remove("annotations");
    }
    let path = origin
        .as_ref()
        .and_then(Value::as_str)
        .and_then(|origin| {
            let path = origin
                .lines()
                .find_map(|line| line.strip_prefix("path: "))?;
            let path = around.join(path).canonicalize().ok()?;
            Some(relative(&root.canonicalize().ok()?, &path))
        })
        .unwrap_or_else(|| format!("{folder}/kustomization.yaml"));
    // A patch of the overlay's may have the last word, so the overlay is named, too.
    let file = if path.starts_with(&format!("{folder}/")) {
        path
    } else {
        format!("{path} (in {folder})")
    };
    Object { file, value }
}

fn kustomizations(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if folder.join("kustomization.yaml").exists() {
        found.push(folder.to_owned());
    }
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("reading {}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    entries.sort();
    for entry in entries {
        found.extend(kustomizations(&entry)?);
    }
    Ok(found)
}

/// Reads a file of one YAML document.
///
/// # Errors
/// It cannot be read, or is not YAML; the message names it.
pub fn read_yaml(file: &Path) -> Result<Value> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))
}

/// A path relative to the checkout.
pub fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root)
        .unwrap_or(path)
        .display()
        .to_string()
}
