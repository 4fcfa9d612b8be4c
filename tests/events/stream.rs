//! A Postgres with `wal_level = logical`, a consumer of its change stream, and what a consumer makes of a row.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use devstack::{Postgres, Programs, or_skip};
use exactly_once::{Document, ResourceId};
use fixtures::Shared;
use orders::ORDERS;
use pgwire_replication::{Lsn, PgWireError, ReplicationClient, ReplicationConfig, ReplicationEvent};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::contract::page;

/// The name of the publication, and of the slot.
pub const NAME: &str = "orders_created";

const PATIENCE: Duration = Duration::from_secs(30);

/// A row as the stream carries it, in Postgres' text format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub order_id: String,
    pub customer_id: String,
    pub created_at: String,
    pub document: String,
}

impl Row {
    fn of(mut columns: HashMap<String, String>) -> Self {
        let mut column = |name: &str| columns.remove(name).unwrap();
        let row = Self {
            order_id: column("order_id"),
            customer_id: column("customer_id"),
            created_at: column("created_at"),
            document: column("document"),
        };
        assert!(columns.is_empty(), "{columns:?} leave the database");
        row
    }

    /// The event, by the table in docs/events.md.
    pub fn event(&self) -> Value {
        let id = ResourceId::parse(&self.order_id).unwrap();
        let order = Document::from_text(&*self.document).value();
        let data: Value = serde_json::from_str(&ORDERS.represent(id, &order).unwrap()).unwrap();
        json!({
            "specversion": "1.0",
            "type": "orders.order.created.v1",
            "source": "https://shop.example/api/v1/orders",
            "id": self.order_id,
            "time": self.time(),
            "partitionkey": self.customer_id,
            "datacontenttype": "application/json",
            "data": data,
        })
    }

    /// `created_at` as the API writes it: three digits, where Postgres leaves out zeros at the end.
    fn time(&self) -> String {
        let text = self.created_at.strip_suffix("+00").unwrap();
        let (date, time) = text.split_once(' ').unwrap();
        let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
        format!("{date}T{seconds}.{fraction:0<3}Z")
    }
}

/// A server of the test's own, with the schema.
pub struct Database {
    pub postgres: Postgres,
    folder: PathBuf,
}

impl Database {
    /// Starts it; its table of orders has hash partitions if `partitions` is not 0. Its log is not logical.
    pub async fn plain(partitions: u32) -> Self {
        let folder = Shared::told().unwrap().folder;
        let folder = folder.join(format!("events-{}", Uuid::new_v4().simple()));
        let programs = Programs::find_or_install(false).unwrap();
        let postgres = Postgres::start(&programs, &folder.join("postgres")).unwrap();
        let shared = Shared { partitions, ..Shared::told().unwrap() };
        shared.migrate(&postgres.url("postgres")).await.unwrap();
        Self { postgres, folder }
    }

    /// The same with a logical log; the consumer's role is there, as the page says.
    ///
    /// Nothing, after saying that a test is skipped, with a Postgres that cannot publish chosen columns.
    pub async fn start(partitions: u32) -> Option<Self> {
        // Migrated before the log is logical: the publication needs no level.
        let mut this = Self::plain(partitions).await;
        let database = this.connect().await;
        let version = "SELECT current_setting('server_version_num')::integer";
        let version: i32 = database.query_one(version, &[]).await.unwrap().get(0);
        let needed = match version >= 150_000 {
            true => Ok(()),
            false => Err(anyhow!("Postgres before version 15 publishes whole rows")),
        };
        or_skip("a test of the change stream", needed)?;
        let level = "ALTER SYSTEM SET wal_level = 'logical'";
        database.batch_execute(level).await.unwrap();
        this.postgres.restart().unwrap();
        let database = this.connect().await;
        let page = page();
        let (_, rest) = page.split_once("```sql\n").unwrap();
        let (role, _) = rest.split_once("```").unwrap();
        database.batch_execute(role).await.unwrap();
        Some(this)
    }

    /// The server's URL.
    pub fn url(&self) -> String {
        self.postgres.url("postgres")
    }

    /// The folder of the server, and of what belongs to it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A connection of the superuser's.
    pub async fn connect(&self) -> Client {
        connect(&self.url()).await
    }

    /// A connection of the role that reads the stream.
    pub async fn connect_as_consumer(&self) -> Client {
        self.connect_as("orders_streaming").await
    }

    /// A connection of a role's.
    pub async fn connect_as(&self, role: &str) -> Client {
        let url = self.url();
        let (_, place) = url.split_once('@').unwrap();
        connect(&format!("postgres://{role}@{place}")).await
    }

    /// Creates the consumer's slot, as the consumer.
    pub async fn create_slot(&self) {
        let create = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')";
        let consumer = self.connect_as_consumer().await;
        consumer.query_one(create, &[&NAME]).await.unwrap();
    }

    /// The rows of the table, unordered, as the consumer reads them before there is a slot.
    pub async fn snapshot(&self) -> Vec<Row> {
        let consumer = self.connect_as_consumer().await;
        consumer.batch_execute("SET TimeZone = 'UTC'").await.unwrap();
        let select = "SELECT order_id::text, customer_id, created_at::text, document::text FROM orders";
        let rows = consumer.query(select, &[]).await.unwrap();
        let row = |row: &tokio_postgres::Row| Row {
            order_id: row.get(0),
            customer_id: row.get(1),
            created_at: row.get(2),
            document: row.get(3),
        };
        rows.iter().map(row).collect()
    }

