//! The configuration of Debezium compared with the schema that the migrations create.

use std::collections::HashMap;

use devstack::workspace;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::stream::{CONSUMER, Database, NAME};

/// The settings of the connector, without their prefix.
fn settings() -> HashMap<String, String> {
    let file = workspace::root().join("deploy/events/application.properties");
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let settings = lines.map(|line| line.strip_prefix("debezium.").unwrap().split_once('=').unwrap());
    let settings: Vec<_> = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let by_name: HashMap<_, _> = settings.iter().cloned().collect();
    assert_eq!(by_name.len(), settings.len(), "one is set twice");
    by_name
}

#[tokio::test]
async fn debezium_reads_what_the_migrations_publish() {
    let settings = settings();
    let source = |name: &str| &*settings[&format!("source.{name}")];
    assert_eq!(source("plugin.name"), "pgoutput");
    assert_eq!(source("publication.autocreate.mode"), "disabled");
    assert_eq!(source("publication.name"), NAME);
    assert_eq!(source("database.user"), CONSUMER);

    for partitions in [0, 3] {
        let Some(server) = Database::start(partitions).await else {
            return;
        };
        let database = server.connect().await;
        let published = "SELECT schemaname || '.' || tablename, attnames::text[] FROM pg_publication_tables \
                         WHERE pubname = $1";
        let row = database.query_one(published, &[&NAME]).await.unwrap();
        let (table, columns): (String, Vec<String>) = (row.get(0), row.get(1));
        assert_eq!(source("table.include.list"), table);
        assert_eq!(table, format!("{}.orders", source("schema.include.list")));
        let qualified: Vec<String> = columns.iter().map(|c| format!("{table}.{c}")).collect();
        let included: Vec<&str> = source("column.include.list").split(',').collect();
        assert_eq!(included, qualified);
        let key = source("message.key.columns").strip_prefix(&format!("{table}:"));
        assert_eq!(key, Some("customer_id"));
        let operations = "SELECT pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot FROM pg_publication \
                          WHERE pubname = $1";
        let row = database.query_one(operations, &[&NAME]).await.unwrap();
        let flags: Vec<bool> = (0..5).map(|n| row.get(n)).collect();
        assert_eq!(flags, [true, false, false, false, true]);

        // What Debezium does as its role: the slot, the snapshot, the heartbeat; and what it cannot do.
        let consumer = server.connect_as(CONSUMER).await;
        let slot = "SELECT pg_create_logical_replication_slot($1, $2)";
        let (name, plugin) = (source("slot.name"), source("plugin.name"));
        consumer.query_one(slot, &[&name, &plugin]).await.unwrap();
        consumer.batch_execute(&format!("SELECT {} FROM {table}", columns.join(", "))).await.unwrap();
        consumer.batch_execute(source("heartbeat.action.query")).await.unwrap();
        for refused in [
            "SELECT idempotency_key FROM orders",
            "SELECT insert_orders_2('[{\"id\":\"01970000-0000-7000-8000-000000000000\"}]')",
            "UPDATE orders SET document = document",
            "DELETE FROM orders",
        ] {
            let error = consumer.batch_execute(refused).await.expect_err(refused);
            assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{refused}");
        }
    }
}

/// The tables of a publication.
async fn published(database: &Client, publication: &str) -> Vec<String> {
    let sql = "SELECT tablename::text FROM pg_publication_tables WHERE pubname = $1";
    let rows = database.query(sql, &[&publication]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn whoever_creates_a_table_publishes_it_or_is_told_how() {
    let Some(server) = Database::start(0).await else {
        return;
    };
    let admin = server.connect().await;
    let roles = std::fs::read_to_string(workspace::migrations().join("roles.sql")).unwrap();
    admin.batch_execute(&roles).await.unwrap();
    // The superuser has migrated; the publication is the migrating role's nevertheless.
    let migrating = server.connect_as("orders_migrating").await;
    let again = "DROP TABLE orders; SELECT create_resource_table('orders', 'order', 2)";
    migrating.batch_execute(again).await.unwrap();
    assert_eq!(published(&admin, NAME).await, ["orders"]);

    // A role without a right to the database.
    let role = "CREATE ROLE plain LOGIN; GRANT CREATE ON SCHEMA public TO plain";
    admin.batch_execute(role).await.unwrap();
    let plain = server.connect_as("plain").await;
    plain.batch_execute("SELECT create_resource_table('refunds', 'refund')").await.unwrap();
    assert!(published(&admin, "refunds_created").await.is_empty());
    admin.batch_execute("SELECT publish_created('refunds', 'refund')").await.unwrap();
    assert_eq!(published(&admin, "refunds_created").await, ["refunds"]);
}
