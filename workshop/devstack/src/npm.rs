//! Node's packages of a folder: found, or installed with npm as the folder's `package-lock.json` pins them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{install, workspace};

/// The oldest Node that the packages run on.
const MIN_NODE: u32 = 20;

/// The installed packages of a folder with a `package.json`.
#[derive(Clone, Debug)]
pub struct Packages {
    /// Node.
    pub node: PathBuf,
    /// The folder.
    pub folder: PathBuf,
}

impl Packages {
    /// Finds the packages of a folder, given relative to the checkout.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn find(folder: &str) -> Result<Self> {
        let packages = Self { node: install::node(MIN_NODE)?, folder: workspace::root().join(folder) };
        ensure!(
            packages.are_installed(),
            "the packages of {folder} are not installed; get them with: cargo xtask test"
        );
        Ok(packages)
    }

    /// Finds them; installs what is missing: Node with apt, under the conditions of other programs, and the packages.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn find_or_install(folder: &str, may_install: bool) -> Result<Self> {
        if !may_install {
            return Self::find(folder);
        }
        let packages = Self { node: install::find_or_install_node(MIN_NODE)?, folder: workspace::root().join(folder) };
        if !packages.are_installed() {
            eprintln!("Installing the packages of {folder} with npm ...");
            let output = Command::new("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                .current_dir(&packages.folder)
                .output()
                .context("running npm")?;
            ensure!(output.status.success(), "npm ci failed: {}", String::from_utf8_lossy(&output.stderr).trim());
            std::fs::copy(packages.lock(), packages.installed())?;
        }
        Ok(packages)
    }

    /// A command that runs a program of the packages.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(&self.node);
        command.arg(self.folder.join("node_modules/.bin").join(program));
        command
    }

    /// Whether the packages are there, in the versions that are pinned.
    fn are_installed(&self) -> bool {
        let read = |path: &Path| std::fs::read(path).ok();
        read(&self.installed()).is_some_and(|installed| read(&self.lock()) == Some(installed))
    }

    fn lock(&self) -> PathBuf {
        self.folder.join("package-lock.json")
    }

    /// The copy of the lock file that was installed.
    fn installed(&self) -> PathBuf {
        self.folder.join("node_modules/installed.json")
    }
}
