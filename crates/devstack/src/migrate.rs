//! Creates databases and brings them to the current schema.

use anyhow::{Context, Result};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::workspace;

/// Applies all migrations that the database does not have yet. Safe to run twice and by several at once:
/// the migrator holds a lock in the database and records there what it did.
pub async fn migrate(database_url: &str) -> Result<()> {
    migrate_to(database_url, i64::MAX).await
}

/// [`migrate`], but only up to a version, as a deployment of then has it.
pub async fn migrate_to(database_url: &str, version: i64) -> Result<()> {
    let migrator = Migrator::new(workspace::migrations())
        .await
        .context("reading the migrations")?;
    let mut connection = connect(database_url).await?;
    migrator
        .run_to(version, &mut connection)
        .await
        .context("applying the migrations")?;
    connection.close().await?;
    Ok(())
}

/// Creates a database unless it exists. `template` is one to copy.
pub async fn create_database(admin_url: &str, name: &str, template: Option<&str>) -> Result<()> {
    let mut connection = connect(admin_url).await?;
    let known: Option<(i32,)> = sqlx::query_as("SELECT 1 FROM pg_database WHERE datname = $1")
        .bind(name)
        .fetch_optional(&mut connection)
        .await?;
    if known.is_none() {
        let template = template
            .map(|t| format!(" TEMPLATE \"{t}\""))
            .unwrap_or_default();
        // Identifiers cannot be parameters; these are our own.
        let statement = format!("CREATE DATABASE \"{name}\"{template}");
        connection.execute(AssertSqlSafe(statement)).await?;
    }
    connection.close().await?;
    Ok(())
}

async fn connect(url: &str) -> Result<PgConnection> {
    // The URL may carry a password: it stays out of the message.
    PgConnection::connect(url)
        .await
        .context("connecting to Postgres")
}
