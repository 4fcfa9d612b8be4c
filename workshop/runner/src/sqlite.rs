//! Implements `spin:sqlite`. As in Spin: each `open` is a connection of its own to the application's one file, with
//! rusqlite's settings (a busy timeout of 5 s, SQLite's own journal and `synchronous`), statements run one after the
//! other on threads that may block, and a file must not be attached.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::{Value as SqlValue, ValueRef};
use tokio::sync::{mpsc, oneshot};
use wasmtime::component::{Accessor, FutureReader, Resource, StreamReader};

use crate::bindings::spin::sqlite::sqlite::{
    Error, Host, HostConnection, HostConnectionWithStore, QueryResult, RowResult, Value,
};
use crate::calls;
use crate::host::{HostState, Spin};
use crate::rows::streams;

/// The one database that an application has without a runtime configuration.
pub const DEFAULT: &str = "default";

/// Where the database is: in a folder, or, without one, in memory, where each connection has another.
#[derive(Clone, Debug)]
pub struct Location(Option<PathBuf>);

impl Location {
    /// The file that Spin uses in that folder.
    pub fn in_folder(folder: Option<&Path>) -> Self {
        Self(folder.map(|folder| folder.join("sqlite_db.db")))
    }

    fn open(&self) -> Result<rusqlite::Connection, Error> {
        let connection = match &self.0 {
            None => rusqlite::Connection::open_in_memory(),
            Some(path) => {
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder).map_err(io)?;
                }
                rusqlite::Connection::open(path)
            }
        };
        let connection = connection.map_err(io)?;
        let authorizer = |context: AuthContext<'_>| match context.action {
            AuthAction::Attach { filename } if !matches!(filename, "" | ":memory:") => Authorization::Deny,
            _ => Authorization::Allow,
        };
        connection.authorizer(Some(authorizer)).map_err(io)?;
        Ok(connection)
    }
}

/// A connection, which is opened by its first statement.
#[derive(Clone)]
pub struct SqliteConnection {
    location: Location,
    opened: Arc<OnceLock<Mutex<rusqlite::Connection>>>,
}

impl SqliteConnection {
    fn to(location: Location) -> Self {
        Self { location, opened: Arc::default() }
    }

