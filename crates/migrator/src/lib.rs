//! The migrations, embedded: `expand` (`migrations/*.sql`) can be applied while the previous release serves,
//! `contract` (`migrations/contract/*.sql`) only when no pod of it is left.

use anyhow::{Context, Result, ensure};
use include_dir::{Dir, include_dir};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqlSafeStr};

static MIGRATIONS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../migrations");

/// Which migrations to apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Those that the previous release can serve with: run them before a rollout.
    Expand,
    /// Those that it cannot: run them after a rollout, when no pod of the previous release is left.
    Contract,
}

/// The migrations of a part, in the order of their versions.
///
/// # Errors
/// A file whose name is not `VERSION_DESCRIPTION.sql`, or that is not UTF-8.
pub fn migrations(part: Part) -> Result<Vec<Migration>> {
    let folder = match part {
        Part::Expand => Some(&MIGRATIONS),
        Part::Contract => MIGRATIONS.get_dir("contract"),
    };
    let mut migrations = folder
        .into_iter()
        .flat_map(Dir::files)
        .map(|file| {
            let name = file
                .path()
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            let (version, description) = name
                .strip_suffix(".sql")
                .and_then(|stem| stem.split_once('_'))
                .with_context(|| format!("{name} is not VERSION_DESCRIPTION.sql"))?;
            let sql = file
                .contents_utf8()
                .with_context(|| format!("{name} is not UTF-8"))?;
            Ok(Migration::new(
                version
                    .parse()
                    .with_context(|| format!("{name}: the version is not a number"))?,
                description.replace('_', " ").into(),
                MigrationType::Simple,
                AssertSqlSafe(sql).into_sql_str(),
                sql.starts_with("-- no-transaction"),
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    migrations.sort();
    Ok(migrations)
}

/// Applies the migrations of a part that the database lacks, and says how many it has of it now. Safe to run
/// twice and by several at once: a lock in the database makes them wait for each other.
///
/// # Errors
/// No connection; a migration that failed, which left nothing behind unless it says "no-transaction"; an
/// applied migration that differs from the one inside. The URL is in no message.
pub async fn apply(part: Part, database_url: &str) -> Result<usize> {
    let migrations = migrations(part)?;
    let count = migrations.len();
    let mut connection = PgConnection::connect(database_url)
        .await
        .context("connecting to Postgres")?;
    if part == Part::Contract {
        ensure_expanded(&mut connection).await?;
    }
    let mut migrator = Migrator::with_migrations(migrations);
    // The database has those of the other part, too, and after a rollback those of a later release.
    migrator.set_ignore_missing(true);
    migrator
        .run(&mut connection)
        .await
        .context("applying the migrations")?;
    connection.close().await?;
    Ok(count)
}

/// Whoever contracts what was never expanded has run the parts in the wrong order.
async fn ensure_expanded(connection: &mut PgConnection) -> Result<()> {
    let last = migrations(Part::Expand)?
        .last()
        .map_or(0, |migration| migration.version);
    let has: Option<(bool,)> =
        sqlx::query_as("SELECT success FROM _sqlx_migrations WHERE version = $1")
            .bind(last)
            .fetch_optional(connection)
            .await
            .context("reading which migrations were applied")?;
    ensure!(
        has == Some((true,)),
        "migration {last} is missing: run \"expand\" and the rollout first"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is embedded is what is in the folder: the same versions and checksums as those that sqlx reads.
    #[tokio::test]
    async fn embedded_migrations_are_those_of_the_folder() {
        let folder = devstack::workspace::migrations();
        for (part, folder) in [
            (Part::Expand, folder.clone()),
            (Part::Contract, folder.join("contract")),
        ] {
            let embedded = migrations(part).unwrap();
            if !folder.exists() {
                assert!(embedded.is_empty());
                continue;
            }
            let read = Migrator::new(folder).await.unwrap();
            let of = |migrations: &[Migration]| {
                migrations
                    .iter()
                    .map(|m| {
                        (
                            m.version,
                            m.description.clone(),
                            m.checksum.clone(),
                            m.no_tx,
                        )
                    })
                    .collect::<Vec<_>>()
            };
            assert!(!embedded.is_empty());
            assert_eq!(of(&embedded), of(&read.migrations));
        }
    }
}
