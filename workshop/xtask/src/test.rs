//! `cargo xtask test`: builds the components, the tools and the tests, and becomes the program that runs them.

use std::os::unix::process::CommandExt;
use std::panic::resume_unwind;
use std::process::Command;

use anyhow::{Context, Result};
use devstack::examples;
use devstack::workspace::{self, Workspace};

use crate::{PassedOn, become_program};

/// Returns only when something fails.
pub fn test(passed_on: &PassedOn) -> Result<()> {
    if passed_on.arguments.iter().any(|argument| argument == "--help") {
        return become_program("test-run", "dev", passed_on);
    }
    workspace::ensure_wasm_target()?;
    std::thread::scope(|scope| {
        // One of the two builds often has work for one processor only.
        let components = scope.spawn(build_components);
        workspace::build_all()?;
        components.join().unwrap_or_else(|panic| resume_unwind(panic))
    })?;
    // It was built with all others: what it depends on would be compiled once more for it alone.
    let error = Command::new(workspace::tool("test-run")).args(&passed_on.arguments).exec();
    Err(error).context("running test-run")
}

fn build_components() -> Result<()> {
    workspace::build_components()?;
    let packages = [&examples::packages("shop")[..], &["order-by-key"]].concat();
    workspace::build_for_wasm(Workspace::Showcase, &packages)
}
