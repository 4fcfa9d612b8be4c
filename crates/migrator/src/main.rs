//! `migrator expand | contract`: what the migrator's image runs, with the migrations of its release inside.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use devstack::migrate::migrate_with;

/// Applies the migrations that the database lacks.
#[derive(Parser)]
#[command(name = "migrator")]
struct Arguments {
    /// Which steps to apply.
    #[arg(value_enum, default_value = "expand")]
    part: Part,
    /// postgres://user:password@host:port/database, of the primary itself rather than a pooler.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Those that the previous release can serve with: run this before a rollout.
    Expand,
    /// The rest: run this after a rollout, when no pod of the previous release is left.
    Contract,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("migrator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let start = Instant::now();
    let contract = arguments.part == Part::Contract;
    let outcome = migrate_with(migrator::steps()?, &arguments.database_url, contract).await?;
    eprintln!(
        "migrator: {} migrations applied, {} left for \"contract\" ({:.1} s)",
        outcome.applied.len(),
        outcome.remaining.len(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
