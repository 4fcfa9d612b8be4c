//! Packages from PyPI in a virtual environment: found, or installed as a list pins them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::install::python_venv;

/// Makes a virtual environment in a folder, with the packages of a list and nothing else. `options` are further ones of
/// pip.
///
/// # Errors
/// Python is missing, or what pip says.
pub fn install(folder: &Path, list: &Path, options: &[&str], may_install: bool) -> Result<()> {
    python_venv(folder, may_install)?;
    let output = Command::new(folder.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .args(["--no-deps", "--only-binary", ":all:"])
        .args(options)
        .arg("--requirement")
        .arg(list)
        .output()
        .context("running pip")?;
    ensure!(output.status.success(), "pip install failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// A virtual environment with packages.
#[derive(Clone, Debug)]
pub struct Environment {
    folder: PathBuf,
}

impl Environment {
    /// Finds the environment in a folder, with exactly these packages.
    ///
    /// # Errors
    /// It is not there.
    pub fn find(folder: &Path, requirements: &str) -> Result<Self> {
        let installed = std::fs::read_to_string(folder.join("installed.txt"));
        ensure!(
            installed.is_ok_and(|installed| installed == requirements),
            "the packages from PyPI are not in {}; get them with: cargo xtask test",
            folder.display()
        );
        Ok(Self { folder: folder.to_owned() })
    }

    /// Finds it; makes it if it is missing, and Python's part for that is there or can be installed.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn find_or_install(folder: &Path, requirements: &str, may_install: bool) -> Result<Self> {
        let found = Self::find(folder, requirements);
        if found.is_ok() || !may_install {
            return found;
        }
        eprintln!("Installing packages from PyPI in {} ...", folder.display());
        // Whatever an interrupted installation left.
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        std::fs::create_dir_all(folder)?;
        let list = folder.join("requirements.txt");
        std::fs::write(&list, requirements)?;
        install(folder, &list, &[], may_install)?;
        std::fs::rename(&list, folder.join("installed.txt"))?;
        Self::find(folder, requirements)
    }

    /// A command that runs a program of the packages.
    pub fn command(&self, program: &str) -> Command {
        Command::new(self.folder.join("bin").join(program))
    }
}