    /// Does something on the connection, after everything else that is done on it. Blocks.
    fn with<T>(&self, work: impl FnOnce(&rusqlite::Connection) -> Result<T, Error>) -> Result<T, Error> {
        let connection = match self.opened.get() {
            Some(connection) => connection,
            None => {
                let new = Mutex::new(self.location.open()?);
                self.opened.get_or_init(|| new)
            }
        };
        work(&connection.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs a statement, and gives its columns and then its rows to these functions. Blocks.
    fn run(
        &self,
        statement: &str,
        parameters: Vec<Value>,
        columns: impl FnOnce(Vec<String>),
        mut row: impl FnMut(RowResult) -> Result<(), Error>,
    ) -> Result<(), Error> {
        calls::SQLITE_STATEMENTS.count();
        self.with(|connection| {
            let mut statement = connection.prepare_cached(statement).map_err(io)?;
            let names = statement.column_names().into_iter().map(str::to_owned);
            columns(names.collect());
            let width = statement.column_count();
            let parameters = parameters.into_iter().map(to_sql);
            let parameters = rusqlite::params_from_iter(parameters);
            let mut rows = statement.query(parameters).map_err(io)?;
            while let Some(found) = rows.next().map_err(io)? {
                let values = (0..width).map(|column| found.get_ref(column).map(from_sql));
                let values = values.collect::<Result<Vec<_>, _>>().map_err(io)?;
                row(RowResult { values })?;
            }
            Ok(())
        })
    }
}

fn io(error: impl ToString) -> Error {
    Error::Io(error.to_string())
}

fn to_sql(value: Value) -> SqlValue {
    match value {
        Value::Null => SqlValue::Null,
        Value::Integer(number) => SqlValue::Integer(number),
        Value::Real(number) => SqlValue::Real(number),
        Value::Text(text) => SqlValue::Text(text),
        Value::Blob(bytes) => SqlValue::Blob(bytes),
    }
}

fn from_sql(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

/// Does something that blocks on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(io)?
}

impl HostState {
    fn open_database(&mut self, name: &str) -> Result<Resource<SqliteConnection>, Error> {
        if !self.databases.iter().any(|allowed| allowed == name) {
            return Err(Error::AccessDenied);
        }
        let connection = SqliteConnection::to(self.database.clone());
        self.table.push(connection).map_err(io)
    }

    fn database_handle(&mut self, connection: &Resource<SqliteConnection>) -> Result<SqliteConnection, Error> {
        let connection = self.table.get(connection);
        connection.cloned().map_err(|_| Error::InvalidConnection)
    }
}

impl Host for HostState {}

impl HostConnection for HostState {
    async fn open(&mut self, database: String) -> Result<Resource<SqliteConnection>, Error> {
        self.open_database(&database)
    }

    async fn execute(
        &mut self,
        connection: Resource<SqliteConnection>,
        statement: String,
        parameters: Vec<Value>,
    ) -> Result<QueryResult, Error> {
        let connection = self.database_handle(&connection)?;
        blocking(move || {
            let (mut columns, mut rows) = (Vec::new(), Vec::new());
            let keep = |row| {
                rows.push(row);
                Ok(())
            };
            connection.run(&statement, parameters, |names| columns = names, keep)?;
            Ok(QueryResult { columns, rows })
        })
        .await
    }

    async fn last_insert_rowid(&mut self, connection: Resource<SqliteConnection>) -> i64 {
        last_insert_rowid(self.database_handle(&connection)).await
    }

    async fn changes(&mut self, connection: Resource<SqliteConnection>) -> u64 {
        changes(self.database_handle(&connection)).await
    }

    async fn drop(&mut self, connection: Resource<SqliteConnection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

/// 0 before there is any, and for a connection that cannot be opened: the interface has no error here.
async fn last_insert_rowid(connection: Result<SqliteConnection, Error>) -> i64 {
    let work = blocking(move || connection?.with(|opened| Ok(opened.last_insert_rowid())));
    work.await.unwrap_or_default()
}

/// The same.
async fn changes(connection: Result<SqliteConnection, Error>) -> u64 {
    let work = blocking(move || connection?.with(|opened| Ok(opened.changes())));
    work.await.unwrap_or_default()
}

/// A second handle for a statement, so that the store is not held while it runs.
fn handle<T: Send>(
    accessor: &Accessor<T, Spin>,
    connection: &Resource<SqliteConnection>,
) -> Result<SqliteConnection, Error> {
    accessor.with(|mut access| access.get().database_handle(connection))
}

impl<T: Send> HostConnectionWithStore<T> for Spin {
    async fn open_async(accessor: &Accessor<T, Self>, database: String) -> Result<Resource<SqliteConnection>, Error> {
        accessor.with(|mut access| access.get().open_database(&database))
    }

    async fn execute_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<SqliteConnection>,
        statement: String,
        parameters: Vec<Value>,
    ) -> Result<(Vec<String>, StreamReader<RowResult>, FutureReader<Result<(), Error>>), Error> {
        let connection = handle(accessor, &connection)?;
        let (column_sender, columns) = oneshot::channel();
        let (row_sender, row_receiver) = mpsc::channel(4);
        let (end_sender, end) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let outcome = connection.run(
                &statement,
                parameters,
                |names| {
                    let _ = column_sender.send(names);
                },
                |row| row_sender.blocking_send(row).map_err(io),
            );
            let _ = end_sender.send(outcome);
        });
        // Without columns the statement is not prepared: the future says why.
        let columns = columns.await.unwrap_or_default();
        streams(accessor, columns, row_receiver, end).map_err(io)
    }

    async fn last_insert_rowid_async(accessor: &Accessor<T, Self>, connection: Resource<SqliteConnection>) -> i64 {
        last_insert_rowid(handle(accessor, &connection)).await
    }

    async fn changes_async(accessor: &Accessor<T, Self>, connection: Resource<SqliteConnection>) -> u64 {
        changes(handle(accessor, &connection)).await
    }
}
