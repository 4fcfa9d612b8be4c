//! `deploy-check check`: checks `deploy/` without a cluster. Renders every overlay, has maintained tools validate it, and
//! applies the policies that only this project can know. Every finding names file, object, field and reason.

#![allow(
    clippy::indexing_slicing,
    reason = "JSON values are indexed by name, which gives Null where nothing is"
)]

mod policies;
mod render;
#[cfg(test)]
mod tests;
mod tools;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use devstack::workspace;

use policies::Files;
use tools::Tools;

/// Checks the manifests in deploy/ without a cluster.
#[derive(Parser)]
#[command(name = "deploy-check")]
enum Arguments {
    /// Render every overlay of deploy/, validate it, and apply the project's policies.
    Check {
        /// Fail rather than install kubectl and the validators from PyPI.
        #[arg(long)]
        no_install: bool,
    },
}

/// Something that is wrong with a field of an object: the file to change, relative to the checkout; `Kind/name`; a path,
/// or the name of a rule of Checkov; and why.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    file: String,
    object: String,
    field: String,
    reason: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}: {}", self.file, self.object, self.field, self.reason)
    }
}

fn main() -> ExitCode {
    let Arguments::Check { no_install } = Arguments::parse();
    match run(!no_install) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(may_install: bool) -> Result<()> {
    let tools = Tools::find_or_install(may_install)?;
    let start = Instant::now();
    let (what, findings) = check(workspace::root(), &tools)?;
    findings.iter().for_each(|finding| println!("{finding}"));
    ensure!(findings.is_empty(), "{} findings in {what}", findings.len());
    eprintln!(
        "deploy/ is in order: {what}, checked in {:.1} s.",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Checks `deploy/` of a checkout: how much that was, and what is wrong.
fn check(root: &Path, tools: &Tools) -> Result<(String, Vec<Finding>)> {
    let (overlays, mut findings) = render::render_all(root, tools)?;
    findings.extend(tools.validate(root, &overlays)?);
    let files = Files::load(|name| std::fs::read_to_string(root.join(name)).context(name.to_owned()))?;
    findings.extend(policies::check(&files, &overlays));
    let objects: usize = overlays.iter().map(|overlay| overlay.objects.len()).sum();
    Ok((
        format!("{objects} objects of {} kustomizations", overlays.len()),
        findings,
    ))
}
