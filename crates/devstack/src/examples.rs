//! The examples: which packages one consists of, and the tables that they need beside those of the migrations.

use std::path::Path;

use anyhow::{Context, Result};
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection};

use crate::workspace;

/// The packages that an example is built from: the one of its name, and others that it serves beside it.
pub fn packages(example: &str) -> Vec<&str> {
    match example {
        "shop" => vec!["shop", "order-by-etag", "payments", "notifications", "web"],
        example => vec![example],
    }
}

/// Applies the migrations of an example's packages to a database that has those of the order handler. Each package has a
/// history of its own, as it would have in a database of its own.
///
/// # Errors
/// When the database cannot be reached, or a step fails.
pub async fn migrate(example: &str, database_url: &str) -> Result<()> {
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

/// The folder of an example.
pub fn folder(example: &str) -> std::path::PathBuf {
    workspace::root().join("examples").join(example)
}
