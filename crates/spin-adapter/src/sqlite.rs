//! Sends statements to Spin's own SQLite, over one connection per instance; other instances have others to the same file.

use std::rc::Rc;
use std::time::Duration;

use protocol::Collection;
use spin_sdk::sqlite::{Connection, Error, Value};
use stores::postgres::{Parameter, Statement};
use stores::sqlite::{LOG_MODE, setup};

use crate::database::{AnyRow, Failure};
use crate::log::{Outage, once};
use crate::shared_connection::{self, SharedConnection};

thread_local! {
    static CONNECTION: SharedConnection<Connection> = const { SharedConnection::closed() };
    static OUTAGE: Outage = const { Outage::none("sqlite") };
}

/// The rows of a statement, once it has ended: only then its transaction has committed. The connection is opened, and the
/// table created, where that is necessary.
pub async fn query(
    collection: &Collection,
    busy_timeout: Duration,
    Statement { sql, parameters }: Statement<'_>,
) -> Result<Vec<AnyRow>, Failure> {
    let open = async || open(collection, busy_timeout).await;
    let connection = shared_connection::get(&CONNECTION, open).await;
    let connection = connection.map_err(|error| failure(&error))?;
    let rows = run(&connection, sql, parameters).await;
    let rows = rows.map_err(|error| {
        let failure = failure(&error);
        if let Failure::Outage = failure {
            // The next request finds out whether it is the connection.
            CONNECTION.with(|shared| shared.forget(&connection));
        }
        failure
    })?;
    OUTAGE.with(Outage::succeeded);
    Ok(rows.into_iter().map(AnyRow::Sqlite).collect())
}

/// A new connection to the file, which has the table from now on.
async fn open(collection: &Collection, busy_timeout: Duration) -> Result<Connection, Error> {
    let connection = Connection::open_default().await?;
    for sql in setup(collection, busy_timeout.as_millis()) {
        let rows = run(&connection, &sql, Vec::new()).await?;
        if let Some(Value::Text(mode)) = rows.first().and_then(|row| row.values.first())
            && mode != LOG_MODE
        {
            return Err(Error::Io(NO_FILE.to_owned()));
        }
    }
    Ok(connection)
}

/// What a database in memory gets.
const NO_FILE: &str = "the database is not a file that all instances share; the host needs a folder for its state";

async fn run(
    connection: &Connection,
    sql: &str,
    parameters: Vec<Parameter>,
) -> Result<Vec<SqliteRow>, Error> {
    let parameters = parameters.into_iter().map(value);
    let result = connection.execute(sql, parameters).await?;
    let columns: Rc<[String]> = result.columns().into();
    let rows = result.collect().await?.into_iter();
    Ok(rows
        .map(|row| SqliteRow {
            columns: columns.clone(),
            values: row.values,
        })
        .collect())
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
    columns: Rc<[String]>,
    values: Vec<Value>,
}

impl SqliteRow {
    fn get(&self, column: &str) -> Option<&Value> {
        let index = self.columns.iter().position(|name| name == column)?;
        self.values.get(index)
    }

    /// As [`stores::postgres::Row::boolean`]; SQLite has numbers in place of truth values.
    pub fn boolean(&self, column: &str) -> Option<bool> {
        match self.get(column)? {
            Value::Integer(number) => Some(*number != 0),
            _ => None,
        }
    }

    /// As [`stores::postgres::Row::text`].
    pub fn text(&self, column: &str) -> Option<String> {
        match self.get(column)? {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// As [`stores::postgres::Row::bytes`].
    pub fn bytes(&self, column: &str) -> Option<Vec<u8>> {
        match self.get(column)? {
            Value::Blob(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }
}

/// What a failure means, by its text: Spin passes no code on. Neither statements nor parameters are in it.
fn failure(error: &Error) -> Failure {
    let why = match error {
        Error::Io(text) if text.contains("is locked") => {
            once("sqlite locked", &format!("sqlite: {text}"));
            return Failure::Transient;
        }
        Error::Io(text) => text,
        Error::NoSuchDatabase => "the host has no database \"default\"",
        Error::AccessDenied => "the manifest lacks sqlite_databases = [\"default\"]",
        Error::InvalidConnection => "invalid connection",
        Error::DatabaseFull => "the database is full",
    };
    outage(why)
}

/// The file does not answer.
pub fn outage(why: &str) -> Failure {
    OUTAGE.with(|outage| outage.failed(why, "requests are answered 503"));
    Failure::Outage
}
