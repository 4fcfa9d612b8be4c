//! Parameters, rows and errors of Spin's SQLite interface.
//!
//! With the interface's synchronous functions, which the SDK generates and does not wrap: a call returns when the
//! statement has ended and its transaction has committed. Rows as a stream would keep the file locked while they are
//! read. The instance's other requests wait meanwhile, as they would for the connection; a call ends soon where the
//! file is locked.

use std::rc::Rc;

use exactly_once_stores::platform::StatementError;
use exactly_once_stores::sql::{Parameter, Row, Statement, Value};
use spin_sdk::sqlite::wit::sqlite::Connection;
use spin_sdk::sqlite::{Error, Value as SqliteValue};

/// A connection to the file; other instances have others.
pub fn open() -> Result<Connection, StatementError> {
    Connection::open("default").map_err(error)
}

/// The rows of a statement, once it has ended.
pub fn rows(connection: &Connection, statement: &Statement<'_>) -> Result<Vec<Row>, StatementError> {
    let parameters: Vec<SqliteValue> = statement.parameters.iter().map(value).collect();
    let result = connection.execute(statement.sql, &parameters);
    let result = result.map_err(error)?;
    let columns: Rc<[String]> = result.columns.into();
    let rows = result.rows.into_iter().map(|row| {
        let values = row.values.into_iter().map(read).collect();
        Row::new(columns.clone(), values)
    });
    Ok(rows.collect())
}

fn value(parameter: &Parameter) -> SqliteValue {
    match parameter {
        Parameter::Text(text) | Parameter::NullableText(Some(text)) => SqliteValue::Text(text.clone()),
        Parameter::NullableText(None) => SqliteValue::Null,
        Parameter::Bytes(bytes) => SqliteValue::Blob(bytes.clone()),
        Parameter::Int64(number) => SqliteValue::Integer(*number),
    }
}

fn read(value: SqliteValue) -> Value {
    match value {
        SqliteValue::Integer(number) => Value::Int64(number),
        SqliteValue::Text(text) => Value::Text(text),
        SqliteValue::Blob(bytes) => Value::Bytes(bytes),
        SqliteValue::Real(_) | SqliteValue::Null => Value::Other,
    }
}

fn error(error: Error) -> StatementError {
    let text = match error {
        Error::Io(text) => text,
        Error::NoSuchDatabase => "the host has no database \"default\"".to_owned(),
        Error::AccessDenied => "the manifest lacks sqlite_databases = [\"default\"]".to_owned(),
        Error::InvalidConnection => "invalid connection".to_owned(),
        Error::DatabaseFull => "the database is full".to_owned(),
    };
    StatementError { sqlstate: None, text }
}
