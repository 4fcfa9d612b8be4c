//! The change stream under load: orders that are committed, late or rolled back, on plain and on partitioned tables, and a
//! server that crashes.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use orders::Order;
use protocol::Resource;
use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::contract::assert_valid;
use crate::stream::{Database, Row};

/// A customer that no other order is of: what comes after its order was committed later.
const MARKER: &str = "marker";

fn new_id() -> Uuid {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let random: [u8; 10] = rand::random();
    uuid::Builder::from_unix_timestamp_millis(now.as_millis() as u64, &random).into_uuid()
}

/// Inserts an order as the component does, in the session's transaction.
pub async fn insert(database: &Client, customer: &str) -> String {
    try_insert(database, customer).await.unwrap()
}

/// The same where the server may be gone.
pub async fn try_insert(
    database: &Client,
    customer: &str,
) -> Result<String, tokio_postgres::Error> {
    let id = new_id();
    let order = json!({"currency": "EUR", "note": "é\"\\\n",
                       "items": [{"sku": "A-1", "quantity": 2, "unitPrice": 1250}]});
    let document = Order::from_json(&order).unwrap().canonical().value();
    let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
    let row = json!([{
        "id": id.to_string(), "customer_id": customer, "idempotency_key": id.to_string(), "fingerprint": "00ff", "document": document,
        "created_at": seconds * 1000 + u64::from(nanos / 1_000_000),
    }]);
    let sql = "SELECT * FROM insert_orders_2($1::text::json)";
    let inserted = database.query(sql, &[&row.to_string()]).await?;
    assert_eq!(inserted.len(), 1);
    Ok(id.to_string())
}

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
        let (late, aborted, prompt) =
            tokio::join!(server.connect(), server.connect(), server.connect());
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

/// An order that was committed, and when.
pub struct Committed {
    pub requested: Instant,
    pub acknowledged: Instant,
}

/// Asserts that each customer's orders, given with their customers, were delivered in the order of the requests: what was
/// acknowledged before another one was requested comes first.
pub fn assert_in_order<'d>(
    delivered: impl Iterator<Item = (&'d str, &'d str)>,
    committed: &HashMap<String, Committed>,
) {
    let mut latest: HashMap<&str, Instant> = HashMap::new();
    for (id, customer) in delivered {
        // Not the marker, and not what was committed when the server was lost.
        let Some(order) = committed.get(id) else {
            continue;
        };
        // The latest request of those that were delivered before this one.
        let latest = latest.entry(customer).or_insert(order.requested);
        assert!(order.acknowledged >= *latest, "{id} is too late");
        *latest = order.requested.max(*latest);
    }
}

/// Creates orders in transactions that last for a moment; every third one is rolled back.
async fn create(database: Client, transactions: u32) -> Vec<(String, Committed)> {
    let mut committed = Vec::new();
    for n in 0..transactions {
        let requested = Instant::now();
        run(&database, "BEGIN").await;
        let mut inserted = Vec::new();
        for _ in 0..rand::random_range(1..4) {
            let customer = format!("c{}", rand::random_range(0..5));
            inserted.push(insert(&database, &customer).await);
        }
        let pause = Duration::from_millis(rand::random_range(0..15));
        tokio::time::sleep(pause).await;
        if n % 3 == 2 {
            run(&database, "ROLLBACK").await;
            continue;
        }
        run(&database, "COMMIT").await;
        let acknowledged = Instant::now();
        committed.extend(inserted.into_iter().map(|id| {
            let committed = Committed {
                requested,
                acknowledged,
            };
            (id, committed)
        }));
    }
    committed
}

#[tokio::test(flavor = "multi_thread")]
async fn every_committed_order_is_delivered_once_and_in_order_for_each_customer() {
    for partitions in [0, 3] {
        let Some(server) = Database::start(partitions).await else {
            return;
        };
        server.create_slot().await;
        let mut consumer = server.consumer().await;
        let mut creators = Vec::new();
        for _ in 0..8 {
            creators.push(tokio::spawn(create(server.connect().await, 40)));
        }
        let marker = server.connect().await;
        let creation = async {
            let mut committed = HashMap::new();
            for creator in creators {
                committed.extend(creator.await.unwrap());
            }
            insert(&marker, MARKER).await;
            committed
        };
        let (committed, mut rows) = tokio::join!(creation, consumer.until(MARKER, true));
        assert_eq!(rows.pop().unwrap().customer_id, MARKER);
        consumer.end().await;

        let delivered: HashSet<&str> = ids(&rows).into_iter().collect();
        assert_eq!(delivered.len(), rows.len(), "delivered twice");
        let expected: HashSet<&str> = committed.keys().map(|id| &**id).collect();
        assert!(expected.len() > 200, "{}", expected.len());
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
