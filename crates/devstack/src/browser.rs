//! Chromium, and Node with the packages of the browser tests: found, or installed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{install, workspace};

/// The oldest Node that playwright-core runs on.
const MIN_NODE: u32 = 20;

/// What runs tests in a browser.
#[derive(Clone, Debug)]
pub struct Browser {
    /// Chromium.
    pub chromium: PathBuf,
    /// Node.
    pub node: PathBuf,
    /// The folder of the tests, with their packages.
    pub tests: PathBuf,
}

impl Browser {
    /// Finds everything.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn find() -> Result<Self> {
        let browser = Self {
            chromium: install::on_path("chromium")
                .context("there is no Chromium on this machine")?,
            node: install::node(MIN_NODE)?,
            tests: workspace::root().join("web/tests/browser"),
        };
        ensure!(
            browser.has_packages(),
            "the packages of web/tests/browser are not installed; get them with: cd web/tests/browser && npm ci"
        );
        Ok(browser)
    }

    /// Finds everything; installs what is missing: Chromium with apt, under the conditions of other programs, and packages
    /// with npm, as `package-lock.json` pins them.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn find_or_install(may_install: bool) -> Result<Self> {
        if !may_install {
            return Self::find();
        }
        let browser = Self {
            chromium: install::find_or_install_chromium()?,
            node: install::node(MIN_NODE)?,
            tests: workspace::root().join("web/tests/browser"),
        };
        if !browser.has_packages() {
            eprintln!("Installing the packages of the browser tests with npm (18 MB) ...");
            let output = Command::new("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                .current_dir(&browser.tests)
                .output()
                .context("running npm")?;
            ensure!(
                output.status.success(),
                "npm ci failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
            std::fs::copy(browser.lock(), browser.installed())?;
        }
        Self::find()
    }

    /// Whether the packages are there, in the versions that are pinned.
    fn has_packages(&self) -> bool {
        let read = |path: PathBuf| std::fs::read(path).ok();
        read(self.installed()).is_some_and(|installed| read(self.lock()) == Some(installed))
    }

    fn lock(&self) -> PathBuf {
        self.tests.join("package-lock.json")
    }

    /// The copy of the lock file that was installed.
    fn installed(&self) -> PathBuf {
        self.tests.join("node_modules/installed.json")
    }
}
