//! Serves `spin:postgres`. As in Spin: a pool of 64 connections per address, reset without a rollback when
//! they come back, every statement prepared anew, and nothing times out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::config::Host as Server;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, NoTls, RowStream};
use wasmtime::component::{
    Accessor, Destination, FutureReader, Resource, StreamProducer, StreamReader, StreamResult,
};
use wasmtime::{AsContextMut, StoreContextMut};

use crate::bindings::spin::postgres::postgres::{
    Column, DbError, Error, Host, HostConnection, HostConnectionBuilder,
    HostConnectionBuilderWithStore, HostConnectionWithStore, ParameterValue, QueryError, Row,
    RowSet,
};
use crate::calls;
use crate::host::{HostState, Spin};
use crate::outbound::AllowedHosts;
use crate::values;

/// Spin's limit of connections per address.
const POOL_SIZE: usize = 64;

/// All pools, by address. One for the whole process, as in Spin.
#[derive(Default)]
pub struct Pools(Mutex<HashMap<String, Pool>>);

impl Pools {
    fn at(&self, address: &str, config: Config) -> Result<Pool, Error> {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(address) {
            return Ok(pool.clone());
        }
        let settings = ManagerConfig {
            recycling_method: RecyclingMethod::Clean,
        };
        let pool = Pool::builder(Manager::from_config(config, NoTls, settings))
            .max_size(POOL_SIZE)
            .build()
            .map_err(connection_failed)?;
        pools.insert(address.to_owned(), pool.clone());
        Ok(pool)
    }
}

/// A connection out of a pool. Goes back when the last handle is dropped.
#[derive(Clone)]
pub struct Connection(Arc<Object>);

/// What a connection is built from.
pub struct ConnectionBuilder {
    address: String,
}

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

/// Parses an address and refuses it unless every server in it is allowed.
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
            return Err(connection_failed(format!(
                "address postgres://{host} is not permitted"
            )));
        }
    }
    Ok(config)
}

async fn dial(pools: &Pools, allowed: &AllowedHosts, address: &str) -> Result<Connection, Error> {
    calls::POSTGRES_OPENED.count();
    let pool = pools.at(address, check(address, allowed)?)?;
    // Debug, as Spin does: Display leaves out why.
    let object = pool
        .get()
        .await
        .map_err(|e| connection_failed(format!("{e:?}")))?;
    Ok(Connection(Arc::new(object)))
}

impl Connection {
    async fn rows(
        &self,
        statement: &str,
        parameters: Vec<ParameterValue>,
    ) -> Result<RowStream, Error> {
        calls::POSTGRES_STATEMENTS.count();
        let parameters = values::to_sql(parameters)?;
        self.0
            .query_raw(statement, parameters)
            .await
            .map_err(query_failed)
    }

    async fn run(&self, statement: &str, parameters: Vec<ParameterValue>) -> Result<u64, Error> {
        calls::POSTGRES_STATEMENTS.count();
        let parameters = values::to_sql(parameters)?;
        let references: Vec<&(dyn ToSql + Sync)> = parameters
            .iter()
            .map(|p| p.as_ref() as &(dyn ToSql + Sync))
            .collect();
        self.0
            .execute(statement, &references)
            .await
            .map_err(query_failed)
    }
}

impl Host for HostState {}

impl HostConnectionBuilder for HostState {
    async fn new(&mut self, address: String) -> Resource<ConnectionBuilder> {
        #[allow(
            clippy::expect_used,
            reason = "the constructor has no way to fail, and a full table ends the instance anyway"
        )]
        self.table
            .push(ConnectionBuilder { address })
            .expect("the resource table is full")
    }

    async fn set_ca_root(
        &mut self,
        _: Resource<ConnectionBuilder>,
        _: String,
    ) -> Result<(), Error> {
        Err(Error::Other(
            "this runner does not do TLS to Postgres; use Spin for it".to_owned(),
        ))
    }

    async fn build(
        &mut self,
        builder: Resource<ConnectionBuilder>,
    ) -> Result<Resource<Connection>, Error> {
        let builder = self.table.get(&builder).map_err(connection_failed)?;
        let address = builder.address.clone();
        HostConnection::open(self, address).await
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
        let address = accessor.with(|mut access| {
            let builder = access.get().table.get(&builder);
            builder
                .map(|b| b.address.clone())
                .map_err(connection_failed)
        })?;
        <Self as HostConnectionWithStore<T>>::open_async(accessor, address).await
    }
}

