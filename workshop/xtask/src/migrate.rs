//! `cargo xtask migrate`: brings a database to the schema of this release. The migrator does it.

use anyhow::{Result, ensure};
use devstack::workspace;

#[derive(clap::Args)]
pub struct Arguments {
    /// postgres://user:password@host:port/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
}

pub fn migrate(arguments: &Arguments) -> Result<()> {
    workspace::build_tools(&["migrator"])?;
    run(&arguments.database_url, &[])
}

/// Runs the migrator, which is built.
pub fn run(database_url: &str, options: &[String]) -> Result<()> {
    let mut migrator = std::process::Command::new(workspace::tool("migrator"));
    // The URL has a password; a process's arguments are visible to everybody.
    migrator.env("DATABASE_URL", database_url);
    let status = migrator.args(options).status()?;
    ensure!(status.success(), "the migrations were not applied");
    Ok(())
}
