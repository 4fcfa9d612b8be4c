//! The tools that check an API by its OpenAPI document: Redocly's linter, Schemathesis, and Newman for Postman
//! collections. `cargo xtask test` installs them; a test finds them, or says that it is skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use devstack::npm::Packages;
use devstack::python::Environment;
use devstack::workspace;

/// The folder with the lists of packages, relative to the checkout.
const FOLDER: &str = "workshop/openapi-check/tools";

/// The packages from PyPI.
const REQUIREMENTS: &str = include_str!("../tools/requirements.txt");

/// The tools that run on Node.
#[derive(Clone, Debug)]
pub struct NodeTools {
    packages: Packages,
}

impl NodeTools {
    /// Finds the tools.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn find() -> Result<Self> {
        let packages = Packages::find(FOLDER)?;
        Ok(Self { packages })
    }

    /// Finds the tools; installs them if they are missing.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn find_or_install(may_install: bool) -> Result<Self> {
        let packages = Packages::find_or_install(FOLDER, may_install)?;
        Ok(Self { packages })
    }

    /// Lints an OpenAPI document.
    ///
    /// # Errors
    /// What the linter reports.
    pub fn lint(&self, document: &Path) -> Result<()> {
        let mut command = self.packages.command("redocly");
        command
            .arg("lint")
            .arg(document)
            .arg("--config")
            .arg(self.packages.folder.join("redocly.yaml"))
            .env("REDOCLY_TELEMETRY", "off")
            .env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
        passed(command).map(drop)
    }

    /// Runs a Postman collection with variables; returns what it printed.
    ///
    /// # Errors
    /// The requests that failed, and the assertions that did not hold.
    pub fn run_collection(&self, collection: &Path, variables: &[(&str, &str)]) -> Result<String> {
        let mut command = self.packages.command("newman");
        command.arg("run").arg(collection);
        command.args(["--color", "off", "--timeout-request", "20000"]);
        for (name, value) in variables {
            command.arg("--env-var").arg(format!("{name}={value}"));
        }
        passed(command)
    }
}

/// Schemathesis, which generates requests from an OpenAPI document, and judges the answers by it.
#[derive(Clone, Debug)]
pub struct Schemathesis {
    environment: Environment,
}

/// What Schemathesis is to do.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Its name, of its own.
    pub name: &'a str,
    /// The document.
    pub document: &'a Path,
    /// The file with its settings.
    pub configuration: &'a Path,
    /// Where the service is.
    pub base_url: &'a str,
    /// How many requests are generated per operation.
    pub examples: u32,
    /// Further fields of every request, `Name: value`.
    pub fields: &'a [String],
}

impl Schemathesis {
    /// Finds it.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn find() -> Result<Self> {
        let environment = Environment::find(&Self::folder(), REQUIREMENTS)?;
        Ok(Self { environment })
    }

    /// Finds it; installs it if it is missing.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn find_or_install(may_install: bool) -> Result<Self> {
        let folder = Self::folder();
        let environment = Environment::find_or_install(&folder, REQUIREMENTS, may_install)?;
        Ok(Self { environment })
    }

    fn folder() -> PathBuf {
        workspace::target().join("schemathesis")
    }

    /// Tests a running service with all phases, and all checks that the settings leave; the same requests each time.
    /// Returns what it printed.
    ///
    /// # Errors
    /// What it has found.
    pub fn test(&self, run: Run<'_>) -> Result<String> {
        // For its caches, which another run must not share.
        let folder = workspace::target().join("schemathesis-runs").join(run.name);
        std::fs::create_dir_all(&folder)?;
        let mut command = self.environment.command("schemathesis");
        command
            .arg("--config-file")
            .arg(run.configuration)
            .arg("run")
            .arg(run.document)
            .args(["--url", run.base_url])
            .args(["--max-examples", &run.examples.to_string()])
            .args(["--generation-deterministic", "--no-color"])
            .current_dir(&folder)
            .env("SCHEMATHESIS_HOOKS", workspace::root().join(FOLDER).join("hooks.py"))
            .env("PYTHONDONTWRITEBYTECODE", "1");
        for field in run.fields {
            command.args(["--header", field]);
        }
        passed(command)
    }
}

/// Runs a command; returns its output, or fails with it.
fn passed(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("running {}", command.get_program().display()))?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{text}");
    Ok(text)
}
