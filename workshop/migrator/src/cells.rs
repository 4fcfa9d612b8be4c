//! Moves the customers of some slots from one database to another (docs/capacity.md, Cells). Each step can be repeated:
//! a move that was interrupted anywhere is run again. Until then the slots have one database, or none.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::time::sleep;

use crate::migrate::{connect, prepare};

/// How many rows are copied in one transaction.
const BATCH: i64 = 500;

/// Moves slots, such as `{[0,512)}`, of a resource's table from one database to another, and returns how many rows they
/// have. Both tables are fenced.
///
/// 1. Copies the rows up to a number that no later insertion has.
/// 2. The old database gives the slots up for the new one, and for no other one after that.
/// 3. Copies the other rows. There will be no more.
/// 4. The new database takes the slots, unless it has moved them on since: then this is a move that was interrupted
///    before, and another one has completed it.
///
/// # Errors
/// A database cannot be reached or is not fenced; it does not have the slots; or rows of one key differ.
pub async fn move_slots(from_url: &str, to_url: &str, table: &str, slots: &str) -> Result<u64> {
    let mut from = Cell::connect(from_url, table).await.context("the old database")?;
    let mut to = Cell::connect(to_url, table).await.context("the new database")?;
    ensure!(from.name != to.name, "both URLs lead to one database");
    // No migration meanwhile. Two moves lock in the same order.
    let both = if from.name < to.name { [&mut from, &mut to] } else { [&mut to, &mut from] };
    for cell in both {
        prepare(&mut cell.connection).await?;
    }
    let settled = from.change("settled_number($1::regclass)", &[]).await?.parse()?;
    let copied = copy(&mut from, &mut to, slots, 0, settled).await?;
    let tickets = from.change("give_slots($1::regclass, $2::int4multirange, $3)", &[slots, &to.name]).await?;
    let rest = copy(&mut from, &mut to, slots, settled, i64::MAX).await?;
    to.change("take_slots($1::regclass, $2::json)", &[&tickets]).await?;
    Ok(copied + rest)
}

/// Copies the rows of slots with numbers above `after` and up to `last`, in the order of their numbers.
async fn copy(from: &mut Cell, to: &mut Cell, slots: &str, mut after: i64, last: i64) -> Result<u64> {
    let table = from.table.as_str();
    let page = format!(
        "SELECT array_agg(kept::text ORDER BY seq), max(seq) FROM ( \
             SELECT * FROM {table} WHERE seq > $1 AND seq <= $2 AND slot_of(customer_id) <@ $3::int4multirange \
             ORDER BY seq LIMIT {BATCH}) AS kept"
    );
    let mut copied = 0;
    loop {
        let page = sqlx::query_as(AssertSqlSafe(page.as_str())).bind(after).bind(last).bind(slots);
        let (Some(rows), Some(end)): (Option<Vec<String>>, Option<i64>) = page.fetch_one(&mut from.connection).await?
        else {
            return Ok(copied);
        };
        let count = i64::try_from(rows.len())?;
        let copy = sqlx::query_scalar("SELECT copy_rows($1::regclass, $2)").bind(table).bind(rows);
        let same: i64 = copy.fetch_one(&mut to.connection).await?;
        ensure!(same == count, "{} rows of {table} from number {after} to {end} differ in the new one", count - same);
        (after, copied) = (end, copied + count.unsigned_abs());
    }
}

/// One of the databases.
struct Cell {
    connection: PgConnection,
    table: String,
    /// What tells it from all others.
    name: String,
}

impl Cell {
    async fn connect(url: &str, table: &str) -> Result<Self> {
        let mut connection = connect(url).await?;
        // So that both read values as the other one has written them, and slots as they are when they are locked.
        let same = "SELECT set_config('datestyle', 'ISO', false), \
                           set_config('default_transaction_isolation', 'read committed', false)";
        sqlx::query(same).execute(&mut connection).await?;
        let place = "SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || current_database(), \
                            $1::regclass::text, owned_slots($1::regclass) IS NOT NULL";
        let place = sqlx::query_as(place).bind(table).fetch_one(&mut connection);
        let (name, table, is_fenced): (String, String, bool) = place.await?;
        ensure!(is_fenced, "it is not fenced: see docs/capacity.md, Cells");
        Ok(Self { connection, table, name })
    }

    /// The value of an SQL expression that changes slots. Insertions wait behind it, so it fails soon if it waits for
    /// one, and is tried again.
    async fn change(&mut self, expression: &str, arguments: &[&str]) -> Result<String> {
        let sql = format!("SELECT coalesce({expression}::text, '')");
        loop {
            let mut query = sqlx::query_scalar(AssertSqlSafe(sql.as_str())).bind(self.table.as_str());
            for argument in arguments {
                query = query.bind(*argument);
            }
            match query.fetch_one(&mut self.connection).await {
                // lock_not_available
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55P03") => {
                    sleep(Duration::from_millis(50)).await;
                }
                changed => return Ok(changed?),
            }
        }
    }
}
