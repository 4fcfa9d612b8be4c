//! The feed: what [`protocol::feed`] asks of Postgres, two statements.
//!
//! - **The writers** are the transactions that have `RowExclusiveLock` on the table or on one of its partitions. Whoever inserts
//!   takes this lock before the default of `seq` is evaluated, and a stronger lock does not take its place. The lock is released
//!   after the transaction has become visible to new snapshots (`CommitTransaction`: `ProcArrayEndTransaction`, then the locks). With
//!   synchronous replication both happen after the wait for the standby.
//! - **The order within [`LOOK`].** A statement's snapshot is taken before its execution, and the locks are read in its
//!   execution. Each statement is a transaction, so that also with `repeatable read` or `serializable` as the default level each
//!   has a snapshot of its own.
//! - **`pg_locks` misses no lock that is held all the while it is read.** It reads the fast-path locks of one session after another, and
//!   then the common table. A lock that moves meanwhile moves from the former to the latter.
//! - **Names.** No two transactions have one `virtualtransaction`. A transaction that is prepared (`PREPARE TRANSACTION`) keeps its
//!   locks under another one, without a process.
//! - **Numbers** ascend: the sequence has no cache, and only the column's default draws from it.

use protocol::feed::{Cursor, Mark};
use protocol::ports::{FeedEntry, FeedRows, Outlook, Writers};
use protocol::{Document, ResourceId};

use super::{Parameter, Row, Statement, Statements, Unreadable};

/// One row: the mark, the greatest number of the next page, and the writers, those that are prepared as `prepared`.
pub(super) const LOOK: &str = "\
    SELECT feed_numbering('{table}') AS here, \
        (SELECT max(seq)::text \
         FROM (SELECT seq FROM {table} WHERE seq > $1 ORDER BY seq LIMIT $2) AS next) AS last, \
        (SELECT string_agg(CASE WHEN pid IS NULL THEN 'prepared' ELSE virtualtransaction END, ',') \
         FROM pg_locks \
         WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted \
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
           AND relation IN (SELECT relid::oid FROM pg_partition_tree('{table}') \
                            UNION SELECT '{table}'::regclass::oid)) AS writers";

/// One row per resource, and one without a resource where there is none. Up to 1 MB of documents, and the first one in any
/// case.
pub(super) const READ: &str = "\
    SELECT here, here AS mark, seq::text AS seq, id, customer_id, document \
    FROM (SELECT feed_numbering('{table}') AS here) AS current \
    LEFT JOIN ( \
        SELECT *, sum(octet_length(document)) OVER (ORDER BY seq) - octet_length(document) AS before \
        FROM (SELECT seq, {id}::text AS id, customer_id, document::text AS document \
              FROM {table} WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3) AS numbered \
    ) AS page ON before < 1000000 \
    ORDER BY page.seq";

impl Statements {
    /// Looks at what follows a number; read the row with [`outlook`].
    pub fn look(&self, after: i64, limit: usize) -> Statement<'_> {
        Statement {
            sql: &self.look,
            parameters: vec![Parameter::Int64(after), number(limit)],
        }
    }

    /// Reads what follows a number; read the rows with [`feed_rows`].
    pub fn read(&self, after: i64, last: i64, limit: usize) -> Statement<'_> {
        Statement {
            sql: &self.read,
            parameters: vec![
                Parameter::Int64(after),
                Parameter::Int64(last),
                number(limit),
            ],
        }
    }
}

fn number(limit: usize) -> Parameter {
    Parameter::Int64(i64::try_from(limit).unwrap_or(i64::MAX))
}

/// What follows a number, by the row of [`Statements::look`].
///
/// # Errors
/// [`Unreadable`] when the row is not as the statement returns it, or the server is a standby.
pub fn outlook(row: Option<&impl Row>) -> Result<Outlook, Unreadable> {
    let row = row.ok_or(Unreadable)?;
    let last = row.text("last").map(|last| last.parse());
    let mut writers = Writers::default();
    for name in row.text("writers").iter().flat_map(|all| all.split(',')) {
        match name {
            "prepared" => writers.prepared = true,
            name => writers.running.push(name.to_owned()),
        }
    }
    Ok(Outlook {
        mark: mark(row, "here")?,
        last: last.transpose().map_err(|_| Unreadable)?,
        writers,
    })
}

/// The resources in the rows of [`Statements::read`].
///
/// # Errors
/// As [`outlook`].
pub fn feed_rows(rows: &[impl Row]) -> Result<FeedRows, Unreadable> {
    let entries = rows.iter().filter(|row| row.text("id").is_some());
    Ok(FeedRows {
        mark: mark(rows.first().ok_or(Unreadable)?, "here")?,
        entries: entries.map(entry).collect::<Result<_, _>>()?,
    })
}

fn mark(row: &impl Row, column: &str) -> Result<Mark, Unreadable> {
    let bytes = row.bytes(column).ok_or(Unreadable)?;
    Mark::from_bytes(&bytes).ok_or(Unreadable)
}

fn entry(row: &impl Row) -> Result<FeedEntry, Unreadable> {
    let read = || {
        Some(FeedEntry {
            cursor: Cursor {
                mark: mark(row, "mark").ok()?,
                seq: row.text("seq")?.parse().ok()?,
            },
            customer: row.text("customer_id")?,
            id: ResourceId::parse(&row.text("id")?)?,
            document: Document::from_text(row.text("document")?),
        })
    };
    read().ok_or(Unreadable)
}
