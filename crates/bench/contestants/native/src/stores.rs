//! The stores as a native service reaches them: one multiplexed Redis connection, a pool of Postgres
//! connections that keep their prepared statements. Behind the core's ports.

use std::time::Duration;

use anyhow::{Context, Result};
use deadpool_postgres::{Manager, Pool};
use orders::customer::Customer;
use orders::error::{DatabaseUnavailable, ReservationsUnavailable};
use orders::idempotency::{Record, KeyScope};
use orders::order::ResourceId;
use orders::ports::{
    Attempt, Insertion, NewResource, ResourceIds, Resources, Reservation, Reservations, StoredResource,
};
use orders::stores::postgres::reading::find;
use orders::stores::postgres::{
    OrderRow, Parameter, Statement, Unreadable, insert, insertion, stored,
};
use orders::stores::redis::{Command, Records, Reply};
use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row};
use uuid::Uuid;

/// As many Postgres connections as a Spin host has for one database.
const POOL_SIZE: usize = 64;

/// The component's defaults.
const REDIS_TIMEOUT: Duration = Duration::from_millis(500);
const DATABASE_TIMEOUT: Duration = Duration::from_secs(5);
const RESERVATION_TTL: Duration = Duration::from_secs(86_400);

/// Both stores.
#[derive(Clone)]
pub struct Stores {
    /// Redis; clones share the connection.
    pub redis: MultiplexedConnection,
    /// What every key in Redis starts with.
    pub prefix: String,
    /// Postgres.
    pub postgres: Pool,
}

impl Stores {
    /// Dials Redis; Postgres is dialled when it is first asked.
    pub async fn connect(redis_url: &str, database_url: &str, prefix: String) -> Result<Self> {
        let redis = redis::Client::open(redis_url)?;
        let config = database_url.parse().context("the database's URL")?;
        Ok(Self {
            redis: redis.get_multiplexed_async_connection().await?,
            prefix,
            postgres: Pool::builder(Manager::new(config, NoTls))
                .max_size(POOL_SIZE)
                .build()?,
        })
    }

    /// How this deployment's records are written.
    pub fn records(&self) -> Records<'_> {
        Records {
            prefix: &self.prefix,
            ttl: RESERVATION_TTL,
        }
    }

    /// One command to Redis.
    pub async fn send(&self, command: Command) -> Result<Reply> {
        let mut cmd = redis::cmd(command.name);
        for argument in command.arguments {
            cmd.arg(argument);
        }
        match cmd.query_async(&mut self.redis.clone()).await? {
            Value::Nil => Ok(Reply::Nil),
            Value::BulkString(bytes) => Ok(Reply::Bytes(bytes)),
            Value::Okay => Ok(Reply::Bytes(b"OK".to_vec())),
            other => anyhow::bail!("unexpected answer: {other:?}"),
        }
    }

    async fn guarded(&self, command: Command) -> Result<Reply, ReservationsUnavailable> {
        match tokio::time::timeout(REDIS_TIMEOUT, self.send(command)).await {
            Ok(Ok(reply)) => Ok(reply),
            _ => Err(ReservationsUnavailable),
        }
    }

    /// The first row of a statement, which is prepared once per connection.
    pub async fn first_row(&self, statement: Statement) -> Result<Option<Row>> {
        let parameters = to_sql(statement.parameters)?;
        let connection = self.postgres.get().await?;
        let prepared = connection.prepare_cached(statement.sql).await?;
        let rows = connection
            .query(&prepared, &references(&parameters))
            .await?;
        Ok(rows.into_iter().next())
    }

    /// How many rows a statement has inserted.
    pub async fn inserted(&self, statement: Statement) -> Result<u64> {
        let parameters = to_sql(statement.parameters)?;
        let connection = self.postgres.get().await?;
        let prepared = connection.prepare_cached(statement.sql).await?;
        Ok(connection
            .execute(&prepared, &references(&parameters))
            .await?)
    }

    async fn first_order(
        &self,
        statement: Statement,
    ) -> Result<Option<OrderRow>, DatabaseUnavailable> {
        let outcome = tokio::time::timeout(DATABASE_TIMEOUT, self.first_row(statement)).await;
        let failure = match outcome {
            Ok(Ok(row)) => return Ok(row.map(|row| order_row(&row))),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer in time".to_owned(),
        };
        eprintln!("native: postgres: {failure}");
        Err(DatabaseUnavailable)
    }
}