    /// Reads the stream from where the slot is.
    pub async fn consumer(&self) -> Consumer {
        let consumer = Consumer::connect(self.postgres.port()).await;
        consumer.expect("the server")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.postgres.stop_immediately();
        if !std::thread::panicking() {
            let _ = Postgres::remove_all(&self.folder);
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A consumer of the stream.
pub struct Consumer {
    client: ReplicationClient,
    database: Client,
    /// What was confirmed last.
    confirmed: Option<Lsn>,
    /// A table's name and those of its columns, by the relation's id.
    relations: HashMap<u32, (String, Vec<String>)>,
}

impl Consumer {
    /// Reads the stream of the server at a port from where the slot is; nothing when the server is gone.
    pub async fn connect(port: u16) -> Option<Self> {
        let start = Instant::now();
        loop {
            let url = format!("postgres://orders_streaming@127.0.0.1:{port}/postgres");
            let (database, connection) = tokio_postgres::connect(&url, NoTls).await.ok()?;
            tokio::spawn(connection);
            match Self::stream(port).await {
                Ok(client) => {
                    return Some(Self { client, database, confirmed: None, relations: HashMap::new() });
                }
                // The slot is in use for as long as the server takes the consumer before this one for alive.
                Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stream(port: u16) -> Result<ReplicationClient, PgWireError> {
        let mut config = ReplicationConfig::new("127.0.0.1", "orders_streaming", "", "postgres", NAME, NAME);
        config.port = port;
        config.status_interval = Duration::from_millis(100);
        config.options = Some("-c TimeZone=UTC".to_owned());
        let mut client = ReplicationClient::connect(config).await?;
        client.wait_started().await?;
        Ok(client)
    }

    /// The rows of the next transaction that has some; they are confirmed if `confirm`.
    pub async fn next(&mut self, confirm: bool) -> Vec<Row> {
        let rows = tokio::time::timeout(PATIENCE, self.try_next(confirm)).await;
        rows.expect("a transaction").expect("a stream")
    }

    /// The same, without an end to its patience; nothing when the server is gone.
    pub async fn try_next(&mut self, confirm: bool) -> Option<Vec<Row>> {
        let mut rows = Vec::new();
        loop {
            match self.client.recv().await.ok()?? {
                ReplicationEvent::XLogData { data, .. } => rows.extend(self.decode(&data)),
                ReplicationEvent::Commit { end_lsn, .. } => {
                    if confirm {
                        self.client.update_applied_lsn(end_lsn);
                        self.confirmed = Some(end_lsn);
                    }
                    if !rows.is_empty() {
                        return Some(rows);
                    }
                }
                _ => {}
            }
        }
    }

    /// Reads until a row of this customer is there.
    pub async fn until(&mut self, last: &str, confirm: bool) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        while rows.iter().all(|row| row.customer_id != last) {
            rows.extend(self.next(confirm).await);
        }
        rows
    }

    /// Ends the session when the server knows what was confirmed; until then it would deliver it again.
    pub async fn end(mut self) {
        if let Some(confirmed) = self.confirmed {
            let known = "SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots \
                         WHERE slot_name = $2";
            let confirmed = confirmed.to_pg_string();
            let start = Instant::now();
            loop {
                let row = self.database.query_one(known, &[&confirmed, &NAME]).await;
                if row.unwrap().get(0) {
                    break;
                }
                assert!(start.elapsed() < PATIENCE, "{confirmed} is not confirmed");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        self.client.shutdown().await.unwrap();
    }

    /// A message of pgoutput: the description of a relation, or an insertion, which is returned.
    fn decode(&mut self, data: &[u8]) -> Option<Row> {
        let mut message = Message(data);
        match message.take(1)[0] {
            b'R' => {
                let relation = message.u32();
                let (schema, table) = (message.text(), message.text());
                message.take(1);
                let names = (0..message.u16()).map(|_| {
                    message.take(1);
                    let name = message.text();
                    message.take(8);
                    name
                });
                let names = names.collect();
                // A partition is described as well, but no insertion is into it.
                let described = (format!("{schema}.{table}"), names);
                self.relations.insert(relation, described);
                None
            }
            b'I' => {
                let relation = message.u32();
                assert_eq!(message.take(1), b"N");
                let count = usize::from(message.u16());
                let (table, names) = &self.relations[&relation];
                assert_eq!(table, "public.orders");
                assert_eq!(names.len(), count);
                let columns = names.iter().map(|name| {
                    assert_eq!(message.take(1), b"t", "{name}");
                    let length = message.u32() as usize;
                    let text = message.take(length).to_vec();
                    (name.clone(), String::from_utf8(text).unwrap())
                });
                Some(Row::of(columns.collect()))
            }
            // A type, or an origin.
            b'Y' | b'O' => None,
            other => panic!("message {:?} in a stream of insertions", other as char),
        }
    }
}

/// The rest of a message.
struct Message<'a>(&'a [u8]);

impl<'a> Message<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn text(&mut self) -> String {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap();
        let text = String::from_utf8(self.take(end).to_vec()).unwrap();
        self.take(1);
        text
    }
}
