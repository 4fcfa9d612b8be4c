//! Statements over Spin's interfaces of Postgres and SQLite.

use exactly_once_stores::platform::{Place, SendStatement, StatementError};
use exactly_once_stores::sql::{Row, Statement};
use spin_sdk::pg;
use spin_sdk::sqlite::wit::sqlite;

use crate::platform::Spin;
use crate::{postgres, sqlite as embedded};

/// A connection to the database that the variable `store` chooses.
pub enum Connection {
    /// Of the host's pool.
    Postgres(pg::Connection),
    /// To the instance's file.
    Sqlite(sqlite::Connection),
}

impl SendStatement for Spin {
    type Connection = Connection;

    async fn connect(&self, place: Place<'_>) -> Result<Connection, StatementError> {
        match place {
            Place::Postgres { url } => match pg::Connection::open(url).await {
                Ok(connection) => Ok(Connection::Postgres(connection)),
                Err(error) => Err(postgres::error(error)),
            },
            Place::Sqlite => embedded::open().map(Connection::Sqlite),
        }
    }

    async fn rows(&self, connection: &Connection, statement: &Statement<'_>) -> Result<Vec<Row>, StatementError> {
        match connection {
            Connection::Postgres(connection) => {
                let rows = postgres::rows(connection, statement).await;
                rows.map_err(postgres::error)
            }
            Connection::Sqlite(connection) => embedded::rows(connection, statement),
        }
    }

    /// Spin counts the rows of a `SELECT` as well. If it did not, a resource would be inserted once more.
    async fn count(&self, connection: &Connection, statement: &Statement<'_>) -> Result<usize, StatementError> {
        match connection {
            Connection::Postgres(connection) => {
                let count = connection.execute(statement.sql, postgres::values(statement)).await;
                let count = count.map_err(postgres::error)?;
                Ok(usize::try_from(count).unwrap_or(usize::MAX))
            }
            Connection::Sqlite(_) => Ok(self.rows(connection, statement).await?.len()),
        }
    }
}
