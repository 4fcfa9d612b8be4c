//! Sends statements to Postgres on connections of the host's pool. Batches go over one that the instance keeps for a short
//! time; every other statement takes a connection and returns it.

use std::rc::Rc;

use exactly_once::ports::{Attempt, NewResource};
use exactly_once_stores::postgres::{Parameter, Statement, Statements, attempts};
use spin_sdk::pg::{Connection, DbValue, Error, ParameterValue, PgError, QueryError};

use crate::connection_cache;
use crate::database::{AnyRow, Failure};
use crate::log::{Outage, once};

thread_local! {
    static OUTAGE: Outage = const { Outage::none("postgres") };
}

/// The rows of a statement, once it has ended.
pub async fn query(url: &str, statement: Statement<'_>) -> Result<Vec<AnyRow>, Failure> {
    let work = async {
        let connection = Connection::open(url).await?;
        rows(&connection, statement).await
    };
    let rows = work.await.map_err(|error: Error| failure(&error))?;
    OUTAGE.with(Outage::succeeded);
    Ok(rows)
}

/// Inserts a batch over the kept connection.
pub async fn insert_all(
    url: &str,
    statements: &Statements,
    batch: &[&NewResource],
) -> Result<Vec<Attempt>, Failure> {
    let work = async {
        let connection = match connection_cache::take() {
            Some(connection) => connection,
            None => Connection::open(url).await?,
        };
        let attempts = insert_over(&connection, statements, batch).await?;
        connection_cache::put(connection);
        Ok(attempts)
    };
    let attempts = work.await.map_err(|error: Error| failure(&error))?;
    OUTAGE.with(Outage::succeeded);
    Ok(attempts)
}

async fn insert_over(
    connection: &Connection,
    statements: &Statements,
    batch: &[&NewResource],
) -> Result<Vec<Attempt>, Error> {
    if let [new] = batch {
        let Statement { sql, parameters } = statements.insert_new(new);
        // The host counts a SELECT's rows as well. If it did not, the resource would be inserted once more.
        let inserted = connection.execute(sql, values(parameters)).await?;
        return Ok(vec![match inserted {
            0 => Attempt::Undecided,
            _ => Attempt::Inserted,
        }]);
    }
    let rows = rows(connection, statements.insert_all(batch)).await?;
    Ok(attempts(batch, rows.first()))
}

async fn rows(
    connection: &Connection,
    Statement { sql, parameters }: Statement<'_>,
) -> Result<Vec<AnyRow>, Error> {
    let mut result = connection.query(sql, values(parameters)).await?;
    let names = result.columns().iter().map(|column| column.name.clone());
    let columns: Rc<[String]> = names.collect();
    let mut rows = Vec::new();
    while let Some(values) = result.rows().next().await {
        let columns = columns.clone();
        rows.push(AnyRow::Postgres(PostgresRow { columns, values }));
    }
    result.result().await?;
    Ok(rows)
}

/// A row of Spin's, with the names of its columns. The SDK's own row brings text for values of another type: 25 KB of
/// code that prints floating-point numbers.
pub struct PostgresRow {
    columns: Rc<[String]>,
    values: Vec<DbValue>,
}

impl PostgresRow {
    fn get(&self, column: &str) -> Option<&DbValue> {
        let index = self.columns.iter().position(|name| name == column)?;
        self.values.get(index)
    }

    /// As [`exactly_once_stores::postgres::Row::boolean`].
    pub fn boolean(&self, column: &str) -> Option<bool> {
        match self.get(column)? {
            DbValue::Boolean(boolean) => Some(*boolean),
            _ => None,
        }
    }

    /// As [`exactly_once_stores::postgres::Row::text`].
    pub fn text(&self, column: &str) -> Option<String> {
        match self.get(column)? {
            DbValue::Str(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// As [`exactly_once_stores::postgres::Row::bytes`].
    pub fn bytes(&self, column: &str) -> Option<Vec<u8>> {
        match self.get(column)? {
            DbValue::Binary(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }
}

fn values(parameters: Vec<Parameter>) -> Vec<ParameterValue> {
    parameters.into_iter().map(value).collect()
}

fn value(parameter: Parameter) -> ParameterValue {
    match parameter {
        Parameter::Text(text) | Parameter::NullableText(Some(text)) => ParameterValue::Str(text),
        Parameter::NullableText(None) => ParameterValue::DbNull,
        Parameter::Bytes(bytes) => ParameterValue::Binary(bytes),
        Parameter::Int64(number) => ParameterValue::Int64(number),
    }
}

/// What a failure means, by the SQLSTATE. Transient are serialization_failure, deadlock_detected, lock_not_available, and
/// query_canceled, which is the statement timeout where an operator has set one.
fn failure(error: &Error) -> Failure {
    let Some(code) = sqlstate(error).filter(|code| !is_down(code)) else {
        return outage(&describe(error));
    };
    // A server that refuses a statement is up. It refuses the next one as well, so that is logged once.
    once(
        &format!("postgres {code}"),
        &format!("postgres: {}", describe(error)),
    );
    match code {
        "40001" | "40P01" | "55P03" | "57014" => Failure::Transient,
        _ => Failure::Refused,
    }
}

/// The server does not answer.
pub fn outage(why: &str) -> Failure {
    OUTAGE.with(|outage| outage.failed(why, "requests are answered 503"));
    Failure::Outage
}

/// The code of a failure that the server has reported.
fn sqlstate(error: &Error) -> Option<&str> {
    match error {
        Error::PgError(PgError::QueryFailed(QueryError::DbError(e))) => Some(&e.code),
        _ => None,
    }
}

/// Whether a server with this SQLSTATE serves no request: it shuts down or starts, is out of something, or is not a
/// primary. One that has cancelled a statement serves others.
fn is_down(code: &str) -> bool {
    code != "57014" && ["08", "53", "57", "58", "25"].contains(&code.get(..2).unwrap_or_default())
}

/// For the log: what the server said, without values, which it puts into `detail` and into messages about data (class
/// 22); and what to do about undefined tables, columns and functions.
fn refusal(code: &str, message: &str) -> String {
    match code {
        "42P01" | "42703" | "42883" => format!("{code} {message}; apply the migrations"),
        _ if code.starts_with("22") => format!("{code}, a value is refused"),
        _ => format!("{code} {message}"),
    }
}

/// For the log. Neither statements nor parameters are in it.
fn describe(error: &Error) -> String {
    match error {
        Error::PgError(PgError::QueryFailed(QueryError::DbError(e))) => {
            refusal(&e.code, &e.message)
        }
        Error::PgError(PgError::QueryFailed(QueryError::Text(text))) => text.clone(),
        Error::PgError(PgError::ConnectionFailed(text)) => format!("connection failed: {text}"),
        Error::PgError(PgError::BadParameter(_)) => "bad parameter".to_owned(),
        Error::PgError(PgError::ValueConversionFailed(_)) | Error::Decode(_) => {
            "unexpected value".to_owned()
        }
        Error::PgError(PgError::Other(text)) => text.clone(),
    }
}
