//! Renders the kustomizations below deploy/ with kubectl, and says of each object which file it is from.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Finding;
use crate::tools::Tools;

/// What a kustomization is for; its annotation `deploy-check/stage` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// To be copied: placeholders are allowed.
    Template,
    /// Deployed: placeholders are rejected.
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
        text(&self.value["kind"])
    }

    /// Its name.
    pub fn name(&self) -> &str {
        text(&self.value["metadata"]["name"])
    }

    /// What is at a path; see [`at`].
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
        self.objects.iter().filter(move |object| object.kind() == kind)
    }

    /// A finding about the whole.
    pub fn finding(&self, field: &str, reason: impl Into<String>) -> Finding {
        Finding {
            file: format!("{}/kustomization.yaml", self.folder),
            object: "Kustomization".into(),
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// What is at a path such as `spec.containers.0.image`; `Null` if nothing is.
pub fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, name| match name.parse::<usize>() {
        Ok(index) => value.get(index).unwrap_or(&Value::Null),
        Err(_) => &value[name],
    })
}

/// The elements of a list; none if it is not one.
pub fn elements(list: &Value) -> std::slice::Iter<'_, Value> {
    list.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

/// A string; empty if it is not one.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Renders every kustomization below deploy/ that is more than a part of others. Kustomizations that do not
/// say their stage are findings.
///
/// # Errors
/// kubectl cannot be run, or rejects a kustomization; its message names the file.
pub fn render_all(root: &Path, tools: &Tools) -> Result<(Vec<Overlay>, Vec<Finding>)> {
    let (mut overlays, mut findings) = (Vec::new(), Vec::new());
    for folder in kustomizations(&root.join("deploy"))? {
        let kustomization = read_yaml(&folder.join("kustomization.yaml"))?;
        let name = relative(root, &folder);
        let annotated = &kustomization["metadata"]["annotations"][STAGE];
        let stage = match text(annotated) {
            _ if kustomization["kind"] == "Component" => continue,
            "part" => continue,
            "template" => Stage::Template,
            "production" => Stage::Production,
            "laptop" => Stage::Laptop,
            _ => {
                findings.push(Finding {
                    file: format!("{name}/kustomization.yaml"),
                    object: "Kustomization".into(),
                    field: format!("metadata.annotations.{STAGE}"),
                    reason: format!("must be part, template, production or laptop, not {annotated}"),
                });
                continue;
            }
        };
        overlays.push(render(root, tools, &name, stage)?);
    }
    ensure!(!overlays.is_empty(), "there is no kustomization in deploy/");
    Ok((overlays, findings))
}

/// Renders one kustomization.
///
/// # Errors
/// As [`render_all`].
pub fn render(root: &Path, tools: &Tools, folder: &str, stage: Stage) -> Result<Overlay> {
    // A kustomization around it notes origins, which a cluster never sees.
    let around = tools.scratch.join("render").join(folder);
    std::fs::create_dir_all(&around)?;
    let (from, to) = (around.canonicalize()?, root.canonicalize()?.join(folder));
    let common = from.iter().zip(to.iter()).take_while(|(a, b)| a == b).count();
    let up: PathBuf = from.iter().skip(common).map(|_| "..").collect();
    let inside = up.join(to.iter().skip(common).collect::<PathBuf>());
    let text = format!(
        "resources: [{}]\nbuildMetadata: [originAnnotations]\n",
        inside.display()
    );
    std::fs::write(around.join("kustomization.yaml"), text)?;
    let output = tools.kubectl().arg("kustomize").arg(&around).output();
    let output = output.context("running kubectl")?;
    ensure!(
        output.status.success(),
        "{folder}/kustomization.yaml cannot be rendered: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let documents: Vec<Value> = serde_saphyr::from_multiple(&String::from_utf8(output.stdout)?)
        .map_err(|error| anyhow::anyhow!("reading what kubectl rendered of {folder}: {error}"))?;
    std::fs::remove_dir_all(&around)?;
    let objects = documents.into_iter();
    let objects = objects.map(|value| object(root, &from, folder, value));
    Ok(Overlay {
        folder: folder.to_owned(),
        stage,
        objects: objects.collect(),
    })
}

fn object(root: &Path, around: &Path, folder: &str, mut value: Value) -> Object {
    let origin = value["metadata"]["annotations"]
        .as_object_mut()
        .and_then(|annotations| annotations.remove(ORIGIN));
    let origin = origin.as_ref().map(text).unwrap_or_default();
    let path = origin.lines().find_map(|line| line.strip_prefix("path: "));
    // The folder around is gone, so the path is made absolute by its words.
    let path = path.map(|path| {
        let mut absolute = around.to_owned();
        for word in Path::new(path) {
            match word == ".." {
                true => drop(absolute.pop()),
                false => absolute.push(word),
            }
        }
        relative(&root.canonicalize().unwrap_or_default(), &absolute)
    });
    let file = match path {
        None => format!("{folder}/kustomization.yaml"),
        Some(path) if path.starts_with(&format!("{folder}/")) => path,
        // A patch of the overlay may have the last word, so the overlay is named, too.
        Some(path) => format!("{path} (in {folder})"),
    };
    Object { file, value }
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

/// Reads a file of one YAML document.
///
/// # Errors
/// It cannot be read, or is not YAML; the message names it.
pub fn read_yaml(file: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))
}

fn relative(root: &Path, path: &Path) -> String {
    let path = path.strip_prefix(root).unwrap_or(path);
    path.display().to_string()
}
