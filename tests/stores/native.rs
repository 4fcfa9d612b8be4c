//! Real stores over native connections, for the commands and statements that the component sends.

use std::time::Duration;

use devstack::{Shared, migrate};
use orders::customer::Customer;
use orders::idempotency::KeyScope;
use orders::order::ResourceId;
use orders::ports::StoredResource;
use orders::reading::Page;
use orders::stores::postgres::conditional::{self, ConditionalRow};
use orders::stores::postgres::reading::{self, PageRow, paged};
use orders::stores::postgres::{self, OrderRow, Parameter, Statement, insertion, stored};
use orders::stores::redis::locks::Locking;
use orders::stores::redis::{Command, Records, Reply};
use redis::Value;
use redis::aio::MultiplexedConnection;
use simulation::world::{Answer, Call};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row};
use uuid::Uuid;

/// A key prefix and a database of its own.
pub struct Stores {
    redis: MultiplexedConnection,
    prefix: String,
    postgres: Client,
    database_url: String,
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Stores {
    /// Empty ones.
    pub async fn fresh() -> Self {
        let shared = Shared::told().unwrap();
        let name = Uuid::new_v4().simple().to_string();
        let database_url = shared.create_database(&name).await.unwrap();
        Self::at(shared, name, database_url).await
    }

    /// Empty ones with the schema that a version of the migrations left.
    pub async fn of_version(version: i64) -> Self {
        let shared = Shared::told().unwrap();
        let name = Uuid::new_v4().simple().to_string();
        let admin = &shared.postgres_url;
        migrate::create_database(admin, &name, None).await.unwrap();
        let database_url = admin.replace("/postgres", &format!("/{name}"));
        migrate::migrate_to(&database_url, version).await.unwrap();
        Self::at(shared, name, database_url).await
    }

    async fn at(shared: Shared, name: String, database_url: String) -> Self {
        let redis = redis::Client::open(shared.redis_url).unwrap();
        Self {
            redis: redis.get_multiplexed_async_connection().await.unwrap(),
            prefix: format!("{name}:"),
            postgres: connect(&database_url).await,
            database_url,
        }
    }

    /// Brings the schema up to date.
    pub async fn migrate(&self) {
        migrate::migrate(&self.database_url).await.unwrap();
    }

    /// The same stores over another connection.
    pub async fn second_connection(&self) -> Self {
        Self {
            redis: self.redis.clone(),
            prefix: self.prefix.clone(),
            postgres: connect(&self.database_url).await,
            database_url: self.database_url.clone(),
        }
    }

    fn records(&self) -> Records<'_> {
        Records {
            prefix: &self.prefix,
            ttl: Duration::from_secs(60),
        }
    }

