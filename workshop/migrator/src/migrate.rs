//! Creates databases and migrates them: expand steps while the service runs, contract steps once no
//! component of the previous release runs any more. The rules for the steps are in `migrations/README.md`.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sqlx::migrate::{Migrate, MigrateError, Migration, Migrator};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqlSafeStr};
use tokio::time::{sleep, timeout};

use crate::steps::{Steps, steps};

/// Where sqlx records what it applied.
const HISTORY: &str = "_sqlx_migrations";
/// How long a step is tried again while others hold the locks that it needs.
const LOCK_TIME_OUT: Duration = Duration::from_secs(300);
/// Between two attempts: time for the statements that the first one held up.
const LOCK_PAUSE: Duration = Duration::from_millis(500);
/// How often a long step reports its progress.
const PROGRESS: Duration = Duration::from_secs(10);
/// `lock_not_available` and `deadlock_detected`.
const LOCKED: [&str; 2] = ["55P03", "40P01"];

/// What a migration did and left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The steps applied now, as `number description`.
    pub applied: Vec<String>,
    /// The steps that wait until no component of the previous release runs.
    pub remaining: Vec<String>,
}

/// How far to go.
#[derive(Clone, Copy)]
enum Target {
    /// Everything in a database without orders, otherwise all expand steps.
    Expanded,
    All,
    Version(i64),
}

/// Brings an empty database to the current schema, and any other one to the schema that this release and
/// the previous one can use at the same time. Safe to repeat, to interrupt, and to run twice at once.
///
/// # Errors
/// When the database cannot be reached, a step fails, or its locks stay taken for [`LOCK_TIME_OUT`].
pub async fn migrate(database_url: &str) -> Result<Outcome> {
    run(database_url, Target::Expanded).await
}

/// [`migrate`], and then removes what only the previous release's component uses: none may run any more.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_all(database_url: &str) -> Result<Outcome> {
    run(database_url, Target::All).await
}

/// Applies the steps up to a version, as a deployment of that time has them.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_to(database_url: &str, version: i64) -> Result<Outcome> {
    run(database_url, Target::Version(version)).await
}

async fn run(database_url: &str, target: Target) -> Result<Outcome> {
    let Steps { migrator, contract } = steps()?;
    let mut connection = connect(database_url).await?;
    prepare(&mut connection).await?;
    connection.ensure_migrations_table(HISTORY).await?;
    let known = connection.list_applied_migrations(HISTORY).await?;
    let is_pending =
        |step: &&Migration| known.iter().all(|applied| applied.version != step.version);
    let pending: Vec<&Migration> = migrator.iter().filter(is_pending).collect();

    let orders: Option<String> = sqlx::query_scalar("SELECT to_regclass('orders')::text")
        .fetch_one(&mut connection)
        .await?;
    let is_new = orders.is_none();
    let (now, later): (Vec<&Migration>, Vec<&Migration>) =
        pending.iter().partition(|step| match target {
            Target::Expanded => is_new || !contract.contains(&step.version),
            Target::All => true,
            Target::Version(version) => step.version <= version,
        });
    // `run_to` applies every lower step that it knows, so it must not know contract steps that are not due.
    let is_due = |step: &&Migration| later.iter().all(|other| other.version != step.version);
    let mut migrator = Migrator::with_migrations(migrator.iter().filter(is_due).cloned().collect());
    migrator.set_locking(false);

    // The steps in a new database are fast: their progress is of no interest.
    let mut observer = match is_new {
        true => None,
        false => Some(connect(database_url).await?),
    };
    for step in &now {
        if observer.is_some() {
            eprintln!("Migration {} ...", title(step));
        }
        let start = Instant::now();
        if let Some(attaching) = index_partitions(step, &mut connection).await? {
            migrator = with_step(&migrator, attaching);
        }
        apply(&migrator, step, &mut connection, observer.as_mut()).await?;
        if observer.is_some() {
            eprintln!("  done in {:.1?}", start.elapsed());
        }
    }
    // Also without pending steps: the migrator compares the applied ones with their files.
    if now.is_empty() {
        migrator.run_to(0, &mut connection).await?;
    }
    connection.close().await?;
    let titles = |steps: &[&Migration]| steps.iter().map(|step| title(step)).collect();
    Ok(Outcome {
        applied: titles(&now),
        remaining: titles(&later),
    })
}

