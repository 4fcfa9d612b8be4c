//! `migrator expand | contract`: brings the database at DATABASE_URL to the schema of this release.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use migrator::{Part, apply};

/// Applies the migrations that the database lacks.
#[derive(Parser)]
#[command(name = "migrator")]
struct Arguments {
    /// expand: before a rollout; contract: after it, when no pod of the previous release is left.
    #[arg(value_enum, default_value = "expand")]
    part: Part,
    /// postgres://user:password@host:port/database, of the primary itself rather than a pooler.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
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
    let count = apply(arguments.part, &arguments.database_url).await?;
    eprintln!(
        "migrator: the database has all {count} migrations of {:?} ({} ms)",
        arguments.part,
        start.elapsed().as_millis()
    );
    Ok(())
}
