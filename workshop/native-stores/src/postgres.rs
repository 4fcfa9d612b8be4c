//! Statements over `tokio-postgres`.

use exactly_once_stores::sql::Parameter;
use futures::TryStreamExt;
use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Client, Error, ToStatement};

/// A row as the core reads it.
#[derive(Debug)]
pub struct Row(tokio_postgres::Row);

impl From<tokio_postgres::Row> for Row {
    fn from(row: tokio_postgres::Row) -> Self {
        Self(row)
    }
}

impl Row {
    /// `None` for NULL, another type, and a missing column.
    fn read<'r, T: FromSql<'r>>(&'r self, column: &str) -> Option<T> {
        self.0.try_get::<_, Option<T>>(column).ok().flatten()
    }
}

impl exactly_once_stores::sql::Row for Row {
    fn boolean(&self, column: &str) -> Option<bool> {
        self.read(column)
    }

    fn text(&self, column: &str) -> Option<String> {
        self.read(column)
    }

    fn bytes(&self, column: &str) -> Option<Vec<u8>> {
        self.read(column)
    }
}

/// A parameter of a statement, owned.
pub type Value = Box<dyn ToSql + Send + Sync>;

/// The parameter as `tokio-postgres` takes it.
pub fn value(parameter: Parameter) -> Value {
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
    rows.map_ok(Row::from).try_collect().await
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
    use tokio_postgres::types::Type;

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
            assert!(
                value.to_sql_checked(&other, &mut bytes).is_err(),
                "{value:?}"
            );
        }
    }
}
