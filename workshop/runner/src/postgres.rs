//! Implements `spin:postgres`. As in Spin: connections come from a pool and are reset without a rollback when they go
//! back, and nothing times out. Every statement is prepared anew, unless `--postgres-statements` says otherwise.

use std::pin::pin;

use futures::{StreamExt, TryStreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::config::Host as Server;
use tokio_postgres::{Config, RowStream};
use wasmtime::component::{Accessor, FutureReader, Resource, StreamReader};

use crate::bindings::spin::postgres::postgres::{
    Column, DbError, Error, Host, HostConnection, HostConnectionBuilder, HostConnectionBuilderWithStore,
    HostConnectionWithStore, ParameterValue, QueryError, Row, RowSet,
};
use crate::calls;
use crate::connections::{
    PostgresConnection as Connection, PostgresConnectionBuilder as ConnectionBuilder, PostgresPools, Statements,
    root_certificate,
};
use crate::host::{HostState, Spin};
use crate::outbound::AllowedHosts;
use crate::rows::streams;
use crate::values;

fn connection_failed(error: impl ToString) -> Error {
    Error::ConnectionFailed(error.to_string())
}

fn query_failed(error: tokio_postgres::Error) -> Error {
    let as_text = format!("{error:?}");
    Error::QueryFailed(match error.as_db_error() {
        None => QueryError::Text(as_text),
        Some(e) => QueryError::DbError(DbError {
            as_text,
            severity: e.severity().to_owned(),
            code: e.code().code().to_owned(),
            message: e.message().to_owned(),
            detail: e.detail().map(ToOwned::to_owned),
            extras: [
                ("constraint", e.constraint()),
                ("table", e.table()),
                ("column", e.column()),
                ("schema", e.schema()),
                ("hint", e.hint()),
            ]
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect(),
        }),
    })
}

/// Parses an address and rejects it unless every server in it is allowed.
fn check(address: &str, allowed: &AllowedHosts) -> Result<Config, Error> {
    let config: Config = address.parse().map_err(connection_failed)?;
    let ports = config.get_ports();
    for (index, server) in config.get_hosts().iter().enumerate() {
        let Server::Tcp(host) = server else {
            return Err(connection_failed("Unix sockets are not supported"));
        };
        let port = ports.get(index).or(ports.first()).copied();
        if !allowed.allow("postgres", host, port) {
            eprintln!("runner: connecting to postgres://{host} is not in allowed_outbound_hosts");
            return Err(connection_failed(format!("address postgres://{host} is not permitted")));
        }
    }
    Ok(config)
}

async fn connect(
    pools: &PostgresPools,
    allowed: &AllowedHosts,
    builder: ConnectionBuilder,
) -> Result<Connection, Error> {
    calls::POSTGRES_OPENED.count();
    let config = check(&builder.address, allowed)?;
    let connection = pools.connect(builder, config).await;
    connection.map_err(|e| connection_failed(with_causes(&e)))
}

/// An error as Spin hands it over: its `Debug`, but without the backtrace that this adds where RUST_BACKTRACE is set.
fn with_causes(error: &anyhow::Error) -> String {
    let text = format!("{error:?}");
    text.split("\n\nStack backtrace:").next().unwrap_or_default().to_owned()
}

/// Sends a statement whose rows are wanted.
async fn query(connection: &Connection, statement: &str, parameters: Vec<ParameterValue>) -> Result<RowStream, Error> {
    calls::POSTGRES_STATEMENTS.count();
    let Connection(client, statements) = connection;
    let types: Vec<_> = parameters.iter().map(values::parameter_type).collect();
    let parameters = values::to_sql(parameters)?;
    let rows = match statements {
        Statements::PreparedAnew => client.query_raw(statement, parameters).await,
        Statements::Typed => {
            let typed = parameters.into_iter().zip(types);
            client.query_typed_raw(statement, typed).await
        }
        Statements::PreparedOnce => {
            let prepared = client.prepare_cached(statement).await;
            let prepared = prepared.map_err(query_failed)?;
            client.query_raw(&prepared, parameters).await
        }
    };
    rows.map_err(query_failed)
}

/// Runs a statement; returns the number of rows it affected.
async fn execute(connection: &Connection, statement: &str, parameters: Vec<ParameterValue>) -> Result<u64, Error> {
    let mut rows = pin!(query(connection, statement, parameters).await?);
    while rows.try_next().await.map_err(query_failed)?.is_some() {}
    Ok(rows.rows_affected().unwrap_or_default())
}

impl Host for HostState {}

impl HostConnectionBuilder for HostState {
    async fn new(&mut self, address: String) -> Resource<ConnectionBuilder> {
        #[allow(
            clippy::expect_used,
            reason = "the constructor cannot return an error, and an instance with a full table is of no use"
        )]
        self.table.push(ConnectionBuilder { address, ca_root: None }).expect("the resource table is full")
    }

    async fn set_ca_root(&mut self, builder: Resource<ConnectionBuilder>, certificate: String) -> Result<(), Error> {
        root_certificate(&certificate).map_err(|e| Error::Other(format!("{e:#}")))?;
        let builder = self.table.get_mut(&builder).map_err(connection_failed)?;
        builder.ca_root = Some(certificate);
        Ok(())
    }

    async fn build(&mut self, builder: Resource<ConnectionBuilder>) -> Result<Resource<Connection>, Error> {
        let builder = self.table.get(&builder).map_err(connection_failed)?;
        let connection = connect(&self.pools, &self.allowed_hosts, builder.clone()).await?;
        self.table.push(connection).map_err(connection_failed)
    }

    async fn drop(&mut self, builder: Resource<ConnectionBuilder>) -> wasmtime::Result<()> {
        self.table.delete(builder)?;
        Ok(())
    }
}

