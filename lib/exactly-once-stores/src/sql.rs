//! Resources as SQL: the statements' parameters, and how rows are read. [`crate::postgres`] and [`crate::sqlite`] have
//! the texts. One table per collection; the document is one column, so that nothing here depends on what a resource
//! looks like.

mod conditional;
mod feed;
mod reading;

use std::rc::Rc;
use std::time::Duration;

use exactly_once::ports::{Attempt, Insertion, NewResource, StoredResource};
use exactly_once::{Collection, Document, Fingerprint, History, InHistory, ResourceId};
use serde::Serialize;

/// A statement and its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement<'s> {
    /// The SQL.
    pub sql: &'s str,
    /// `$1`, `$2`, … in Postgres; `?1`, `?2`, … in SQLite.
    pub parameters: Vec<Parameter>,
}

impl<'s> Statement<'s> {
    /// A statement without parameters.
    pub fn plain(sql: &'s str) -> Self {
        Self { sql, parameters: Vec::new() }
    }
}

/// A parameter, by the type that Postgres expects for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// `text`
    Text(String),
    /// `text`, which may be NULL.
    NullableText(Option<String>),
    /// `bytea`
    Bytes(Vec<u8>),
    /// `bigint`
    Int64(i64),
}

/// A row of a result. Columns are read by name; NULL, another type and a missing column are all `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    columns: Rc<[String]>,
    values: Vec<Value>,
}

/// A value in a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `boolean`
    Boolean(bool),
    /// `text`
    Text(String),
    /// `bytea`
    Bytes(Vec<u8>),
    /// An integer. SQLite has numbers instead of truth values.
    Int64(i64),
    /// NULL, or a value of a type that nothing here reads.
    Other,
}

impl Row {
    /// The values of columns with these names.
    pub fn new(columns: Rc<[String]>, values: Vec<Value>) -> Self {
        Self { columns, values }
    }

    fn get(&self, column: &str) -> Option<&Value> {
        let index = self.columns.iter().position(|name| name == column)?;
        self.values.get(index)
    }

    /// `boolean`
    pub fn boolean(&self, column: &str) -> Option<bool> {
        match self.get(column)? {
            Value::Boolean(boolean) => Some(*boolean),
            Value::Int64(number) => Some(*number != 0),
            _ => None,
        }
    }

    /// `text`
    pub fn text(&self, column: &str) -> Option<String> {
        match self.get(column)? {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// `bytea`
    pub fn bytes(&self, column: &str) -> Option<Vec<u8>> {
        match self.get(column)? {
            Value::Bytes(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }
}

/// A stored resource that cannot be read: another program has written to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a stored row is not readable")
    }
}

impl std::error::Error for Unreadable {}

/// Declares the statements by name.
macro_rules! texts {
    ($($name:ident),+) => {
        /// The SQL of a database, with `{table}` and `{id}` for a collection's names.
        pub(crate) struct Templates {
            $(pub $name: &'static str),+
        }

        /// The statements of one collection's table.
        #[derive(Clone)]
        pub struct Statements {
            $($name: String),+
        }

        impl Statements {
            pub(crate) fn from_templates(collection: &Collection, templates: &Templates) -> Self {
                Self { $($name: fill_in(templates.$name, collection)),+ }
            }
        }
    };
}

texts!(
    insert,
    insert_new,
    insert_all,
    insert_based_on,
    find,
    find_by_key,
    page,
    look,
    read,
    history,
    draw_epochs,
    probe
);

impl Statements {
    /// Inserts the resource unless its scope has one; read the row with [`insertion`].
    /// It fails when it waits for another transaction for longer than the lock timeout.
    pub fn insert(&self, new: &NewResource, lock_timeout: Duration) -> Statement<'_> {
        let mut parameters = row_parameters(new);
        parameters.push(milliseconds(lock_timeout));
        Statement { sql: &self.insert, parameters }
    }

    /// Inserts the resource if it conflicts with nothing. Then Postgres returns [`crate::postgres::ROWS_OF_ONE`] rows.
    pub fn insert_new(&self, new: &NewResource) -> Statement<'_> {
        let customer = Parameter::Text(new.scope.customer.as_str().to_owned());
        Statement { sql: &self.insert_new, parameters: vec![Parameter::Text(json_rows(&[new])), customer] }
    }

    /// Inserts those resources that conflict with nothing, in the given order; read the row with [`attempts`].
    pub fn insert_all(&self, batch: &[&NewResource]) -> Statement<'_> {
        Statement { sql: &self.insert_all, parameters: vec![Parameter::Text(json_rows(batch))] }
    }

    /// Reads the history and nothing else; the row has the [`history`].
    pub fn history(&self) -> Statement<'_> {
        Statement::plain(&self.history)
    }

    /// Draws the history and the feed's numbering where rows name none: the server has begun a new incarnation.
    pub fn draw_epochs(&self) -> Statement<'_> {
        Statement::plain(&self.draw_epochs)
    }

    /// Fails unless the database accepts these statements. Changes nothing; the row has the [`history`].
    pub fn probe(&self) -> Statement<'_> {
        Statement::plain(&self.probe)
    }
}

