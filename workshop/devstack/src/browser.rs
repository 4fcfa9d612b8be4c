//! Chromium, and Node with the packages of the browser tests: found, or installed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::install;
use crate::npm::Packages;

/// The folder of the tests.
const TESTS: &str = "showcase/console/tests/browser";

/// What runs tests in a browser.
#[derive(Clone, Debug)]
pub struct Browser {
    chromium: PathBuf,
    node: PathBuf,
    /// The folder of the tests, with their packages.
    tests: PathBuf,
}

impl Browser {
    /// Finds everything.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn find() -> Result<Self> {
        let chromium = install::on_path("chromium").context("there is no Chromium on this machine")?;
        Ok(Self::with(chromium, Packages::find(TESTS)?))
    }

    /// Finds everything; installs what is missing: Chromium with apt, under the conditions of other programs, and
    /// packages with npm.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn find_or_install(may_install: bool) -> Result<Self> {
        if !may_install {
            return Self::find();
        }
        let chromium = install::find_or_install_chromium()?;
        Ok(Self::with(chromium, Packages::find_or_install(TESTS, true)?))
    }

    /// A command that runs the flows of these files.
    pub fn flows(&self, files: &[&str]) -> Command {
        let mut command = Command::new(&self.node);
        command
            .args(["--test", "--test-reporter=spec"])
            .args(files)
            .current_dir(&self.tests)
            .env("CHROMIUM", &self.chromium);
        command
    }

    fn with(chromium: PathBuf, packages: Packages) -> Self {
        Self { chromium, node: packages.node, tests: packages.folder }
    }
}
