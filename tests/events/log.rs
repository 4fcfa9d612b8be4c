//! The change stream under load: orders that are committed, late or rolled back, on plain and on partitioned tables,
//! and a server that crashes.

use std::collections::HashSet;

use serde_json::Value;
use tokio_postgres::Client;

use crate::contract::assert_valid;
use crate::load::{Count, assert_in_order, create_all, insert};
use crate::stream::{Database, Row};

/// Of each client.
const TRANSACTIONS: u32 = 8;

/// A customer that no other order is of: what comes after its order was committed later.
const MARKER: &str = "marker";

async fn run(database: &Client, sql: &str) {
    database.batch_execute(sql).await.unwrap();
}

fn ids(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| &*row.order_id).collect()
}

#[tokio::test]
async fn an_order_that_commits_late_is_delivered_and_one_that_is_rolled_back_is_not() {
    for partitions in [0, 3] {
        let Some(server) = Database::start(partitions).await else {
            return;
        };
        server.create_slot().await;
        let (late, aborted, prompt) = tokio::join!(server.connect(), server.connect(), server.connect());
        run(&late, "BEGIN").await;
        let late_id = insert(&late, "ada").await;
        run(&aborted, "BEGIN").await;
        insert(&aborted, "ada").await;
        let first = insert(&prompt, "ada").await;
        run(&aborted, "ROLLBACK").await;
        let marker = insert(&prompt, MARKER).await;

        let mut consumer = server.consumer().await;
        let rows = consumer.until(MARKER, true).await;
        assert_eq!(ids(&rows), [&first, &marker]);
        run(&late, "COMMIT").await;
        assert_eq!(ids(&consumer.next(true).await), [&late_id]);

        // A reader of the table by seq would have passed it.
        let passed = "SELECT (SELECT seq FROM orders WHERE order_id::text = $1) \
                           < (SELECT seq FROM orders WHERE order_id::text = $2)";
        let row = prompt.query_one(passed, &[&late_id, &first]).await.unwrap();
        assert!(row.get::<_, bool>(0));
        consumer.end().await;
    }
}

#[tokio::test]
async fn what_was_not_confirmed_is_delivered_again_also_after_a_crash() {
    let Some(mut server) = Database::start(0).await else {
        return;
    };
    server.create_slot().await;
    let database = server.connect().await;
    let mut expected = Vec::new();
    for customer in ["ada", "ada", "bob", MARKER] {
        expected.push(insert(&database, customer).await);
    }
    for _ in 0..2 {
        let mut consumer = server.consumer().await;
        assert_eq!(ids(&consumer.until(MARKER, false).await), expected);
        // Ended in order: what it had confirmed would be known. The server then ends at once, as a crash would.
        consumer.end().await;
        server.postgres.restart().unwrap();
    }
    // Of what is confirmed, nothing has to be delivered again.
    let mut consumer = server.consumer().await;
    assert_eq!(ids(&consumer.until(MARKER, true).await), expected);
    consumer.end().await;
    let database = server.connect().await;
    let next = insert(&database, "bob").await;
    let mut consumer = server.consumer().await;
    assert_eq!(ids(&consumer.next(true).await), [&next]);
    consumer.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_committed_order_is_delivered_once_and_in_order_for_each_customer() {
    for partitions in [0, 3] {
        let Some(server) = Database::start(partitions).await else {
            return;
        };
        server.create_slot().await;
        let mut consumer = server.consumer().await;
        let database = server.connect().await;
        let creation = async {
            let committed = create_all(server.url(), TRANSACTIONS, Count::default()).await;
            insert(&database, MARKER).await;
            committed
        };
        let (committed, mut rows) = tokio::join!(creation, consumer.until(MARKER, true));
        assert_eq!(rows.pop().unwrap().customer_id, MARKER);
        consumer.end().await;

        let delivered: HashSet<&str> = ids(&rows).into_iter().collect();
        assert_eq!(delivered.len(), rows.len(), "delivered twice");
        let expected: HashSet<&str> = committed.keys().map(|id| &**id).collect();
        assert!(expected.len() > 400, "{}", expected.len());
        assert_eq!(delivered, expected);
        let delivered = rows.iter().map(|row| (&*row.order_id, &*row.customer_id));
        assert_in_order(delivered, &committed);
        for row in &rows {
            let event = row.event();
            assert_valid(&event);
            assert_eq!(event["time"], event["data"]["createdAt"]);
            assert_eq!(event["id"], event["data"]["orderId"]);
            assert_eq!(event["data"]["total"], Value::from(2500));
        }
    }
}
