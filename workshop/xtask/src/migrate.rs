//! `cargo xtask migrate`: brings a database to the current schema in two stages, between which the previous
//! release's component is replaced. The migrator does it.

use anyhow::{Result, ensure};
use devstack::workspace;

#[derive(clap::Args)]
pub struct Arguments {
    /// postgres://user:password@host:port/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Also remove what only the previous release's component uses. None may run any more.
    #[arg(long)]
    contract: bool,
}

/// Which steps to apply.
#[derive(Clone, Copy)]
pub enum Steps {
    /// Those that the previous release can serve with, too.
    Expand,
    /// All.
    Contract,
}

pub fn migrate(arguments: &Arguments) -> Result<()> {
    workspace::build_tools(&["migrator"])?;
    let steps = match arguments.contract {
        true => Steps::Contract,
        false => Steps::Expand,
    };
    run(steps, &arguments.database_url, &[])
}

/// Runs the migrator, which is built.
pub fn run(steps: Steps, database_url: &str, options: &[&str]) -> Result<()> {
    let steps = match steps {
        Steps::Expand => "expand",
        Steps::Contract => "contract",
    };
    let mut migrator = std::process::Command::new(workspace::tool("migrator"));
    // The URL has a password; a process's arguments are visible to everybody.
    migrator.env("DATABASE_URL", database_url);
    let status = migrator.arg(steps).args(options).status()?;
    ensure!(status.success(), "the migrations were not applied");
    Ok(())
}
