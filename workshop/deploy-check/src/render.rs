//! Renders the kustomizations below deploy/ with kubectl, and says of each object which file it is from.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::tools::Tools;

/// The annotation of a kustomization that says what it is for.
const STAGE: &str = "deploy-check/stage";
/// Kustomize notes here where an object comes from, if asked to.
const ORIGIN: &str = "config.kubernetes.io/origin";

/// One rendered object, or what rules are about in its place.
#[derive(Clone, Debug)]
pub struct Object {
    /// The file it is from, or the kustomization if a generator made it; relative to the checkout.
    pub file: String,
    /// What its kustomization is for: `template` (to be copied, with placeholders), `production` or `laptop`.
    pub stage: String,
    /// The object, without what only rendering added.
    pub value: Value,
}

/// A rendered kustomization.
#[derive(Clone)]
pub struct Overlay {
    /// Its folder, relative to the checkout.
    pub folder: String,
    pub kustomization: Object,
    pub objects: Vec<Object>,
}

impl Object {
    pub fn kind(&self) -> &str {
        text(&self.value["kind"])
    }

    pub fn name(&self) -> &str {
        text(&self.value["metadata"]["name"])
    }

    /// What is at a path; see [`at`].
    pub fn at(&self, path: &str) -> &Value {
        at(&self.value, path)
    }

    /// A line about what is wrong: file, object, field (or the name of a rule of Checkov) and reason.
    pub fn finding(&self, field: &str, reason: &str) -> String {
        format!("{}: {}/{}: {field}: {reason}", self.file, self.kind(), self.name())
    }

    /// Another object of the same name, from the same file.
    pub fn derive(&self, kind: &str, mut value: Value) -> Self {
        value["kind"] = kind.into();
        value["metadata"] = self.value["metadata"].clone();
        Self { value, ..self.clone() }
    }
}

impl Overlay {
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Object> {
        self.objects.iter().filter(move |object| object.kind() == kind)
    }
}

/// What is at a path such as `spec.containers.0.image`; `Null` if nothing is.
pub fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, child)
}

/// A member of an object; of a list, the element with a number or a `name`. `Null` if it is not there.
pub fn child<'a>(value: &'a Value, name: &str) -> &'a Value {
    let child = match (value, name.parse::<usize>()) {
        (Value::Array(list), Ok(index)) => list.get(index),
        (Value::Array(list), Err(_)) => list.iter().find(|element| element["name"] == name),
        _ => value.get(name),
    };
    child.unwrap_or(&Value::Null)
}

/// The elements of a list; none if it is not one.
pub fn elements(list: &Value) -> std::slice::Iter<'_, Value> {
    list.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

/// A string; empty if it is not one.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Reads one YAML document.
pub fn yaml(text: &str) -> Result<Value> {
    serde_saphyr::from_str(text).map_err(|error| anyhow!("{error}"))
}

/// Renders every kustomization below deploy/ that is more than a part of others. Kustomizations that do not
/// say their stage are findings.
pub fn render_all(root: &Path, tools: &Tools) -> Result<(Vec<Overlay>, Vec<String>)> {
    let (mut overlays, mut findings) = (Vec::new(), Vec::new());
    for folder in kustomizations(&root.join("deploy"))? {
        let folder = folder.strip_prefix(root)?.display().to_string();
        let file = format!("{folder}/kustomization.yaml");
        let value = yaml(&std::fs::read_to_string(root.join(&file))?).context(file.clone())?;
        let stage = text(&at(&value, "metadata.annotations")[STAGE]).to_owned();
        if value["kind"] == "Component" || stage == "part" {
            continue;
        }
        let kustomization = Object { file, stage, value };
        let stage = &*kustomization.stage;
        if !["template", "production", "laptop"].contains(&stage) {
            let reason = format!("must be part, template, production or laptop, not {stage:?}");
            findings.push(kustomization.finding(&format!("metadata.annotations.{STAGE}"), &reason));
            continue;
        }
        let objects = render(root, tools, &folder)?.into_iter();
        let objects = objects.map(|value| object(&folder, stage, value)).collect();
        overlays.push(Overlay { folder, kustomization, objects });
    }
    ensure!(!overlays.is_empty(), "there is no kustomization in deploy/");
    Ok((overlays, findings))
}

fn render(root: &Path, tools: &Tools, folder: &str) -> Result<Vec<Value>> {
    // A kustomization around it notes origins, which a cluster never sees. Kustomize takes relative paths only.
    let around = tools.scratch.join("render").join(folder);
    std::fs::create_dir_all(&around)?;
    let up = "../".repeat(around.canonicalize()?.iter().count() - 1);
    let inside = root.canonicalize()?.join(folder).display().to_string();
    let text = format!("resources: [{up}.{inside}]\nbuildMetadata: [originAnnotations]\n");
    std::fs::write(around.join("kustomization.yaml"), text)?;
    let mut kubectl = tools.environment.command("kubectl");
    let output = kubectl.arg("kustomize").arg(&around).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{folder}/kustomization.yaml cannot be rendered: {}", error.trim());
    let documents: Vec<Value> = serde_saphyr::from_multiple(&String::from_utf8(output.stdout)?)
        .map_err(|error| anyhow!("reading what kubectl rendered of {folder}: {error}"))?;
    std::fs::remove_dir_all(&around)?;
    Ok(documents)
}

fn object(folder: &str, stage: &str, mut value: Value) -> Object {
    let annotations = value["metadata"]["annotations"].as_object_mut();
    let origin = annotations.and_then(|annotations| annotations.remove(ORIGIN)).unwrap_or_default();
    let path = text(&origin).lines().find_map(|line| line.strip_prefix("path: "));
    let file = match path.and_then(|path| path.rsplit_once("deploy/")) {
        None => format!("{folder}/kustomization.yaml"),
        Some((_, path)) if format!("deploy/{path}").starts_with(&format!("{folder}/")) => format!("deploy/{path}"),
        // A patch of the overlay may have the last word, so the overlay is named, too.
        Some((_, path)) => format!("deploy/{path} (in {folder})"),
    };
    let stage = stage.to_owned();
    Object { file, stage, value }
}

fn kustomizations(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if folder.join("kustomization.yaml").exists() {
        found.push(folder.to_owned());
    }
    let entries = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    for folder in folders {
        found.extend(kustomizations(&folder)?);
    }
    Ok(found)
}
