//! The migrations, embedded: what devstack reads from the checkout, for an image that has no checkout.

use anyhow::{Context, Result};
use devstack::migrate::Steps;
use include_dir::{Dir, include_dir};
use sqlx::migrate::{Migration, MigrationType};
use sqlx::{AssertSqlSafe, SqlSafeStr};

static MIGRATIONS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../migrations");

/// All steps of this release.
///
/// # Errors
/// A step that is not UTF-8.
pub fn steps() -> Result<Steps> {
    let contract = MIGRATIONS
        .get_dir("contract")
        .context("migrations/contract is missing")?;
    Ok(Steps::new(read(&MIGRATIONS)?, read(contract)?))
}

/// The steps in a folder, not in those below it.
fn read(folder: &Dir<'static>) -> Result<Vec<Migration>> {
    let files = folder.files().filter_map(|file| {
        let name = file.path().file_name()?.to_string_lossy();
        let (version, description) = name.strip_suffix(".sql")?.split_once('_')?;
        // README.md and roles.sql are no steps.
        Some((version.parse().ok()?, description.replace('_', " "), file))
    });
    files
        .map(|(version, description, file)| {
            let sql = file
                .contents_utf8()
                .with_context(|| format!("{} is not UTF-8", file.path().display()))?;
            Ok(Migration::new(
                version,
                description.into(),
                MigrationType::Simple,
                AssertSqlSafe(sql).into_sql_str(),
                sql.starts_with("-- no-transaction"),
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same versions, checksums and kinds as those that sqlx reads from the files.
    #[tokio::test]
    async fn embedded_steps_are_those_of_the_checkout() {
        let of = |steps: Steps| {
            let parts = steps.iter().map(|step| {
                let Migration {
                    version,
                    description,
                    checksum,
                    no_tx,
                    ..
                } = step.clone();
                (version, description, checksum, no_tx)
            });
            parts.collect::<Vec<_>>()
        };
        let embedded = of(steps().unwrap());
        assert!(embedded.iter().any(|(_, _, _, no_tx)| *no_tx));
        assert_eq!(embedded, of(Steps::of_checkout().await.unwrap()));
    }
}
