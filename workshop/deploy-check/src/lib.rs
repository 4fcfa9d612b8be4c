//! Checks `deploy/` without a cluster: renders every overlay, validates it against schemas, and holds it
//! against the policies in [`policies`]. Every finding says file, object, field and reason.

#![allow(
    clippy::indexing_slicing,
    reason = "JSON values are indexed by name only, which gives Null where nothing is"
)]

pub mod application;
pub mod policies;
pub mod render;
pub mod schema;
pub mod tools;

use std::fmt;
use std::path::Path;

use anyhow::Result;

use application::Manifest;
use render::Overlay;
use tools::Tools;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file to change, relative to the checkout.
    pub file: String,
    /// `Kind/name`
    pub object: String,
    /// The field, as a path.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            object,
            field,
            reason,
        } = self;
        write!(f, "{file}: {object}: {field}: {reason}")
    }
}

/// What policies look at.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// `spin.toml`
    pub manifest: Manifest,
    /// Every rendered kustomization.
    pub overlays: Vec<Overlay>,
    /// What is not a kustomization.
    pub files: policies::Files,
}

/// What was checked, and what is wrong.
#[derive(Debug)]
pub struct Report {
    /// The kustomizations that were rendered.
    pub overlays: Vec<String>,
    /// How many objects they have.
    pub objects: usize,
    /// What is wrong; empty if nothing is.
    pub findings: Vec<Finding>,
}

/// Renders what is in `deploy/` of a checkout.
///
/// # Errors
/// A file that cannot be read, or a kustomization that kubectl refuses.
pub fn load(root: &Path, tools: &Tools) -> Result<(Deployment, Vec<Finding>)> {
    let (overlays, findings) = render::render_all(root, tools)?;
    let deployment = Deployment {
        manifest: Manifest::load(root)?,
        overlays,
        files: policies::Files::load(root)?,
    };
    Ok((deployment, findings))
}

/// Does all of it.
///
/// # Errors
/// As [`load`]; a schema that cannot be read.
pub fn check(root: &Path, tools: &Tools) -> Result<Report> {
    let (deployment, mut findings) = load(root, tools)?;
    findings.extend(schema::check(root, tools, &deployment.overlays)?);
    findings.extend(policies::check(&deployment));
    // Two versions of Kubernetes say many things twice.
    let mut distinct = Vec::new();
    for finding in findings {
        if !distinct.contains(&finding) {
            distinct.push(finding);
        }
    }
    Ok(Report {
        objects: deployment.overlays.iter().map(|o| o.objects.len()).sum(),
        overlays: deployment.overlays.into_iter().map(|o| o.folder).collect(),
        findings: distinct,
    })
}
