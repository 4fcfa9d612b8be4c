//! The tools that check an API by its OpenAPI document: Redocly's linter, Schemathesis, and Newman for Postman
//! collections. `cargo xtask test` installs them; a test finds them, or says that it is skipped.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use devstack::npm::Packages;
use devstack::python::Environment;
use devstack::workspace;

/// The folder with the lists of packages, relative to the checkout.
pub const FOLDER: &str = "workshop/openapi-check/tools";

/// Finds the tools that run on Node, Redocly and Newman; installs them if they are missing and may be installed.
///
/// # Errors
/// What is missing, and how to get it.
pub fn node_tools(may_install: bool) -> Result<Packages> {
    Packages::find_or_install(FOLDER, may_install)
}

/// Finds Schemathesis; installs it if it is missing and may be installed.
///
/// # Errors
/// What is missing, and how to get it.
pub fn schemathesis(may_install: bool) -> Result<Environment> {
    let folder = workspace::target().join("schemathesis");
    Environment::find_or_install(&folder, include_str!("../tools/requirements.txt"), may_install)
}

/// Lints an OpenAPI document, or an AsyncAPI document.
///
/// # Errors
/// What the linter reports.
pub fn lint(tools: &Packages, document: &Path) -> Result<String> {
    let mut command = tools.command("redocly");
    command.arg("lint").arg(document).arg("--config").arg(tools.folder.join("redocly.yaml"));
    command.env("REDOCLY_TELEMETRY", "off").env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
    passed(command)
}

/// Runs a command; returns its output, or fails with it.
///
/// # Errors
/// It cannot run, or has failed.
pub fn passed(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("running {}", command.get_program().display()))?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{text}");
    Ok(text)
}
