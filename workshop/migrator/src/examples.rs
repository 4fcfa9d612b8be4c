//! The tables that an example needs beside those of the order handler.

use std::path::Path;

use anyhow::{Context, Result};
use devstack::examples::{folder, packages};
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection};

/// Applies the migrations of an example's packages to a database that has those of the order handler. Each package has
/// a history of its own, as it would have in a database of its own.
///
/// # Errors
/// When the database cannot be reached, or a step fails.
pub async fn migrate_example(example: &str, database_url: &str) -> Result<()> {
    for package in packages(example) {
        let folder = folder(package).join("migrations");
        if folder.is_dir() {
            apply(package, &folder, database_url)
                .await
                .with_context(|| format!("the migrations of {package}"))?;
        }
    }
    Ok(())
}

async fn apply(package: &str, folder: &Path, database_url: &str) -> Result<()> {
    let mut migrator = Migrator::new(folder).await?;
    migrator.dangerous_set_table_name(format!("_{}_migrations", package.replace('-', "_")));
    let mut connection = PgConnection::connect(database_url).await?;
    migrator.run(&mut connection).await?;
    connection.close().await?;
    Ok(())
}
