//! A host for an instance: native connections, and `tokio`'s time and tasks on the current thread.

use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use deadpool_postgres::{Object, Pool};
use exactly_once::ports::Clock;
use exactly_once::signals::Signals;
use exactly_once_stores::platform::{CommandError, Place, Platform, SendCommand, SendStatement, StatementError};
use exactly_once_stores::redis::{Command, Reply};
use exactly_once_stores::sql::{Row, Statement};
use futures::FutureExt;
use futures::channel::oneshot;
use redis::aio::MultiplexedConnection;
use tokio_postgres::Client;

use crate::postgres;

/// Where connections to Postgres come from. The host's settings name no other place.
#[derive(Clone)]
pub enum Postgres {
    /// A pool, whose connections keep their prepared statements.
    Pool(Pool),
    /// Always the same one.
    One(Rc<Client>),
}

/// A connection to Postgres.
#[allow(clippy::large_enum_variant, reason = "it is moved a few times per statement")]
pub enum Connection {
    /// Of the pool.
    Pooled(Object),
    /// The only one.
    One(Rc<Client>),
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        match self {
            Self::Pooled(object) => object,
            Self::One(client) => client,
        }
    }
}

/// The host. It spawns local tasks: it needs a `LocalSet`.
#[derive(Clone)]
pub struct Native {
    postgres: Postgres,
    started: Instant,
}

impl Native {
    /// A host with connections from there.
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres, started: Instant::now() }
    }
}

impl Clock for Native {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// Signals over channels.
#[derive(Clone, Copy)]
pub struct OneshotSignals;

impl Signals for OneshotSignals {
    type Sender = oneshot::Sender<()>;
    type Receiver = Pin<Box<dyn Future<Output = ()>>>;

    fn signal(&self) -> (Self::Sender, Self::Receiver) {
        let (sender, receiver) = oneshot::channel();
        (sender, receiver.map(|_| ()).boxed_local())
    }
}

impl Platform for Native {
    type Signals = OneshotSignals;

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    fn write_line(&self, line: String) {
        eprintln!("native: {line}");
    }
}

impl SendStatement for Native {
    type Connection = Connection;

    async fn connect(&self, _: Place<'_>) -> Result<Connection, StatementError> {
        match &self.postgres {
            Postgres::One(client) => Ok(Connection::One(client.clone())),
            Postgres::Pool(pool) => match pool.get().await {
                Ok(object) => Ok(Connection::Pooled(object)),
                Err(error) => Err(StatementError { sqlstate: None, text: format!("connection failed: {error}") }),
            },
        }
    }

    async fn rows(&self, connection: &Connection, statement: &Statement<'_>) -> Result<Vec<Row>, StatementError> {
        let (sql, parameters) = (statement.sql, statement.parameters.clone());
        let rows = match connection {
            Connection::One(client) => postgres::rows(client, sql, parameters).await,
            Connection::Pooled(object) => match object.prepare_cached(sql).await {
                Ok(prepared) => postgres::rows(object, &prepared, parameters).await,
                Err(error) => Err(error),
            },
        };
        rows.map_err(|error| postgres::error(&error))
    }
}

impl SendCommand for Native {
    type Link = MultiplexedConnection;

    async fn dial(&self, url: &str) -> Result<MultiplexedConnection, CommandError> {
        let client = redis::Client::open(url).map_err(|error| text(&error))?;
        let connection = client.get_multiplexed_async_connection().await;
        connection.map_err(|error| text(&error))
    }

    async fn send(&self, link: &MultiplexedConnection, command: &Command) -> Result<Reply, CommandError> {
        let reply = crate::redis::send(&mut link.clone(), command).await;
        reply.map_err(|error| text(&error))
    }
}

fn text(error: &redis::RedisError) -> CommandError {
    CommandError { text: error.to_string() }
}
