//! The feed: what [`exactly_once::feed`] asks of the database, two statements, and how their rows are read.

use exactly_once::feed::{Cursor, Mark};
use exactly_once::ports::{FeedEntry, FeedRows, Outlook, Writers};
use exactly_once::{Document, ResourceId};

use super::{Parameter, Row, Statement, Statements, Unreadable};

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
        Statement { sql: &self.read, parameters: vec![Parameter::Int64(after), Parameter::Int64(last), number(limit)] }
    }
}

fn number(limit: usize) -> Parameter {
    Parameter::Int64(i64::try_from(limit).unwrap_or(i64::MAX))
}

/// What follows a number, by the row of [`Statements::look`].
///
/// # Errors
/// [`Unreadable`] when the row is not as the statement returns it, or the server is a standby.
pub fn outlook(row: Option<&Row>) -> Result<Outlook, Unreadable> {
    row.and_then(read_outlook).ok_or(Unreadable)
}

/// The resources in the rows of [`Statements::read`].
///
/// # Errors
/// As [`outlook`].
pub fn feed_rows(rows: &[Row]) -> Result<FeedRows, Unreadable> {
    let mut read = None;
    for row in rows {
        add_row(&mut read, row).ok_or(Unreadable)?;
    }
    read.ok_or(Unreadable)
}

fn read_outlook(row: &Row) -> Option<Outlook> {
    Some(Outlook {
        mark: mark(row, "here")?,
        last: seq(row, "last"),
        writers: Writers(row.text("writers").unwrap_or_default()),
    })
}

fn add_row(read: &mut Option<FeedRows>, row: &Row) -> Option<()> {
    let mark_here = mark(row, "here")?;
    let read = read.get_or_insert_with(|| FeedRows { mark: mark_here, entries: Vec::new() });
    if let Some(id) = row.text("id") {
        read.entries.push(FeedEntry {
            cursor: Cursor { mark: mark(row, "mark")?, seq: seq(row, "seq")? },
            customer: row.text("customer_id")?,
            id: ResourceId::parse(&id)?,
            document: Document::from_text(row.text("document")?),
        });
    }
    Some(())
}

fn mark(row: &Row, column: &str) -> Option<Mark> {
    Mark::from_bytes(&row.bytes(column)?)
}

fn seq(row: &Row, column: &str) -> Option<i64> {
    Some(i64::from_be_bytes(row.bytes(column)?.try_into().ok()?))
}
