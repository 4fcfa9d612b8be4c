//! `cargo xtask migrate`: brings a database to the current schema in two stages, between which the previous
//! release's component is replaced.

use anyhow::Result;
use devstack::migrate;

#[derive(clap::Args)]
pub struct Arguments {
    /// postgres://user:password@host:port/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Also remove what only the previous release's component uses. None may run any more.
    #[arg(long)]
    contract: bool,
}

pub async fn migrate(arguments: Arguments) -> Result<()> {
    let Arguments {
        database_url,
        contract,
    } = arguments;
    let outcome = match contract {
        true => migrate::migrate_all(&database_url).await?,
        false => migrate::migrate(&database_url).await?,
    };
    match outcome.applied.len() {
        0 => eprintln!("There was nothing to apply."),
        count => eprintln!("Migrations applied: {count}."),
    }
    if outcome.remaining.is_empty() {
        eprintln!("The schema is current.");
    } else {
        eprintln!(
            "Components of this release and of the previous one can now run side by side. Once none of the \
             previous release runs, apply the rest with --contract:"
        );
        for step in &outcome.remaining {
            eprintln!("  {step}");
        }
    }
    Ok(())
}
