//! Checks `deploy/` without a cluster: renders every overlay, has maintained tools validate it, and applies the
//! policies that only this project can know. Every finding names file, object, field and reason.

#![allow(
    clippy::indexing_slicing,
    reason = "JSON values are indexed by name, which gives Null where nothing is"
)]

pub mod policies;
pub mod render;
pub mod tools;

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};

use policies::Files;
use tools::Tools;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file to change, relative to the checkout.
    pub file: String,
    /// `Kind/name`
    pub object: String,
    /// The field as a path, or the name of a rule of Checkov.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}: {}", self.file, self.object, self.field, self.reason)
    }
}

/// What was checked, and what is wrong.
#[derive(Debug)]
pub struct Report {
    /// How many kustomizations were rendered.
    pub overlays: usize,
    /// How many objects they have.
    pub objects: usize,
    /// What is wrong; empty if nothing is.
    pub findings: Vec<Finding>,
}

/// Checks `deploy/` of a checkout.
///
/// # Errors
/// A file that cannot be read, a kustomization that kubectl rejects, or a validator that cannot run.
pub fn check(root: &Path, tools: &Tools) -> Result<Report> {
    let (overlays, mut findings) = render::render_all(root, tools)?;
    findings.extend(tools.validate(root, &overlays)?);
    let files = Files::load(|name| std::fs::read_to_string(root.join(name)).context(name.to_owned()))?;
    findings.extend(policies::check(&files, &overlays));
    Ok(Report {
        objects: overlays.iter().map(|overlay| overlay.objects.len()).sum(),
        overlays: overlays.len(),
        findings,
    })
}