/// A template with the collection's names.
pub(crate) fn fill_in(template: &str, collection: &Collection) -> String {
    template.replace("{table}", collection.name).replace("{id}", &format!("{}_id", collection.one))
}

/// `$1` to `$6` of a statement that inserts one resource: id, customer, key, fingerprint, document, and the time of
/// creation in milliseconds.
pub fn row_parameters(new: &NewResource) -> Vec<Parameter> {
    vec![
        Parameter::Text(new.id.to_string()),
        Parameter::Text(new.scope.customer.as_str().to_owned()),
        Parameter::Text(new.scope.key.as_str().to_owned()),
        Parameter::Bytes(new.fingerprint.as_bytes().to_vec()),
        Parameter::Text(new.document.as_str().to_owned()),
        Parameter::Int64(new.id.created_at_millis()),
    ]
}

/// A setting in milliseconds. 0 would mean no timeout.
fn milliseconds(duration: Duration) -> Parameter {
    Parameter::Text(duration.as_millis().max(1).to_string())
}

/// The argument of the insertion function.
fn json_rows(batch: &[&NewResource]) -> String {
    /// All members but the document, by the names that the function reads.
    #[derive(Serialize)]
    struct JsonRow<'a> {
        id: String,
        customer_id: &'a str,
        idempotency_key: &'a str,
        fingerprint: String,
        created_at: i64,
    }

    let rows = batch.iter().map(|new| {
        let row = exactly_once::json::to_json(&JsonRow {
            id: new.id.to_string(),
            customer_id: new.scope.customer.as_str(),
            idempotency_key: new.scope.key.as_str(),
            fingerprint: new.fingerprint.to_string(),
            created_at: new.id.created_at_millis(),
        });
        // The document is JSON already.
        let members = row.strip_suffix('}').unwrap_or(&row);
        format!(r#"{members},"document":{}}}"#, new.document.as_str())
    });
    format!("[{}]", rows.collect::<Vec<_>>().join(","))
}

/// What became of each resource of a batch, by the rows of [`Statements::insert_all`]: Postgres's one, or SQLite's one
/// for each insertion.
pub fn attempts<'r>(batch: &[&NewResource], rows: impl IntoIterator<Item = &'r Row>) -> Vec<Attempt> {
    let ids: Vec<String> = rows.into_iter().filter_map(|row| row.text("ids")).collect();
    let inserted: Vec<&str> = ids.iter().flat_map(|ids| ids.split(',')).collect();
    let attempt = |new: &&NewResource| {
        if inserted.contains(&new.id.to_string().as_str()) { Attempt::Inserted } else { Attempt::Undecided }
    };
    batch.iter().map(attempt).collect()
}

/// The result of [`Statements::insert`], by its row.
///
/// # Errors
/// [`Unreadable`] when the existing row cannot be read.
pub fn insertion(row: Option<&Row>) -> Result<InHistory<Insertion>, Unreadable> {
    in_history(row, |row| match row.boolean("inserted") {
        None => Ok(Insertion::Conflict),
        Some(true) => Ok(Insertion::Inserted),
        Some(false) => stored(row).map(Insertion::Existing),
    })
}

/// The database's history, in any row of a statement that returns rows; `None` on a standby, and until
/// [`Statements::draw_epochs`] in a new incarnation of the server.
pub fn history(row: &Row) -> Option<History> {
    History::from_bytes(&row.bytes("history")?)
}

/// What a row says, with the history in it.
fn in_history<T>(
    row: Option<&Row>,
    read: impl FnOnce(&Row) -> Result<T, Unreadable>,
) -> Result<InHistory<T>, Unreadable> {
    let row = row.ok_or(Unreadable)?;
    Ok(InHistory { history: history(row).ok_or(Unreadable)?, value: read(row)? })
}

/// The resource in the row of a statement that always returns one, if it has found one.
///
/// # Errors
/// As [`stored`].
pub fn found(row: Option<&Row>) -> Result<Option<StoredResource>, Unreadable> {
    let row = row.ok_or(Unreadable)?;
    row.text("id").map(|_| stored(row)).transpose()
}

/// The same, with the history.
///
/// # Errors
/// As [`stored`]; or there is no history.
pub fn found_in_history(row: Option<&Row>) -> Result<InHistory<Option<StoredResource>>, Unreadable> {
    in_history(row, |row| found(Some(row)))
}

/// The resource of a row with the columns `id`, `fingerprint` and `document`.
///
/// # Errors
/// [`Unreadable`] when one of them is not what an insertion writes. A document is not looked into.
pub fn stored(row: &Row) -> Result<StoredResource, Unreadable> {
    let read = || {
        Some(StoredResource {
            id: ResourceId::parse(&row.text("id")?)?,
            fingerprint: Fingerprint::from_bytes(&row.bytes("fingerprint")?)?,
            document: Document::from_text(row.text("document")?),
        })
    };
    read().ok_or(Unreadable)
}

pub use conditional::conditional_insertion;
pub use feed::{feed_rows, outlook};
pub use reading::page;

#[cfg(test)]
mod tests;