    fn locking(&self) -> Locking<'_> {
        Locking {
            prefix: &self.prefix,
            lease: Duration::from_secs(60),
        }
    }

    /// What the component would send, and how it would read the answer.
    pub async fn execute(&mut self, call: &Call) -> Answer {
        match call {
            Call::Reserve(scope, record) => {
                let command = self.records().reserve(scope, record);
                Answer::Redis(self.send(command).await)
            }
            Call::Set(scope, record) => {
                let command = self.records().complete(scope, record);
                Answer::Redis(self.send(command).await)
            }
            Call::Insert(order) => {
                let first = self.first_row(postgres::insert(order)).await;
                Answer::Postgres(insertion(first).unwrap())
            }
            Call::InsertAll(orders) => {
                let orders: Vec<_> = orders.iter().collect();
                let rows = self.rows(postgres::insert_all(&orders)).await;
                let inserted: Option<Vec<String>> = rows[0].get(0);
                let attempts = postgres::attempts(&orders, &inserted.unwrap_or_default());
                if let [order] = orders[..] {
                    // Once more as a single one: it must find what the first has left behind.
                    assert!(self.rows(postgres::insert_new(order)).await.is_empty());
                }
                Answer::Attempts(attempts)
            }
            Call::Acquire(customer, holder) => {
                let command = self.locking().acquire(customer, holder);
                Answer::Redis(self.send(command).await)
            }
            Call::Release(customer, holder) => {
                let command = self.locking().release(customer, holder);
                Answer::Redis(self.send(command).await)
            }
            Call::Find(scope) => Answer::Found(self.find_by_key(scope).await),
            Call::Follow(order, expected) => {
                let rows = self.rows(conditional::insert(order, expected)).await;
                let row = rows.first().map(|row| ConditionalRow {
                    order: order_row(row),
                    before: row.get(7),
                    after: row.get(8),
                });
                Answer::Conditional(conditional::insertion(row, expected).unwrap())
            }
            Call::InsertUnchecked(_)
            | Call::InsertUnawaited(_)
            | Call::InsertBasedOnUnchecked(..) => {
                panic!("not a real call")
            }
        }
    }

    /// A customer's order by its id.
    pub async fn find(&self, customer: &Customer, id: ResourceId) -> Option<StoredResource> {
        let row = self.first_row(reading::find(customer, id)).await;
        row.map(|row| stored(row).unwrap())
    }

    /// The order of a scope.
    pub async fn find_by_key(&self, scope: &KeyScope) -> Option<StoredResource> {
        let row = self.first_row(reading::find_by_key(scope)).await;
        row.map(|row| stored(row).unwrap())
    }

    /// A page of a customer's orders.
    pub async fn page(
        &self,
        customer: &Customer,
        after: Option<ResourceId>,
        limit: usize,
    ) -> Option<Page> {
        let rows = self.rows(reading::page(customer, after, limit)).await;
        let rows = rows.iter().map(|row| PageRow {
            order: order_row(row),
            cursor_known: row.get(7),
            state: row.get(8),
        });
        paged(rows.collect(), limit).unwrap()
    }

    /// Removes everything under our prefix.
    pub async fn flush(&mut self) {
        let pattern = format!("{}*", self.prefix);
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS")
            .arg(pattern)
            .query_async(&mut self.redis)
            .await
            .unwrap();
        for key in keys {
            self.delete(&key).await;
        }
    }

    /// Removes a scope's record.
    pub async fn evict(&mut self, scope: &KeyScope) {
        let key = self.records().key(scope);
        self.delete(key.as_bytes()).await;
    }

    async fn delete(&mut self, key: &[u8]) {
        let () = redis::cmd("DEL")
            .arg(key)
            .query_async(&mut self.redis)
            .await
            .unwrap();
    }

    async fn send(&mut self, command: Command) -> Reply {
        let mut cmd = redis::cmd(command.name);
        for argument in command.arguments {
            cmd.arg(argument);
        }
        match cmd.query_async(&mut self.redis).await.unwrap() {
            Value::Nil => Reply::Nil,
            Value::Okay => Reply::Bytes(b"OK".to_vec()),
            Value::Int(number) => Reply::Bytes(number.to_string().into_bytes()),
            Value::BulkString(bytes) => Reply::Bytes(bytes),
            other => panic!("unexpected: {other:?}"),
        }
    }

    async fn first_row(&self, statement: Statement) -> Option<OrderRow> {
        let rows = self.rows(statement).await;
        assert!(rows.len() <= 1, "one statement, one row");
        rows.first().map(order_row)
    }

    async fn rows(&self, statement: Statement) -> Vec<Row> {
        let parameters: Vec<Box<dyn ToSql + Sync>> = statement
            .parameters
            .into_iter()
            .map(|parameter| -> Box<dyn ToSql + Sync> {
                match parameter {
                    Parameter::Uuid(text) => Box::new(Uuid::parse_str(&text).unwrap()),
                    Parameter::Text(text) => Box::new(text),
                    Parameter::NullableText(text) => Box::new(text),
                    Parameter::Bytes(bytes) => Box::new(bytes),
                    Parameter::Int64(number) => Box::new(number),
                    Parameter::Texts(texts) => Box::new(texts),
                }
            })
            .collect();
        let references: Vec<_> = parameters.iter().map(AsRef::as_ref).collect();
        self.postgres
            .query(statement.sql, &references)
            .await
            .unwrap()
    }

    /// Any SQL.
    pub async fn run_sql(&self, sql: &str) {
        self.try_sql(sql).await.unwrap();
    }

    /// Any SQL, which may fail.
    pub async fn try_sql(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.postgres.batch_execute(sql).await
    }

    /// The one number that a query gives.
    pub async fn number(&self, sql: &str) -> i64 {
        self.postgres.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// How Postgres goes about a statement, with what it would be given.
    pub async fn plan(&self, statement: Statement) -> String {
        let explained = Statement {
            sql: format!("EXPLAIN {}", statement.sql).leak(),
            ..statement
        };
        let rows = self.rows(explained).await;
        let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        lines.join("\n")
    }

    /// Returns once another connection to this database waits for a lock.
    pub async fn wait_until_somebody_waits(&self) {
        let sql = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while self
            .postgres
            .query_one(sql, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            == 0
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The first seven columns of every row, as the component reads them.
fn order_row(row: &Row) -> OrderRow {
    OrderRow {
        inserted: row.get(0),
        order_id: row
            .get::<_, Option<Uuid>>(1)
            .map(|id| id.to_string())
            .unwrap_or_default(),
        fingerprint: row.get(2),
        currency: row.get(3),
        items: row.get(4),
        note: row.get(5),
        total: row.get(6),
    }
}
