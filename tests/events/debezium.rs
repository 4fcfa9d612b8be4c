//! Debezium's connector with the settings of deploy/events, on a real Postgres: what it would send to Kafka is what is
//! stored, though it is killed.

use std::collections::{HashMap, HashSet};
use std::process::Stdio;
use std::time::Duration;

use devstack::or_skip;
use devstack::process::Process;
use fixtures::debezium::Debezium;
use fixtures::until;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::kafka::log_file;
use crate::load::{Count, assert_in_order, create_all, insert};
use crate::stream::Database;

/// Of each client.
const TRANSACTIONS: u32 = 25;
const KILLS: usize = 2;

/// The topics of all messages, and the keys and values of those with orders.
fn printed(text: &str) -> (HashSet<String>, Vec<(Value, Value)>) {
    let (mut topics, mut orders) = (HashSet::new(), Vec::new());
    // Not its log, and not what a killed one has not printed to the end.
    let messages = text.lines().filter(|line| line.starts_with("{\"topic\""));
    for message in messages.filter_map(|m| serde_json::from_str::<Value>(m).ok()) {
        let text = |name: &str| message[name].as_str().unwrap();
        topics.insert(text("topic").to_owned());
        if text("topic") == "orders.public.orders" {
            let read = |name: &str| serde_json::from_str(text(name)).unwrap();
            orders.push((read("key"), read("value")));
        }
    }
    (topics, orders)
}

#[tokio::test(flavor = "multi_thread")]
async fn debezium_delivers_every_committed_order_though_it_is_killed() {
    let test = "debezium_delivers_every_committed_order_though_it_is_killed";
    let Some(debezium) = or_skip(test, Debezium::find_or_install(false)) else {
        return;
    };
    let Some(server) = Database::start(0).await else {
        return;
    };
    let output = server.folder().join("debezium.log");
    let offsets = server.folder().join("offsets");
    let further = [
        format!("database.port={}", server.postgres.port()),
        // The server has no certificate.
        "database.sslmode=disable".to_owned(),
        format!("offset.storage.file.filename={}", offsets.display()),
        "heartbeat.interval.ms=1000".to_owned(),
    ];
    let start = || {
        let log = log_file(&output);
        let mut command = debezium.command(&further);
        command
            .env("DATABASE_HOST", "127.0.0.1")
            .env("DATABASE_NAME", "postgres")
            .env("DATABASE_PASSWORD", "")
            .env("KAFKA_BOOTSTRAP_SERVERS", "")
            // The engine writes a log of its own there.
            .current_dir(server.folder())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        Process::start("Debezium", &mut command, Signal::SIGKILL).unwrap()
    };
    let database = server.connect().await;
    let streams = async || {
        let active = "SELECT count(*) FROM pg_replication_slots WHERE active";
        let is_active = async || database.query_one(active, &[]).await.unwrap().get::<_, i64>(0) > 0;
        until("Debezium streams", is_active).await;
    };
    let delivered = || printed(&std::fs::read_to_string(&output).unwrap());

    // From here on it needs no snapshot, which would not be in order.
    let mut running = start();
    streams().await;
    insert(&database, "first").await;
    until("an offset is stored", async || {
        !delivered().1.is_empty() && std::fs::metadata(&offsets).is_ok_and(|file| file.len() > 0)
    })
    .await;
    let creating = tokio::spawn(create_all(server.url(), TRANSACTIONS, Count::default()));
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(700)).await;
        running.kill().unwrap();
        // Its last line is complete.
        std::io::Write::write_all(&mut log_file(&output), b"\n").unwrap();
        running = start();
        streams().await;
    }
    let committed = creating.await.unwrap();
    let last = insert(&database, "marker").await;
    until("the last order is delivered", async || delivered().1.iter().any(|(_, value)| value["order_id"] == last))
        .await;
    let (topics, delivered) = delivered();
    running.kill().unwrap();

    // The heartbeat's own messages are not among them.
    let expected = ["orders.public.orders", "__debezium-heartbeat.orders"].map(str::to_owned);
    assert_eq!(topics, HashSet::from(expected));
    let stored = "SELECT order_id::text, json_build_object('order_id', order_id, 'customer_id', customer_id, \
                         'document', document::text, 'created_at', \
                         to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))::text \
                  FROM orders";
    let rows = database.query(stored, &[]).await.unwrap();
    let row = |row: &tokio_postgres::Row| (row.get(0), serde_json::from_str(row.get(1)).unwrap());
    let stored: HashMap<String, Value> = rows.iter().map(row).collect();
    for (key, value) in &delivered {
        assert_eq!(Some(value), stored.get(value["order_id"].as_str().unwrap()));
        assert_eq!(key, &json!({"customer_id": value["customer_id"]}));
    }
    println!("{} orders, {} messages", stored.len(), delivered.len());
    let text = |value: &'_ Value, name| value[name].as_str().map(str::to_owned).unwrap();
    let delivered: Vec<_> =
        delivered.iter().map(|(_, value)| (text(value, "order_id"), text(value, "customer_id"))).collect();
    let known: HashSet<&str> = delivered.iter().map(|(id, _)| &**id).collect();
    let skipped = stored.keys().filter(|id| !known.contains(&***id)).count();
    assert_eq!(skipped, 0, "of {} orders", stored.len());
    assert!(committed.len() > 1000, "{}", committed.len());
    assert!(committed.keys().all(|id| stored.contains_key(id)));
    assert_in_order(delivered.iter().map(|(id, customer)| (&**id, &**customer)), &committed);
}