impl<T: Send> HostConnectionBuilderWithStore<T> for Spin {
    async fn build_async(
        accessor: &Accessor<T, Self>,
        builder: Resource<ConnectionBuilder>,
    ) -> Result<Resource<Connection>, Error> {
        let builder = accessor.with(|mut access| {
            let builder = access.get().table.get(&builder);
            builder.cloned().map_err(connection_failed)
        })?;
        connect_async(accessor, builder).await
    }
}

/// [`connect`], without holding the store while it waits.
async fn connect_async<T: Send>(
    accessor: &Accessor<T, Spin>,
    builder: ConnectionBuilder,
) -> Result<Resource<Connection>, Error> {
    let (pools, allowed) = accessor.with(|mut access| {
        let state = access.get();
        (state.pools.clone(), state.allowed_hosts.clone())
    });
    let connection = connect(&pools, &allowed, builder).await?;
    accessor.with(|mut access| {
        let table = &mut access.get().table;
        table.push(connection).map_err(connection_failed)
    })
}

impl HostConnection for HostState {
    async fn open(&mut self, address: String) -> Result<Resource<Connection>, Error> {
        let builder = ConnectionBuilder { address, ca_root: None };
        let connection = connect(&self.pools, &self.allowed_hosts, builder).await?;
        self.table.push(connection).map_err(connection_failed)
    }

    async fn query(
        &mut self,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<RowSet, Error> {
        let connection = self.table.get(&connection).map_err(connection_failed)?;
        let rows = query(connection, &statement, parameters).await?;
        let rows: Vec<_> = rows.try_collect().await.map_err(query_failed)?;
        Ok(RowSet {
            columns: rows.first().map(values::columns).unwrap_or_default(),
            rows: rows.iter().map(values::row).collect::<Result<_, _>>()?,
        })
    }

    async fn execute(
        &mut self,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<u64, Error> {
        let connection = self.table.get(&connection).map_err(connection_failed)?;
        execute(connection, &statement, parameters).await
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

/// A second handle for a statement, so that the store is not held while it waits.
fn handle<T: Send>(accessor: &Accessor<T, Spin>, connection: &Resource<Connection>) -> Result<Connection, Error> {
    accessor.with(|mut access| {
        let connection = access.get().table.get(connection);
        connection.cloned().map_err(connection_failed)
    })
}

impl<T: Send> HostConnectionWithStore<T> for Spin {
    async fn open_async(accessor: &Accessor<T, Self>, address: String) -> Result<Resource<Connection>, Error> {
        let builder = ConnectionBuilder { address, ca_root: None };
        connect_async(accessor, builder).await
    }

    async fn execute_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<u64, Error> {
        let connection = handle(accessor, &connection)?;
        execute(&connection, &statement, parameters).await
    }

    async fn query_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<(Vec<Column>, StreamReader<Row>, FutureReader<Result<(), Error>>), Error> {
        let connection = handle(accessor, &connection)?;
        let rows = query(&connection, &statement, parameters).await?;
        let (row_sender, row_receiver) = mpsc::channel(4);
        let (column_sender, columns) = oneshot::channel();
        let (end_sender, end) = oneshot::channel();
        tokio::spawn(async move {
            let outcome = pump(rows, column_sender, row_sender).await;
            let _ = end_sender.send(outcome);
        });
        // As in Spin: the first row brings the columns; without rows they are empty.
        let columns = columns.await.unwrap_or_default();
        streams(accessor, columns, row_receiver, end).map_err(|e| Error::Other(e.to_string()))
    }
}

/// Sends rows to the component until the last row, or until the component stops reading.
async fn pump(rows: RowStream, columns: oneshot::Sender<Vec<Column>>, sender: mpsc::Sender<Row>) -> Result<(), Error> {
    let mut rows = pin!(rows);
    let mut columns = Some(columns);
    loop {
        let row = tokio::select! {
            biased;
            () = sender.closed() => return Ok(()),
            row = rows.next() => row,
        };
        let Some(row) = row.transpose().map_err(query_failed)? else {
            return Ok(());
        };
        if let Some(columns) = columns.take() {
            let _ = columns.send(values::columns(&row));
        }
        if sender.send(values::row(&row)?).await.is_err() {
            return Ok(());
        }
    }
}
