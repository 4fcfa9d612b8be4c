//! Parameters, rows and errors of Spin's Postgres interface.

use std::rc::Rc;

use exactly_once_stores::platform::{MISCONFIGURED, StatementError};
use exactly_once_stores::sql::{Parameter, Row, Statement, Value};
use spin_sdk::pg::{Connection, DbValue, Error, ParameterValue, PgError, QueryError};

/// The rows of a statement, once it has ended.
pub async fn rows(connection: &Connection, statement: &Statement<'_>) -> Result<Vec<Row>, Error> {
    let mut result = connection.query(statement.sql, values(statement)).await?;
    let names = result.columns().iter().map(|column| column.name.clone());
    let columns: Rc<[String]> = names.collect();
    let mut rows = Vec::new();
    while let Some(values) = result.rows().next().await {
        let values = values.into_iter().map(read).collect();
        rows.push(Row::new(columns.clone(), values));
    }
    result.result().await?;
    Ok(rows)
}

/// A statement's parameters.
pub fn values(statement: &Statement<'_>) -> Vec<ParameterValue> {
    statement.parameters.iter().map(value).collect()
}

fn value(parameter: &Parameter) -> ParameterValue {
    match parameter {
        Parameter::Text(text) | Parameter::NullableText(Some(text)) => ParameterValue::Str(text.clone()),
        Parameter::NullableText(None) => ParameterValue::DbNull,
        Parameter::Bytes(bytes) => ParameterValue::Binary(bytes.clone()),
        Parameter::Int64(number) => ParameterValue::Int64(*number),
    }
}

fn read(value: DbValue) -> Value {
    match value {
        DbValue::Boolean(boolean) => Value::Boolean(boolean),
        DbValue::Str(text) => Value::Text(text),
        DbValue::Binary(bytes) => Value::Bytes(bytes),
        _ => Value::Other,
    }
}

fn not_permitted() -> String {
    format!("{MISCONFIGURED}database_allowed_host does not permit the host in database_url")
}

/// An error, without the values that Postgres puts into `detail`.
pub fn error(error: Error) -> StatementError {
    let text = match error {
        Error::PgError(PgError::QueryFailed(QueryError::DbError(error))) => {
            return StatementError { sqlstate: Some(error.code), text: error.message };
        }
        Error::PgError(PgError::QueryFailed(QueryError::Text(text))) => text,
        // Spin checks the address before it connects, and says `Other` where an entry cannot be read.
        Error::PgError(PgError::ConnectionFailed(text)) if text.ends_with("is not permitted") => not_permitted(),
        Error::PgError(PgError::Other(_)) => not_permitted(),
        Error::PgError(PgError::ConnectionFailed(text)) => format!("connection failed: {text}"),
        Error::PgError(PgError::BadParameter(_)) => "bad parameter".to_owned(),
        Error::PgError(PgError::ValueConversionFailed(_)) | Error::Decode(_) => "unexpected value".to_owned(),
    };
    StatementError { sqlstate: None, text }
}
