//! `migrator expand | contract`: what the migrator's image, `cargo xtask migrate` and `cargo xtask up` run.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use migrator::{Outcome, migrate, migrate_all, migrate_example};
use sqlx::Postgres;
use sqlx::migrate::MigrateDatabase;

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
    /// Create the database first unless it exists.
    #[arg(long)]
    create_database: bool,
    /// Create the tables of an example of the checkout, too.
    #[arg(long, value_name = "NAME")]
    example: Option<String>,
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
    let url = &arguments.database_url;
    if arguments.create_database && !Postgres::database_exists(url).await? {
        Postgres::create_database(url).await?;
    }
    let outcome = match arguments.part {
        Part::Expand => migrate(url).await?,
        Part::Contract => migrate_all(url).await?,
    };
    if let Some(example) = &arguments.example {
        migrate_example(example, url).await?;
    }
    report(&outcome, start);
    Ok(())
}

fn report(outcome: &Outcome, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    match outcome.applied.len() {
        0 => eprintln!("There was no migration to apply."),
        count => eprintln!("Migrations applied: {count} ({seconds:.1} s)."),
    }
    if outcome.remaining.is_empty() {
        eprintln!("The schema is current.");
        return;
    }
    eprintln!(
        "Components of this release and of the previous one can now run side by side. Once none of the previous \
         release runs, apply the rest with \"contract\" (cargo xtask migrate --contract):"
    );
    for step in &outcome.remaining {
        eprintln!("  {step}");
    }
}
