//! The migrations of this release, embedded: an image has no checkout.

use anyhow::{Context, Result};
use include_dir::{Dir, include_dir};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

static MIGRATIONS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../migrations");

/// All steps of this release.
///
/// # Errors
/// A step that is not UTF-8.
pub(crate) fn steps() -> Result<Migrator> {
    let files = MIGRATIONS.files().filter_map(|file| {
        let name = file.path().file_name()?.to_string_lossy();
        let (version, description) = name.strip_suffix(".sql")?.split_once('_')?;
        // README.md and roles.sql are no steps.
        Some((version.parse().ok()?, description.replace('_', " "), file))
    });
    let steps = files.map(|(version, description, file)| {
        let sql = file.contents_utf8().with_context(|| format!("{} is not UTF-8", file.path().display()))?;
        Ok(Migration::new(
            version,
            description.into(),
            MigrationType::Simple,
            AssertSqlSafe(sql).into_sql_str(),
            sql.starts_with("-- no-transaction"),
        ))
    });
    Ok(Migrator::with_migrations(steps.collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The same versions, checksums and kinds as those that sqlx reads from the files.
    #[tokio::test]
    async fn embedded_steps_are_those_of_the_checkout() {
        let of = |migrator: &Migrator| {
            let parts = migrator.iter().map(|step| {
                let Migration { version, description, checksum, no_tx, .. } = step.clone();
                (version, description, checksum, no_tx)
            });
            parts.collect::<Vec<_>>()
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
        let files = of(&Migrator::new(folder).await.unwrap());
        assert!(!files.is_empty());
        assert_eq!(of(&steps().unwrap()), files);
    }
}
