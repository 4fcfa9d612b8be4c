//! Checks `deploy/` without a cluster: renders every overlay, has maintained tools validate it, and applies the
//! policies that
//! only this project can know. Every finding names file, object, field and reason.

#![allow(
    clippy::indexing_slicing,
    reason = "JSON values are indexed by name only, which gives Null where nothing is"
)]

pub mod policies;
pub mod render;
pub mod tools;

use std::fmt;
use std::path::Path;

use anyhow::Result;

use policies::Files;
use render::Overlay;
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
        let Self {
            file,
            object,
            field,
            reason,
        } = self;
        write!(f, "{file}: {object}: {field}: {reason}")
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
    findings.extend(policies::check(&Files::load(root)?, &overlays));
    Ok(Report {
        objects: overlays.iter().map(|overlay| overlay.objects.len()).sum(),
        overlays: overlays.len(),
        findings,
    })
}

/// The overlay that runs on one machine, with its objects.
///
/// # Errors
/// As [`check`].
pub fn laptop(root: &Path, tools: &Tools) -> Result<Overlay> {
    render::render(root, tools, "deploy/overlays/laptop", render::Stage::Laptop)
}
