//! What the stores need of the host that an instance runs on. An adapter implements it by translating values; all
//! decisions are made here.

#![allow(async_fn_in_trait, reason = "the callers are generic and single-threaded; none needs a Send bound")]

use exactly_once::ports::Clock;
use exactly_once::signals::Signals;

use crate::redis::{Command, Reply};
use crate::sql::{Row, Statement};

/// The host of an instance: connections, time, and tasks. Clones are the same host.
pub trait Platform: SendStatement + SendCommand + Clock + Clone + 'static {
    /// How requests of the instance wake each other.
    type Signals: Signals + Clone;

    /// Runs a task that may outlive the request.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// Writes a line to the log, with one call of the host.
    fn write_line(&self, line: String);
}

/// The beginning of the text of an error that only the operator can end. It names a variable.
pub const MISCONFIGURED: &str = "misconfigured: ";

/// Sends statements to the database.
pub trait SendStatement {
    /// A connection. It serves one statement at a time.
    type Connection: 'static;

    /// A connection on which no statement is under way.
    async fn connect(&self, place: Place<'_>) -> Result<Self::Connection, StatementError>;

    /// The rows of a statement, once it has ended: only then its transaction has committed.
    async fn rows(&self, connection: &Self::Connection, statement: &Statement<'_>) -> Result<Vec<Row>, StatementError>;

    /// How many rows a statement of Postgres has returned. Cheaper than [`Self::rows`] where the host counts them.
    async fn count(&self, connection: &Self::Connection, statement: &Statement<'_>) -> Result<usize, StatementError> {
        Ok(self.rows(connection, statement).await?.len())
    }
}

/// Where the database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'s> {
    /// A Postgres server.
    Postgres {
        /// May carry a password.
        url: &'s str,
    },
    /// The host's own SQLite.
    Sqlite,
}

/// Why a statement has returned no rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementError {
    /// The code, if the server has reported the error with one.
    pub sqlstate: Option<String>,
    /// For the log: without statements, parameters and addresses.
    pub text: String,
}

/// Sends commands to Redis.
pub trait SendCommand {
    /// A connection. It serves several commands at a time.
    type Link: 'static;

    /// A new connection.
    async fn dial(&self, url: &str) -> Result<Self::Link, CommandError>;

    /// The reply to a command.
    async fn send(&self, link: &Self::Link, command: &Command) -> Result<Reply, CommandError>;
}

/// Why a command has no reply. Redis's own messages name commands and states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError {
    /// For the log: without addresses, which may contain a password.
    pub text: String,
}
