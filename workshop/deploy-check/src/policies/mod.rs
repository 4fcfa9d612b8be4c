//! What no validator can know: the rules that follow from this application, its variables, its stores and its shutdown.

mod application;
mod network;
mod observability;
mod pods;
mod stores;

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::Finding;
use crate::render::{Object, Overlay, Stage, read_yaml, text};
use application::Application;

/// Files that no kustomization includes.
#[derive(Clone, Debug)]
pub struct Files {
    /// `spin.toml`
    pub manifest: Value,
    /// Containerfiles: name and text.
    pub containerfiles: Vec<(&'static str, String)>,
    /// The values for the chart of Valkey.
    pub valkey_values: Value,
    /// What operators read about alerts.
    pub operations: String,
    /// The runtime configuration of the image.
    pub runtime: Value,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// One cannot be read or is malformed.
    pub fn load(root: &Path) -> Result<Self> {
        let read = |name| std::fs::read_to_string(root.join(name)).context(name);
        let toml = |name| toml::from_str(&read(name)?).context(name);
        let container = |name| Ok::<_, anyhow::Error>((name, read(name)?));
        Ok(Self {
            manifest: toml("spin.toml")?,
            containerfiles: vec![
                container("deploy/image/Containerfile")?,
                container("deploy/image/migrator.Containerfile")?,
            ],
            valkey_values: read_yaml(&root.join(VALKEY))?,
            operations: read("docs/operations.md")?,
            runtime: toml("deploy/image/runtime-config.toml")?,
        })
    }
}

const VALKEY: &str = "deploy/stores/valkey/values.yaml";

/// Collects what is wrong.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    /// Adds a finding if it `is_wrong`.
    fn when(&mut self, is_wrong: bool, object: &Object, field: &str, reason: impl Into<String>) {
        if is_wrong {
            self.0.push(object.finding(field, reason));
        }
    }
}

/// Applies every policy.
pub fn check(files: &Files, overlays: &[Overlay]) -> Vec<Finding> {
    let mut found = Findings::default();
    outside(&mut found, files);
    for overlay in overlays {
        images(&mut found, overlay);
        pods::check(&mut found, overlay);
        observability::check(&mut found, files, overlay);
        stores::check(&mut found, overlay);
        let application = Application::of(files, overlay);
        network::check(&mut found, overlay, application.as_ref());
        if let Some(application) = application {
            application.check(&mut found, files);
            stores::capacity(&mut found, files, overlays, &application);
        } else if overlay.folder.starts_with("deploy/overlays/") {
            let reason = "has neither a SpinApp nor a Deployment that sets SPIN_VARIABLE_...";
            found.0.push(overlay.finding("resources", reason));
        }
    }
    found.0
}

/// Images are pinned by digest, and a placeholder is rejected where it would be deployed. Checkov knows neither what a
/// digest
/// looks like, nor custom resources, nor stages.
fn images(found: &mut Findings, overlay: &Overlay) {
    let mut executors = overlay.of_kind("SpinAppExecutor");
    let has_image = executors.any(|o| o.at("spec.deploymentConfig.spinImage").is_string());
    for object in &overlay.objects {
        let paths = match object.kind() {
            "SpinApp" => vec!["spec.image".to_owned()],
            "SpinAppExecutor" => vec!["spec.deploymentConfig.spinImage".to_owned()],
            "Cluster" => vec!["spec.imageName".to_owned()],
            _ => pods::containers(object).map(|(path, _)| path + ".image").collect(),
        };
        for path in paths {
            let image = text(object.at(&path));
            let digest = image.split_once('@').map(|(_, digest)| digest);
            // A path in the image of the executor is pinned by that image.
            if (image.starts_with('/') && has_image) || (image.is_empty() && object.kind() != "SpinApp") {
                continue;
            }
            let is_moving = digest.is_none() && overlay.stage != Stage::Laptop;
            found.when(
                is_moving,
                object,
                &path,
                format!("{image:?} can be moved: pin it by digest"),
            );
            let is_digest = digest.is_none_or(is_digest);
            let reason = format!("{image:?}: a digest is sha256: and 64 hexadecimal digits");
            found.when(!is_digest, object, &path, reason);
            let is_placeholder = digest.is_some_and(|digest| digest.ends_with(&"0".repeat(64)));
            let reason = format!("{image:?} has the placeholder for a digest: replace it with that of the image");
            found.when(
                is_placeholder && overlay.stage == Stage::Production,
                object,
                &path,
                reason,
            );
        }
    }
}

fn is_digest(digest: &str) -> bool {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let digits = digest.strip_prefix("sha256:");
    digits.is_some_and(|digits| digits.len() == 64 && digits.bytes().all(is_hex))
}

/// Images that are named outside of kustomizations.
fn outside(found: &mut Findings, files: &Files) {
    let is_pinned = |image: &str| image.split_once('@').is_some_and(|(_, digest)| is_digest(digest));
    let mut find = |file: &str, field: String, reason: String| {
        found.0.push(Finding {
            file: file.into(),
            object: "image".into(),
            field,
            reason,
        });
    };
    for (file, content) in &files.containerfiles {
        for (n, line) in content.lines().enumerate() {
            let from = line.strip_prefix("FROM ").unwrap_or("${");
            if !from.starts_with("${") && !is_pinned(from) {
                let reason = format!("{line}: take it as an argument, which deploy/image/build sets by digest");
                find(file, format!("line {}", n + 1), reason);
            }
            let argument = line.strip_prefix("ARG ").and_then(|argument| argument.split_once('='));
            if argument.is_some_and(|(name, image)| name.ends_with("_IMAGE") && !is_pinned(image)) {
                let reason = format!("{line}: has a default that can be moved: leave it without one");
                find(file, format!("line {}", n + 1), reason);
            }
        }
    }
    let tag = text(&files.valkey_values["image"]["tag"]);
    if !is_pinned(tag) {
        let reason = format!("{tag:?} is not pinned: it must be VERSION@sha256:DIGEST");
        find(VALKEY, "image.tag".into(), reason);
    }
}