impl Reservations for Stores {
    async fn reserve(
        &self,
        scope: &KeyScope,
        record: &Record,
    ) -> Result<Reservation, ReservationsUnavailable> {
        let command = self.records().reserve(scope, record);
        self.guarded(command).await.map(Reservation::from)
    }

    async fn complete(&self, scope: &KeyScope, record: &Record) -> Result<(), ReservationsUnavailable> {
        let command = self.records().complete(scope, record);
        self.guarded(command).await.map(|_| ())
    }
}

impl Resources for Stores {
    async fn insert_new(&self, order: &NewResource) -> Attempt {
        let insertion = self.inserted(insert_alone(order));
        match tokio::time::timeout(DATABASE_TIMEOUT / 2, insertion).await {
            Ok(Ok(1)) => Attempt::Inserted,
            _ => Attempt::Undecided,
        }
    }

    async fn insert_unless_exists(&self, order: &NewResource) -> Result<Insertion, DatabaseUnavailable> {
        let first = self.first_order(insert(order)).await?;
        insertion(first).map_err(|Unreadable| DatabaseUnavailable)
    }

    async fn find(
        &self,
        customer: &Customer,
        order_id: ResourceId,
    ) -> Result<Option<StoredResource>, DatabaseUnavailable> {
        let row = self.first_order(find(customer, order_id)).await?;
        row.map(stored)
            .transpose()
            .map_err(|Unreadable| DatabaseUnavailable)
    }
}

/// Inserts the order if nothing is in the way: the cheapest statement that does, which a session plans once.
/// The component's is a function because hosts prepare each statement anew.
pub fn insert_alone(order: &NewResource) -> Statement {
    Statement {
        sql: "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, \
                                  currency, items, note, total, created_at) \
              VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8, to_timestamp($9::bigint / 1000.0)) \
              ON CONFLICT DO NOTHING",
        ..insert(order)
    }
}

/// UUID version 7 of now.
pub struct RandomIds;

impl ResourceIds for RandomIds {
    fn draw(&self) -> ResourceId {
        ResourceId::from_uuid(Uuid::now_v7())
    }
}

/// A statement's parameters, owned.
pub fn to_sql(parameters: Vec<Parameter>) -> Result<Vec<Box<dyn ToSql + Send + Sync>>> {
    parameters
        .into_iter()
        .map(|parameter| -> Result<Box<dyn ToSql + Send + Sync>> {
            Ok(match parameter {
                Parameter::Uuid(text) => Box::new(Uuid::parse_str(&text)?),
                Parameter::Text(text) => Box::new(text),
                Parameter::NullableText(text) => Box::new(text),
                Parameter::Bytes(bytes) => Box::new(bytes),
                Parameter::Int64(number) => Box::new(number),
                Parameter::Texts(texts) => Box::new(texts),
            })
        })
        .collect()
}

fn references(parameters: &[Box<dyn ToSql + Send + Sync>]) -> Vec<&(dyn ToSql + Sync)> {
    parameters
        .iter()
        .map(|p| p.as_ref() as &(dyn ToSql + Sync))
        .collect()
}

fn order_row(row: &Row) -> OrderRow {
    OrderRow {
        inserted: row.get(0),
        order_id: row.get::<_, Uuid>(1).to_string(),
        fingerprint: row.get(2),
        currency: row.get(3),
        items: row.get(4),
        note: row.get(5),
        total: row.get(6),
    }
}
