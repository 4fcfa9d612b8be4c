//! Sends statements to Spin's own SQLite, over one connection per instance; other instances have others to the same file.
//!
//! With the interface's synchronous functions, which the SDK generates and does not wrap: a call returns when the statement has
//! ended and its transaction has committed. Rows as a stream would keep the file locked while they are read. The instance's
//! other requests wait meanwhile, as they would for the connection; a call ends soon where the file is locked.

use std::cell::RefCell;
use std::rc::Rc;

use exactly_once::Collection;
use exactly_once_stores::postgres::{Parameter, Statement};
use exactly_once_stores::sqlite::{LOG_MODE, setup};
use spin_sdk::sqlite::wit::sqlite::{Connection, QueryResult};
use spin_sdk::sqlite::{Error, Value};

use crate::database::{AnyRow, Failure};
use crate::log::Outage;

thread_local! {
    static CONNECTION: RefCell<Option<Connection>> = const { RefCell::new(None) };
    static OUTAGE: Outage = const { Outage::none("sqlite") };
}

/// The rows of a statement. The connection is opened, and the table created, where that is necessary.
pub fn query(
    collection: &Collection,
    Statement { sql, parameters }: Statement<'_>,
) -> Result<Vec<AnyRow>, Failure> {
    let parameters: Vec<Value> = parameters.into_iter().map(value).collect();
    let result = CONNECTION.with_borrow_mut(|kept| {
        // A connection that fails is dropped: the next request finds out whether the file is there.
        let connection = match kept.take() {
            Some(connection) => connection,
            None => open(collection)?,
        };
        let result = connection.execute(sql, &parameters);
        if result.is_ok() || result.as_ref().is_err_and(is_locked) {
            *kept = Some(connection);
        }
        result
    });
    let QueryResult { columns, rows } = result.map_err(|error| failure(&error))?;
    OUTAGE.with(Outage::succeeded);
    let columns = Rc::new(columns);
    let rows = rows.into_iter().map(|row| {
        AnyRow::Sqlite(SqliteRow {
            columns: columns.clone(),
            values: row.values,
        })
    });
    Ok(rows.collect())
}

/// A new connection to the file, which has the table from now on.
fn open(collection: &Collection) -> Result<Connection, Error> {
    let connection = Connection::open("default")?;
    for sql in setup(collection) {
        let rows = connection.execute(&sql, &[])?.rows;
        if let Some(Value::Text(mode)) = rows.first().and_then(|row| row.values.first())
            && mode != LOG_MODE
        {
            return Err(Error::Io(NO_FILE.to_owned()));
        }
    }
    Ok(connection)
}

/// What a database in memory gets.
const NO_FILE: &str =
    "the database is not a file that all instances share; the host needs a folder for its state";

/// Whether another connection was in the way. Spin passes SQLite's text on, and no code.
fn is_locked(error: &Error) -> bool {
    matches!(error, Error::Io(text) if text.ends_with("is locked"))
}

fn value(parameter: Parameter) -> Value {
    match parameter {
        Parameter::Text(text) | Parameter::NullableText(Some(text)) => Value::Text(text),
        Parameter::NullableText(None) => Value::Null,
        Parameter::Bytes(bytes) => Value::Blob(bytes),
        Parameter::Int64(number) => Value::Integer(number),
    }
}

/// A row of Spin's, with the names of its columns.
pub struct SqliteRow {
    columns: Rc<Vec<String>>,
    values: Vec<Value>,
}

impl SqliteRow {
    fn get(&self, column: &str) -> Option<&Value> {
        let index = self.columns.iter().position(|name| name == column)?;
        self.values.get(index)
    }

    /// As [`exactly_once_stores::postgres::Row::boolean`]; SQLite has numbers in place of truth values.
    pub fn boolean(&self, column: &str) -> Option<bool> {
        match self.get(column)? {
            Value::Integer(number) => Some(*number != 0),
            _ => None,
        }
    }

    /// As [`exactly_once_stores::postgres::Row::text`].
    pub fn text(&self, column: &str) -> Option<String> {
        match self.get(column)? {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// As [`exactly_once_stores::postgres::Row::bytes`].
    pub fn bytes(&self, column: &str) -> Option<Vec<u8>> {
        match self.get(column)? {
            Value::Blob(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }
}

/// What a failure means. SQLite's texts have neither statements nor parameters in them.
fn failure(error: &Error) -> Failure {
    let why = match error {
        Error::Io(text) => text,
        Error::NoSuchDatabase => "the host has no database \"default\"",
        Error::AccessDenied => "the manifest lacks sqlite_databases = [\"default\"]",
        Error::InvalidConnection => "invalid connection",
        Error::DatabaseFull => "the database is full",
    };
    match is_locked(error) {
        true => Failure::Transient,
        false => outage(why),
    }
}

/// The file does not answer.
pub fn outage(why: &str) -> Failure {
    OUTAGE.with(|outage| outage.failed(why, "requests are answered 503"));
    Failure::Outage
}
