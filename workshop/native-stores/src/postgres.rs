//! Statements over `tokio-postgres`.

use exactly_once_stores::platform::StatementError;
use exactly_once_stores::sql::{Parameter, Row, Value};
use futures::TryStreamExt;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Error, ToStatement};

/// A row as `stores` reads it.
pub fn row(row: &tokio_postgres::Row) -> Row {
    let columns = row.columns().iter();
    let values = columns.clone().enumerate().map(|(index, column)| {
        let value = match *column.type_() {
            Type::BOOL => read(row, index).map(Value::Boolean),
            Type::TEXT => read(row, index).map(Value::Text),
            Type::BYTEA => read(row, index).map(Value::Bytes),
            Type::INT8 => read(row, index).map(Value::Int64),
            _ => None,
        };
        value.unwrap_or(Value::Other)
    });
    let values = values.collect();
    Row::new(columns.map(|column| column.name().to_owned()).collect(), values)
}

/// `None` for NULL.
fn read<'r, T: FromSql<'r>>(row: &'r tokio_postgres::Row, index: usize) -> Option<T> {
    row.try_get::<_, Option<T>>(index).ok().flatten()
}

/// An error, without the values that Postgres puts into `detail`.
pub fn error(error: &Error) -> StatementError {
    match error.as_db_error() {
        Some(reported) => {
            StatementError { sqlstate: Some(reported.code().code().to_owned()), text: reported.message().to_owned() }
        }
        None => StatementError { sqlstate: None, text: error.to_string() },
    }
}

/// A parameter of a statement, owned.
pub type Sent = Box<dyn ToSql + Send + Sync>;

/// The parameter as `tokio-postgres` takes it.
pub fn value(parameter: Parameter) -> Sent {
    match parameter {
        Parameter::Text(text) => Box::new(text),
        Parameter::NullableText(text) => Box::new(text),
        Parameter::Bytes(bytes) => Box::new(bytes),
        Parameter::Int64(number) => Box::new(number),
    }
}

/// Executes a statement, given as SQL or prepared, and returns its rows once it has ended: only then has its
/// transaction committed.
///
/// # Errors
/// The server's error, or the connection's.
pub async fn rows(
    client: &Client,
    statement: &(impl ToStatement + ?Sized),
    parameters: Vec<Parameter>,
) -> Result<Vec<Row>, Error> {
    let parameters = parameters.into_iter().map(value);
    let rows = client.query_raw(statement, parameters).await?;
    let rows: Vec<_> = rows.try_collect().await?;
    Ok(rows.iter().map(row).collect())
}

/// Executes a statement, given as SQL or prepared, and returns the number of rows that it affected or returned.
///
/// # Errors
/// The server's error, or the connection's.
pub async fn execute(
    client: &Client,
    statement: &(impl ToStatement + ?Sized),
    parameters: Vec<Parameter>,
) -> Result<u64, Error> {
    let parameters = parameters.into_iter().map(value);
    client.execute_raw(statement, parameters).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value that does not accept the parameter's type fails when it is sent.
    #[test]
    fn every_parameter_is_sent_as_the_type_that_it_names() {
        for (parameter, sent, other) in [
            (Parameter::Text("t".into()), Type::TEXT, Type::BYTEA),
            (Parameter::NullableText(None), Type::TEXT, Type::INT8),
            (Parameter::Bytes(vec![0]), Type::BYTEA, Type::TEXT),
            (Parameter::Int64(1), Type::INT8, Type::TEXT),
        ] {
            let value = value(parameter);
            let mut bytes = Default::default();
            assert!(value.to_sql_checked(&sent, &mut bytes).is_ok(), "{value:?}");
            assert!(value.to_sql_checked(&other, &mut bytes).is_err(), "{value:?}");
        }
    }
}
