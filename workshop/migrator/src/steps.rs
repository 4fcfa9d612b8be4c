//! The migrations of this release, embedded: an image has no checkout.

use anyhow::{Context, Result};
use include_dir::{Dir, include_dir};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

static MIGRATIONS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../migrations");

/// The steps of a release.
pub(crate) struct Steps {
    pub(crate) migrator: Migrator,
    /// The versions of contract steps.
    pub(crate) contract: Vec<i64>,
}

impl Steps {
    fn new(expand: Vec<Migration>, contract: Vec<Migration>) -> Self {
        let versions = contract.iter().map(|step| step.version).collect();
        let mut migrator = Migrator::with_migrations([expand, contract].concat());
        // The lock is ours: see `prepare` in migrate.rs.
        migrator.set_locking(false);
        Self {
            migrator,
            contract: versions,
        }
    }
}

/// All steps of this release.
///
/// # Errors
/// A step that is not UTF-8.
pub(crate) fn steps() -> Result<Steps> {
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
        let of = |migrator: &Migrator| {
            let parts = migrator.iter().map(|step| {
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
        let Steps { migrator, contract } = steps().unwrap();
        let folder = devstack::workspace::migrations();
        let contract_files = Migrator::new(folder.join("contract")).await.unwrap();
        let versions: Vec<_> = contract_files.iter().map(|step| step.version).collect();
        assert_eq!(contract, versions);
        let mut files = of(&Migrator::new(folder).await.unwrap());
        files.extend(of(&contract_files));
        files.sort();
        let mut embedded = of(&migrator);
        embedded.sort();
        assert!(embedded.iter().any(|(_, _, _, no_tx)| *no_tx));
        assert_eq!(embedded, files);
    }
}
