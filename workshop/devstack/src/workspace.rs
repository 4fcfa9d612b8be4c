//! Paths in this checkout, and how its packages are built.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The target that the component is built for.
pub const WASM_TARGET: &str = "wasm32-wasip2";

/// The folder of the checkout.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // This crate is in `workshop/devstack`.
    here.ancestors().nth(2).unwrap_or(here)
}

/// The folder for the data of servers; git ignores it.
pub fn stack_folder() -> PathBuf {
    root().join(".stack")
}

/// The folder of the migrations.
pub fn migrations() -> PathBuf {
    root().join("migrations")
}

/// Adds the Wasm target to the toolchain if it is missing.
pub fn ensure_wasm_target() -> Result<()> {
    let lib = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", WASM_TARGET])
        .current_dir(root())
        .output()
        .context("running rustc")?;
    if lib.status.success() && Path::new(String::from_utf8_lossy(&lib.stdout).trim()).exists() {
        return Ok(());
    }
    eprintln!("Adding the target {WASM_TARGET} to the Rust toolchain ...");
    let added = Command::new("rustup").args(["target", "add", WASM_TARGET]).current_dir(root()).status();
    ensure!(
        added.is_ok_and(|status| status.success()),
        "the Rust target {WASM_TARGET} is missing; get it with: rustup target add {WASM_TARGET}"
    );
    Ok(())
}

/// Builds the components of the application.
pub fn build_components() -> Result<()> {
    eprintln!("Building the components ...");
    build_for_wasm(Workspace::Product, &["orders"])?;
    build_for_wasm(Workspace::Showcase, &["console"])
}

/// The workspaces of this checkout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workspace {
    /// The library and the order handler.
    Product,
    /// The tools, the tests that need them, and the contestants of the bench.
    Workshop,
    /// The other applications and the console.
    Showcase,
}

impl Workspace {
    /// The folder that cargo builds into. The workshop's is another one: a library that is a component as well,
    /// `orders`, has a file name without a hash, and its workspaces link it with other versions of what it depends on.
    pub fn target(self) -> PathBuf {
        match self {
            Self::Product | Self::Showcase => target(),
            Self::Workshop => target().join("workshop"),
        }
    }

    /// Its manifest.
    pub fn manifest(self) -> PathBuf {
        root().join(match self {
            Self::Product => "Cargo.toml",
            Self::Workshop => "workshop/Cargo.toml",
            Self::Showcase => "showcase/Cargo.toml",
        })
    }
}

/// Builds packages of a workspace as components.
pub fn build_for_wasm(workspace: Workspace, packages: &[&str]) -> Result<()> {
    build(workspace, packages, &["--release", "--target", WASM_TARGET])
}

/// What cargo builds for the tests: everything that runs on this machine but the contestants of the bench. No tests of
/// documentation: there are none, and finding that out takes half a minute.
pub const TESTED: [&str; 7] = [
    "--workspace",
    "--exclude",
    "contestant-*",
    // It has a profile of its own.
    "--exclude",
    "simulation",
    "--bins",
    "--tests",
];

/// Builds everything that tests need, the tests too. One build for all: alone, a package has other features than
/// together with all others, and what it depends on would be compiled once more.
pub fn build_all() -> Result<()> {
    eprintln!("Building all tools and tests (many minutes the first time) ...");
    cargo(Workspace::Workshop, &[&["build"], &TESTED[..]].concat())
}

/// Builds the simulation, with the optimisation that it needs; [`simulation`] returns its path.
pub fn build_simulation() -> Result<()> {
    eprintln!("Building the simulation ...");
    build(Workspace::Workshop, &["simulation"], &["--bins", "--profile", "simulation"])
}

/// The path of the simulation once it is built.
pub fn simulation() -> PathBuf {
    Workspace::Workshop.target().join("simulation/simulation")
}

/// Builds tools of the workspace; [`tool`] returns their paths.
pub fn build_tools(packages: &[&str]) -> Result<()> {
    eprintln!("Building the {} ...", packages.join(" and the "));
    build(Workspace::Workshop, packages, &[])
}

/// The path of a tool once it is built.
pub fn tool(package: &str) -> PathBuf {
    Workspace::Workshop.target().join("debug").join(package)
}

/// Builds programs of the workspace with optimisation; [`optimised`] returns their paths.
pub fn build_optimised(packages: &[&str]) -> Result<()> {
    eprintln!("Building {}, optimised (several minutes the first time) ...", packages.join(" and "));
    build(Workspace::Workshop, packages, &["--profile", "native"])
}

/// The path of a program once it is built with optimisation.
pub fn optimised(package: &str) -> PathBuf {
    Workspace::Workshop.target().join("native").join(package)
}

/// The folder that cargo builds into.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn build(workspace: Workspace, packages: &[&str], options: &[&str]) -> Result<()> {
    let packages = packages.iter().flat_map(|package| ["--package", package]);
    let command = ["build"].into_iter().chain(packages);
    cargo(workspace, &command.chain(options.iter().copied()).collect::<Vec<_>>())
}

/// A call of cargo.
pub fn cargo_command() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What `cargo run` says of the package of this program. Build scripts read it (that of ring does), so a call with
    // it and one without it would compile their packages again and again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    cargo
}

fn cargo(workspace: Workspace, arguments: &[&str]) -> Result<()> {
    let status = cargo_command()
        .args(arguments)
        .arg("--manifest-path")
        .arg(workspace.manifest())
        .arg("--target-dir")
        .arg(workspace.target())
        .current_dir(root())
        .stdin(Stdio::null())
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "cargo {} failed", arguments.join(" "));
    Ok(())
}
