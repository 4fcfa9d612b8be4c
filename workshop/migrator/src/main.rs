//! `migrator`: what the migrator's image, `cargo xtask migrate` and `cargo xtask up` run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use migrator::{migrate, migrate_package};
use sqlx::Postgres;
use sqlx::migrate::MigrateDatabase;

/// Applies the migrations that the database lacks.
#[derive(Parser)]
#[command(name = "migrator")]
struct Arguments {
    /// postgres://user:password@host:port/database, of the primary itself rather than a pooler.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Create the database first unless it exists.
    #[arg(long)]
    create_database: bool,
    /// Apply the migrations of the package in this folder, too.
    #[arg(long, value_name = "FOLDER")]
    package: Vec<PathBuf>,
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
    let applied = migrate(url).await?;
    for folder in &arguments.package {
        migrate_package(folder, url).await?;
    }
    let seconds = start.elapsed().as_secs_f64();
    match applied.len() {
        0 => eprintln!("There was no migration to apply."),
        count => eprintln!("Migrations applied: {count} ({seconds:.1} s)."),
    }
    eprintln!("The schema is current.");
    Ok(())
}
