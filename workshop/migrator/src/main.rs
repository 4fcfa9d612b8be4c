//! `migrator`: what the migrator's image, `cargo xtask migrate`, `cargo xtask move` and `cargo xtask up` run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use migrator::{migrate, migrate_package, move_slots};
use sqlx::Postgres;
use sqlx::migrate::MigrateDatabase;

/// Applies the migrations that the database lacks.
#[derive(Parser)]
#[command(name = "migrator", subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// postgres://user:password@host:port/database, of the primary itself rather than a pooler.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, required = true)]
    database_url: Option<String>,
    /// Create the database first unless it exists.
    #[arg(long)]
    create_database: bool,
    /// Apply the migrations of the package in this folder, too.
    #[arg(long, value_name = "FOLDER")]
    package: Vec<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Moves the customers of some slots to another database. Run it again if it was interrupted.
    Move {
        /// The database that has the slots, or had them when the move began. Both addresses are of the primary itself.
        #[arg(long, env = "FROM_DATABASE_URL", hide_env_values = true)]
        from: String,
        /// The database that will have them.
        #[arg(long, env = "TO_DATABASE_URL", hide_env_values = true)]
        to: String,
        /// The slots of customers, as Postgres writes ranges: {[0,512)} are those from 0 to 511.
        #[arg(long)]
        slots: String,
        /// The table. Move each table of a database.
        #[arg(long, default_value = "orders")]
        table: String,
    },
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
    if let Some(Command::Move { from, to, slots, table }) = &arguments.command {
        let rows = move_slots(from, to, table, slots).await?;
        eprintln!("The slots {slots} of {table} were moved, with {rows} rows.");
        return Ok(());
    }
    let url = arguments.database_url.as_ref().context("no database")?;
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
