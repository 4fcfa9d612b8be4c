//! The stores as a native service reaches them: one multiplexed Redis connection, and a pool of Postgres connections
//! that keep their prepared statements.

use std::time::Duration;

use anyhow::{Context, Result};
use deadpool_postgres::{Manager, Object, Pool};
use exactly_once::ports::NewResource;
use exactly_once_stores::postgres::{Statement, Statements, row_parameters};
use exactly_once_stores::redis::locks::Locking;
use exactly_once_stores::redis::{Command, Records, Reply};
use native_stores::postgres::{Row, execute, rows};
use orders::ORDERS;
use redis::aio::MultiplexedConnection;
use tokio_postgres::NoTls;

/// As many Postgres connections as a Spin host has for one database.
const POOL_SIZE: usize = 64;

/// The component's defaults.
const RESERVATION_TTL: Duration = Duration::from_secs(86_400);
const LOCK_LEASE: Duration = Duration::from_secs(5);

/// Inserts the order if it conflicts with nothing: the cheapest statement that does, which a connection plans once.
/// The component's is a function because Spin prepares each statement anew.
const INSERT_ALONE: &str = "\
    INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, document, created_at) \
    VALUES ($1::text::uuid, $2, $3, $4, $5::text::json, to_timestamp($6::bigint / 1000.0)) \
    ON CONFLICT DO NOTHING";

/// Both stores.
pub struct Stores {
    /// Clones share the connection.
    redis: MultiplexedConnection,
    /// The prefix of every name in Redis.
    pub prefix: String,
    /// The statements of the table of orders.
    pub statements: Statements,
    postgres: Pool,
}

impl Stores {
    /// Connects to Redis. The pool connects to Postgres when it is first asked.
    pub async fn connect(redis_url: &str, database_url: &str, prefix: String) -> Result<Self> {
        let redis = redis::Client::open(redis_url).context("REDIS_URL")?;
        let config = database_url.parse().context("DATABASE_URL")?;
        let postgres = Pool::builder(Manager::new(config, NoTls)).max_size(POOL_SIZE);
        Ok(Self {
            redis: redis
                .get_multiplexed_async_connection()
                .await
                .context("connecting to Redis")?,
            prefix,
            statements: Statements::of(&ORDERS.collection),
            postgres: postgres.build()?,
        })
    }

    /// Where this deployment's records are.
    pub fn records(&self) -> Records<'_> {
        Records {
            prefix: &self.prefix,
            ttl: RESERVATION_TTL,
        }
    }

    /// Where its locks are.
    pub fn locking(&self) -> Locking<'_> {
        Locking {
            prefix: &self.prefix,
            lease: LOCK_LEASE,
        }
    }

    /// Sends a command to Redis.
    pub async fn send(&self, command: &Command) -> Result<Reply> {
        Ok(native_stores::redis::send(&mut self.redis.clone(), command).await?)
    }

    /// The rows of a statement, which is prepared once per connection.
    pub async fn rows(&self, statement: Statement<'_>) -> Result<Vec<Row>> {
        let connection = self.connection().await?;
        let prepared = connection.prepare_cached(statement.sql).await?;
        Ok(rows(&connection, &prepared, statement.parameters).await?)
    }

    /// The number of rows that a statement inserted.
    pub async fn inserted(&self, statement: Statement<'_>) -> Result<u64> {
        let connection = self.connection().await?;
        let prepared = connection.prepare_cached(statement.sql).await?;
        Ok(execute(&connection, &prepared, statement.parameters).await?)
    }

    async fn connection(&self) -> Result<Object> {
        Ok(self.postgres.get().await?)
    }

    /// [`INSERT_ALONE`] for an order.
    pub fn insert_alone(&self, new: &NewResource) -> Statement<'_> {
        Statement {
            sql: INSERT_ALONE,
            parameters: row_parameters(new),
        }
    }
}
