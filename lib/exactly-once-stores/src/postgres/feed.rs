//! The feed: what [`exactly_once::feed`] asks of Postgres, two statements.

// - **The writers** are the transactions that have `RowExclusiveLock` on the table or on one of its partitions. Whoever inserts
//   takes this lock before the default of `seq` is evaluated, and a stronger lock does not take its place. The lock is released
//   after the transaction has become visible to new snapshots (`CommitTransaction`: `ProcArrayEndTransaction`, then the locks).
//   With synchronous replication both happen after the wait for the standby.
// - **The order within [`LOOK`].** A statement's snapshot is taken before its execution, and the locks are read in its
//   execution. Each statement is a transaction, so that also with `repeatable read` or `serializable` as the default level each
//   has a snapshot of its own.
// - **`pg_locks` misses no lock that is held all the while it is read.** It reads the fast-path locks of one session after
//   another, and then the common table. A lock that moves meanwhile moves from the former to the latter.
// - **Names.** No two transactions have one `virtualtransaction`. A transaction that is prepared (`PREPARE TRANSACTION`) keeps
//   its locks under another one, without a process.
// - **Numbers** ascend: the sequence has no cache, and only the column's default draws from it.

use exactly_once::feed::{Cursor, Mark};
use exactly_once::ports::{FeedEntry, FeedRows, Outlook, Writers};
use exactly_once::{Document, ResourceId};

use super::{Parameter, Row, Statement, Statements, Unreadable};

/// One row: the mark, the greatest number of the next page, and the writers, if `$3` is not NULL only those that are in it or
/// have got another name since.
pub(super) const LOOK: &str = "\
    SELECT feed_numbering('{table}') AS here, \
        (SELECT int8send(max(seq)) \
         FROM (SELECT seq FROM {table} WHERE seq > $1 ORDER BY seq LIMIT $2) AS next) AS last, \
        (SELECT string_agg(virtualtransaction, ',') FROM pg_locks \
         WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted \
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
           AND relation IN (SELECT relid::oid FROM pg_partition_tree('{table}') \
                            UNION SELECT '{table}'::regclass::oid) \
           AND ($3::text IS NULL OR pid IS NULL \
                OR virtualtransaction = ANY (string_to_array($3::text, ',')))) AS writers";

/// One row per resource, and one without a resource where there is none. Up to 1 MB of documents, and the first one in any
/// case.
pub(super) const READ: &str = "\
    SELECT here, here AS mark, int8send(seq) AS seq, id, customer_id, document \
    FROM (SELECT feed_numbering('{table}') AS here) AS current \
    LEFT JOIN ( \
        SELECT *, sum(octet_length(document)) OVER (ORDER BY seq) - octet_length(document) AS before \
        FROM (SELECT seq, {id}::text AS id, customer_id, document::text AS document \
              FROM {table} WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3) AS numbered \
    ) AS page ON before < 1000000 \
    ORDER BY page.seq";

impl Statements {
    /// Looks at what follows a number; read the row with [`outlook`].
    pub fn look(&self, after: i64, limit: usize, among: Option<&Writers>) -> Statement<'_> {
        Statement {
            sql: &self.look,
            parameters: vec![
                Parameter::Int64(after),
                number(limit),
                Parameter::NullableText(among.map(|among| among.0.clone())),
            ],
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
    row.and_then(|row| read_outlook(row)).ok_or(Unreadable)
}

/// The resources in the rows of [`Statements::read`].
///
/// # Errors
/// As [`outlook`].
pub fn feed_rows(rows: &[impl Row]) -> Result<FeedRows, Unreadable> {
    let mut read = None;
    for row in rows {
        add_row(&mut read, row).ok_or(Unreadable)?;
    }
    read.ok_or(Unreadable)
}

// These are not generic, which saves code where two kinds of rows are one.

fn read_outlook(row: &dyn Row) -> Option<Outlook> {
    Some(Outlook {
        mark: mark(row, "here")?,
        last: seq(row, "last"),
        writers: Writers(row.text("writers").unwrap_or_default()),
    })
}

fn add_row(read: &mut Option<FeedRows>, row: &dyn Row) -> Option<()> {
    let mark_here = mark(row, "here")?;
    let read = read.get_or_insert_with(|| FeedRows {
        mark: mark_here,
        entries: Vec::new(),
    });
    if let Some(id) = row.text("id") {
        read.entries.push(FeedEntry {
            cursor: Cursor {
                mark: mark(row, "mark")?,
                seq: seq(row, "seq")?,
            },
            customer: row.text("customer_id")?,
            id: ResourceId::parse(&id)?,
            document: Document::from_text(row.text("document")?),
        });
    }
    Some(())
}

fn mark(row: &dyn Row, column: &str) -> Option<Mark> {
    Mark::from_bytes(&row.bytes(column)?)
}

fn seq(row: &dyn Row, column: &str) -> Option<i64> {
    Some(i64::from_be_bytes(row.bytes(column)?.try_into().ok()?))
}
