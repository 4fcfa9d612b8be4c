//! Creates databases and migrates them. The rules for the steps are in `migrations/README.md`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::migrate::{Migrate, Migrator};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::time::sleep;

use crate::steps::steps;

/// Where sqlx records what it applied.
const HISTORY: &str = "_sqlx_migrations";

/// Brings a database to the schema of this release, and returns the steps that it lacked, as `number description`. Safe
/// to repeat, to interrupt, and to run twice at once.
///
/// # Errors
/// When the database cannot be reached, a step fails, or an applied step is not the one of this release.
pub async fn migrate(database_url: &str) -> Result<Vec<String>> {
    run(steps()?, HISTORY, database_url).await
}

/// Applies the steps in the folder `migrations` of a package to a database that has those of this release. Each package
/// has a history of its own, as it would have in a database of its own.
///
/// # Errors
/// As [`migrate`], or when the folder cannot be read.
pub async fn migrate_package(package: &Path, database_url: &str) -> Result<()> {
    let migrator = Migrator::new(package.join("migrations")).await?;
    let name = package.file_name().context("a package has a name")?;
    let history = format!("_{}_migrations", name.to_string_lossy().replace('-', "_"));
    run(migrator, &history, database_url).await.with_context(|| format!("the migrations of {}", package.display()))?;
    Ok(())
}

async fn run(mut migrator: Migrator, history: &str, database_url: &str) -> Result<Vec<String>> {
    let mut connection = connect(database_url).await?;
    prepare(&mut connection).await?;
    migrator.dangerous_set_table_name(history.to_owned());
    // See `prepare`.
    migrator.set_locking(false);
    connection.ensure_migrations_table(history).await?;
    let known = connection.list_applied_migrations(history).await?;
    migrator.run(&mut connection).await?;
    connection.close().await?;
    let is_new = |version| known.iter().all(|applied| applied.version != version);
    Ok(migrator
        .iter()
        .filter(|step| is_new(step.version))
        .map(|step| format!("{:04} {}", step.version, step.description))
        .collect())
}

/// Makes this the only migrator of the database.
pub(crate) async fn prepare(connection: &mut PgConnection) -> Result<()> {
    // A role's default would end a long step.
    connection.execute("SET statement_timeout = 0").await?;
    // If this process dies, the server ends the step that is in progress, where its platform can tell.
    let _ = connection.execute("SET client_connection_check_interval = '1s'").await;
    // Not sqlx's lock: a migrator that waits for it is in a transaction, and CREATE INDEX CONCURRENTLY of
    // the migrator that holds it would wait for the end of that transaction: a deadlock.
    let lock = "SELECT pg_try_advisory_lock(hashtext('orders: migrations'))";
    while !sqlx::query_scalar::<_, bool>(lock).fetch_one(&mut *connection).await? {
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Creates a database unless it exists. `template` is one to copy.
///
/// # Errors
/// When the server cannot be reached, or the database cannot be created.
pub async fn create_database(admin_url: &str, name: &str, template: Option<&str>) -> Result<()> {
    let mut connection = connect(admin_url).await?;
    let known: Option<(i32,)> = sqlx::query_as("SELECT 1 FROM pg_database WHERE datname = $1")
        .bind(name)
        .fetch_optional(&mut connection)
        .await?;
    if known.is_none() {
        let template = template.map(|t| format!(" TEMPLATE \"{t}\"")).unwrap_or_default();
        // Identifiers cannot be parameters; no user chooses these.
        let statement = format!("CREATE DATABASE \"{name}\"{template}");
        connection.execute(AssertSqlSafe(statement)).await?;
    }
    connection.close().await?;
    Ok(())
}

pub(crate) async fn connect(url: &str) -> Result<PgConnection> {
    // The URL may carry a password: it stays out of the message.
    PgConnection::connect(url).await.context("connecting to Postgres")
}
