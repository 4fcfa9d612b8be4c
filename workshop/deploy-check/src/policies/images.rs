//! Images are pinned by digest, never `latest`, and a placeholder is refused where it would be deployed.

use super::pods::pods;
use crate::application::text;
use crate::render::{Overlay, Stage};
use crate::{Deployment, Finding};

/// A digest that no image has.
const PLACEHOLDER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

pub fn check(overlay: &Overlay) -> Vec<Finding> {
    let mut images: Vec<(Finding, String)> = Vec::new();
    for pod in pods(overlay) {
        for (path, container) in pod.containers() {
            let image = text(&container["image"]).to_owned();
            images.push((pod.object.finding(format!("{path}.image"), ""), image));
        }
    }
    for (kind, field) in [
        ("SpinApp", "spec.image"),
        ("SpinAppExecutor", "spec.deploymentConfig.spinImage"),
        ("Cluster", "spec.imageName"),
    ] {
        for object in overlay.of_kind(kind) {
            if let Some(image) = object.at(field).as_str() {
                images.push((object.finding(field, ""), image.to_owned()));
            }
        }
    }
    let has_image = overlay
        .of_kind("SpinAppExecutor")
        .any(|executor| executor.at("spec.deploymentConfig.spinImage").is_string());
    images
        .into_iter()
        .filter_map(|(finding, image)| {
            // A path in the executor's image, which is pinned itself.
            if image.starts_with('/') && has_image {
                return None;
            }
            let reason = fault(&image, overlay.stage)?;
            Some(Finding { reason, ..finding })
        })
        .collect()
}

fn fault(image: &str, stage: Stage) -> Option<String> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let tag = name
        .rsplit_once(':')
        .map(|(_, tag)| tag)
        .filter(|tag| !tag.contains('/'));
    if tag == Some("latest") || (tag.is_none() && digest.is_none()) {
        return Some(format!(
            "{image:?} is whatever is latest when a pod starts: pin it by digest"
        ));
    }
    match digest {
        None if stage == Stage::Laptop => None,
        None => Some(format!(
            "{image:?} has a tag, which can be moved: pin it by digest"
        )),
        Some(digest) if !is_digest(digest) => Some(format!(
            "{image:?}: a digest is sha256: and 64 hexadecimal digits"
        )),
        Some(digest) if stage == Stage::Production && digest.ends_with(PLACEHOLDER) => {
            Some(format!(
                "{image:?} has the placeholder for a digest: replace it with that of the image to deploy"
            ))
        }
        Some(_) => None,
    }
}

fn is_digest(digest: &str) -> bool {
    digest.strip_prefix("sha256:").is_some_and(|digits| {
        digits.len() == 64
            && digits
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Images that are named outside of kustomizations.
pub fn check_files(deployment: &Deployment) -> Vec<Finding> {
    let files = &deployment.files;
    let mut findings = Vec::new();
    for (file, content) in &files.containerfiles {
        let mut stages = Vec::new();
        for (n, line) in content.lines().enumerate() {
            let mut words = line.split_whitespace();
            if words.next() != Some("FROM") {
                continue;
            }
            let image = words.next().unwrap_or_default();
            let is_argument = image.starts_with("${");
            let is_pinned = image.split_once('@').is_some_and(|(_, d)| is_digest(d));
            if !is_argument && !is_pinned && !stages.contains(&image) {
                findings.push(Finding {
                    file: file.clone(),
                    object: "image".into(),
                    field: format!("line {}", n + 1),
                    reason: format!(
                        "FROM {image}: take it as an argument, which deploy/image/build sets by digest"
                    ),
                });
            }
            if let (Some("AS"), Some(name)) = (words.next(), words.next()) {
                stages.push(name);
            }
        }
        for (n, line) in content.lines().enumerate() {
            if let Some(argument) = line.strip_prefix("ARG ")
                && let Some((name, default)) = argument.split_once('=')
                && name.ends_with("_IMAGE")
                && !default.split_once('@').is_some_and(|(_, d)| is_digest(d))
            {
                findings.push(Finding {
                    file: file.clone(),
                    object: "image".into(),
                    field: format!("line {}", n + 1),
                    reason: format!("{name} has a default that can be moved: leave it without one"),
                });
            }
        }
    }
    let (file, values) = &files.valkey_values;
    let tag = text(&values["image"]["tag"]);
    if !tag.split_once('@').is_some_and(|(_, d)| is_digest(d)) {
        findings.push(Finding {
            file: file.clone(),
            object: "values".into(),
            field: "image.tag".into(),
            reason: format!("{tag:?} is not pinned: it must be VERSION@sha256:DIGEST"),
        });
    }
    findings
}
