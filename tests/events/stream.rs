//! A Postgres with `wal_level = logical`, a consumer of its change stream, and what a consumer makes of a row.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use devstack::{Postgres, Programs, or_skip};
use exactly_once::{Document, ResourceId};
use fixtures::{Shared, connect};
use orders::ORDERS;
use pg_walstream::{LogicalReplicationMessage, LogicalReplicationParser};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::contract::page;

/// The name of the publication, and of the slot.
pub const NAME: &str = "orders_created";

/// The role that reads the stream.
pub const CONSUMER: &str = "orders_streaming";

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
        let table = if partitions == 0 { "plain" } else { "partitioned" };
        let shared = Shared { table: table.to_owned(), ..Shared::told().unwrap() };
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
        database.batch_execute("ALTER SYSTEM SET wal_level = 'logical'").await.unwrap();
        this.postgres.restart().unwrap();
        let database = this.connect().await;
        let role = page().split("```").find_map(|block| block.strip_prefix("sql\n").map(str::to_owned));
        database.batch_execute(&role.unwrap()).await.unwrap();
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
        connect(&self.url()).await.unwrap()
    }

    /// A connection of a role's.
    pub async fn connect_as(&self, role: &str) -> Client {
        connect(&as_role(role, &self.url())).await.unwrap()
    }

    /// Creates the consumer's slot, as the consumer.
    pub async fn create_slot(&self) {
        let create = format!("SELECT pg_create_logical_replication_slot('{NAME}', 'pgoutput')");
        self.connect_as(CONSUMER).await.batch_execute(&create).await.unwrap();
    }

    /// The rows of the table, unordered, as the consumer reads them before there is a slot.
    pub async fn snapshot(&self) -> Vec<Row> {
        let consumer = self.connect_as(CONSUMER).await;
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

    /// The rows that follow in the stream.
    pub async fn changes(&self, confirm: bool) -> Vec<Row> {
        changes(&self.url(), confirm).await.unwrap()
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

/// The committed rows that follow in the stream of a server, read by the consumer's role. It confirms them, or dies
/// before: then they are delivered again.
pub async fn changes(url: &str, confirm: bool) -> Result<Vec<Row>, tokio_postgres::Error> {
    let (consumer, connection) = tokio_postgres::connect(&as_role(CONSUMER, url), NoTls).await?;
    tokio::spawn(connection);
    consumer.batch_execute("SET TimeZone = 'UTC'").await?;
    let read = if confirm { "get" } else { "peek" };
    let changes = format!(
        "SELECT data FROM pg_logical_slot_{read}_binary_changes('{NAME}', NULL, NULL, 'proto_version', '1', \
                                                                'publication_names', '{NAME}')"
    );
    let messages = consumer.query(&changes, &[]).await?;
    let mut parser = LogicalReplicationParser::with_protocol_version(1);
    let (mut tables, mut rows) = (HashMap::new(), Vec::new());
    for message in &messages {
        match parser.parse_wal_message(message.get(0)).unwrap().message {
            LogicalReplicationMessage::Relation { relation_id, namespace, relation_name, columns, .. } => {
                // A partition is described as well, but no insertion is into it.
                let names: Vec<_> = columns.iter().map(|column| column.name.to_string()).collect();
                tables.insert(relation_id, (format!("{namespace}.{relation_name}"), names));
            }
            LogicalReplicationMessage::Insert { relation_id, tuple } => {
                let (table, names) = &tables[&relation_id];
                assert_eq!((&**table, names.len()), ("public.orders", tuple.columns.len()));
                let values = tuple.columns.iter().map(|column| column.as_string().unwrap());
                rows.push(Row::of(names.iter().cloned().zip(values).collect()));
            }
            LogicalReplicationMessage::Update { .. }
            | LogicalReplicationMessage::Delete { .. }
            | LogicalReplicationMessage::Truncate { .. } => panic!("no insertion"),
            _ => {}
        }
    }
    Ok(rows)
}

/// The same server for another role.
fn as_role(role: &str, url: &str) -> String {
    let (_, place) = url.split_once('@').unwrap();
    format!("postgres://{role}@{place}")
}