/// Makes this the only migrator of the database.
async fn prepare(connection: &mut PgConnection) -> Result<()> {
    // A role's default would end a long step.
    connection.execute("SET statement_timeout = 0").await?;
    // If we die, the server ends the step that is in progress, where its platform can tell.
    let _ = connection
        .execute("SET client_connection_check_interval = '1s'")
        .await;
    // Not sqlx's lock: a migrator that waits for it is in a transaction, and CREATE INDEX CONCURRENTLY of
    // the migrator that holds it would wait for the end of that transaction: a deadlock.
    let lock = "SELECT pg_try_advisory_lock(hashtext('orders: migrations'))";
    while !sqlx::query_scalar::<_, bool>(lock)
        .fetch_one(&mut *connection)
        .await?
    {
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Applies one step, again and again while others hold its locks: a step gives up a lock soon, because
/// everybody who comes after it waits behind it.
async fn apply(
    migrator: &Migrator,
    step: &Migration,
    connection: &mut PgConnection,
    mut observer: Option<&mut PgConnection>,
) -> Result<()> {
    let start = Instant::now();
    loop {
        if step.no_tx {
            drop_invalid_indexes(step.sql.as_str(), connection).await?;
        }
        let (server_process,): (i32,) = sqlx::query_as("SELECT pg_backend_pid()")
            .fetch_one(&mut *connection)
            .await?;
        let mut work = pin!(migrator.run_to(step.version, &mut *connection));
        let result = loop {
            match (timeout(PROGRESS, &mut work).await, &mut observer) {
                (Ok(result), _) => break result,
                (Err(_), Some(observer)) => report_progress(observer, server_process).await?,
                (Err(_), None) => {}
            }
        };
        match result {
            Ok(()) => return Ok(()),
            Err(error) if is_locked(&error) && start.elapsed() < LOCK_TIME_OUT => {
                sleep(LOCK_PAUSE).await;
            }
            Err(error) if is_locked(&error) => bail!(
                "migration {}: a long transaction (pg_stat_activity shows it) holds a lock on the table; \
                 end it, or run this again later",
                title(step)
            ),
            Err(error) => {
                return Err(error).with_context(|| format!("migration {}", title(step)));
            }
        }
    }
}

/// Builds the index of a step in each partition of its table. Postgres builds no index concurrently on a partitioned
/// table, so the step then runs without that word: it finds the partitions' indexes and attaches them, which takes
/// milliseconds.
///
/// Nothing where the table is not partitioned.
async fn index_partitions(
    step: &Migration,
    connection: &mut PgConnection,
) -> Result<Option<Migration>> {
    const CONCURRENTLY: &str = "INDEX CONCURRENTLY IF NOT EXISTS ";
    let sql = step.sql.as_str();
    let Some((before, statement)) = sql.split_once(CONCURRENTLY) else {
        return Ok(None);
    };
    let parts = statement.split_once(" ON ").and_then(|(index, on)| {
        let (table, columns) = on.split_once(' ')?;
        Some((index, table, columns))
    });
    let (index, table, columns) = parts.with_context(|| title(step))?;
    let partitions: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_partition_tree($1::text::regclass) \
         JOIN pg_class ON pg_class.oid = relid WHERE isleaf AND level > 0 ORDER BY 1",
    )
    .bind(table)
    .fetch_all(&mut *connection)
    .await?;
    if partitions.is_empty() {
        return Ok(None);
    }
    for partition in &partitions {
        // As Postgres names it when a new table gets the index.
        let index = index.replacen(table, partition, 1);
        let statement = format!("{before}{CONCURRENTLY}{index} ON {partition} {columns}");
        drop_invalid_indexes(&statement, connection).await?;
        connection.execute(AssertSqlSafe(statement)).await?;
    }
    let mut attaching = step.clone();
    let sql = sql.replacen("CONCURRENTLY ", "", 1);
    attaching.sql = AssertSqlSafe(sql).into_sql_str();
    Ok(Some(attaching))
}

/// The steps, with another text of one of them.
fn with_step(migrator: &Migrator, step: Migration) -> Migrator {
    let one = |other: &Migration| match other.version == step.version {
        true => step.clone(),
        false => other.clone(),
    };
    let mut migrator = Migrator::with_migrations(migrator.iter().map(one).collect());
    migrator.set_locking(false);
    migrator
}

/// Drops the index that an interrupted CREATE INDEX CONCURRENTLY of this step left: IF NOT EXISTS would
/// take it for a finished one.
async fn drop_invalid_indexes(sql: &str, connection: &mut PgConnection) -> Result<()> {
    let invalid: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid \
         WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace",
    )
    .fetch_all(&mut *connection)
    .await?;
    let names = |name: &str| {
        sql.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .any(|word| word == name)
    };
    for index in invalid.iter().filter(|index| names(index)) {
        eprintln!("Dropping {index}, which an interrupted migration left unfinished ...");
        let statement = format!("DROP INDEX CONCURRENTLY IF EXISTS \"{index}\"");
        connection.execute(AssertSqlSafe(statement)).await?;
    }
    Ok(())
}

/// Prints how far the other session is.
async fn report_progress(observer: &mut PgConnection, server_process: i32) -> Result<()> {
    let progress: Option<String> = sqlx::query_scalar(
        "SELECT coalesce((SELECT phase || ', ' || blocks_done || ' of ' || blocks_total || ' blocks' \
                          FROM pg_stat_progress_create_index WHERE pid = activity.pid), \
                         nullif(application_name, ''), 'at work') \
         FROM pg_stat_activity AS activity WHERE pid = $1",
    )
    .bind(server_process)
    .fetch_optional(observer)
    .await?;
    if let Some(progress) = progress {
        eprintln!("  {progress}");
    }
    Ok(())
}

fn is_locked(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| LOCKED.contains(&code.as_ref()))
}

fn title(step: &Migration) -> String {
    format!("{:04} {}", step.version, step.description)
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