impl HostConnection for HostState {
    async fn open(&mut self, address: String) -> Result<Resource<Connection>, Error> {
        let connection = dial(&self.pools, &self.allowed_hosts, &address).await?;
        self.table.push(connection).map_err(connection_failed)
    }

    async fn query(
        &mut self,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<RowSet, Error> {
        let connection = self.table.get(&connection).map_err(connection_failed)?;
        let rows = connection.clone().rows(&statement, parameters).await?;
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
        connection.clone().run(&statement, parameters).await
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

fn handle<T: Send>(
    accessor: &Accessor<T, Spin>,
    connection: &Resource<Connection>,
) -> Result<Connection, Error> {
    accessor.with(|mut access| {
        let connection = access.get().table.get(connection);
        connection.cloned().map_err(connection_failed)
    })
}

impl<T: Send> HostConnectionWithStore<T> for Spin {
    async fn open_async(
        accessor: &Accessor<T, Self>,
        address: String,
    ) -> Result<Resource<Connection>, Error> {
        let (pools, allowed) = accessor.with(|mut access| {
            let state = access.get();
            (state.pools.clone(), state.allowed_hosts.clone())
        });
        let connection = dial(&pools, &allowed, &address).await?;
        accessor.with(|mut access| {
            let table = &mut access.get().table;
            table.push(connection).map_err(connection_failed)
        })
    }

    async fn execute_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<u64, Error> {
        handle(accessor, &connection)?
            .run(&statement, parameters)
            .await
    }

    async fn query_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<
        (
            Vec<Column>,
            StreamReader<Row>,
            FutureReader<Result<(), Error>>,
        ),
        Error,
    > {
        let connection = handle(accessor, &connection)?;
        let rows = connection.rows(&statement, parameters).await?;
        let (row_sender, row_receiver) = mpsc::channel(4);
        let (column_sender, columns) = oneshot::channel();
        let (end_sender, end) = oneshot::channel();
        tokio::spawn(async move {
            let outcome = pump(rows, column_sender, row_sender).await;
            let _ = end_sender.send(outcome);
        });
        // As in Spin: known with the first row, and empty when there is none.
        let columns = columns.await.unwrap_or_default();
        accessor
            .with(|mut access| {
                let rows = StreamReader::new(access.as_context_mut(), Rows(row_receiver))?;
                let end = FutureReader::new(access.as_context_mut(), end)?;
                wasmtime::error::Ok((columns, rows, end))
            })
            .map_err(|e| Error::Other(e.to_string()))
    }
}

/// Hands rows on until there are no more or nobody wants them.
async fn pump(
    rows: RowStream,
    columns: oneshot::Sender<Vec<Column>>,
    sender: mpsc::Sender<Row>,
) -> Result<(), Error> {
    let mut rows = std::pin::pin!(rows);
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

/// Rows on their way into the component.
struct Rows(mpsc::Receiver<Row>);

impl<D> StreamProducer<D> for Rows {
    type Item = Row;
    type Buffer = Option<Row>;

    fn poll_produce<'a>(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, Row, Option<Row>>,
        finish: bool,
    ) -> std::task::Poll<wasmtime::Result<StreamResult>> {
        use std::task::Poll;

        if destination.remaining(store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        match self.get_mut().0.poll_recv(cx) {
            Poll::Ready(Some(row)) => {
                destination.set_buffer(Some(row));
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(None) => Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }
}
