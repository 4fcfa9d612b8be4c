//! Clients that create orders in transactions, some of which commit late or are rolled back; what they have committed;
//! and the assertion that a reader got it in order.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use exactly_once_stores::postgres::ROWS_OF_ONE;
use fixtures::{connect, until};
use orders::ORDERS;
use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;

/// At the same time.
pub const CLIENTS: u32 = 64;

/// How many orders the clients of this process's runs have committed; a run has a counter of its own.
pub type Count = std::sync::Arc<AtomicUsize>;

/// Inserts an order as the component does, in the session's transaction.
pub async fn insert(database: &Client, customer: &str) -> String {
    try_insert(database, customer).await.unwrap()
}

/// The same where the server may be gone.
async fn try_insert(database: &Client, customer: &str) -> Result<String, tokio_postgres::Error> {
    let id = Uuid::now_v7();
    let order = json!({"currency": "EUR", "note": "é\"\\\n",
                       "items": [{"sku": "A-1", "quantity": 2, "unitPrice": 1250}]});
    let document = ORDERS.validate(&order).unwrap();
    let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
    let row = json!([{
        "id": id.to_string(), "customer_id": customer, "idempotency_key": id.to_string(), "fingerprint": "00ff",
        "document": document, "created_at": seconds * 1000 + u64::from(nanos / 1_000_000),
    }]);
    let inserted = database.query("SELECT * FROM insert_orders_2($1::text::json)", &[&row.to_string()]).await?;
    assert_eq!(inserted.len(), ROWS_OF_ONE);
    Ok(id.to_string())
}

/// An order that was committed, and when.
pub struct Committed {
    pub requested: Instant,
    pub acknowledged: Instant,
}

/// Asserts that each customer's orders, given with their customers, were first delivered in the order of the requests:
/// what was acknowledged before another one was requested comes first.
pub fn assert_in_order<'d>(
    delivered: impl Iterator<Item = (&'d str, &'d str)>,
    committed: &HashMap<String, Committed>,
) {
    let (mut latest, mut known): (HashMap<&str, Instant>, _) = (HashMap::new(), HashSet::new());
    for (id, customer) in delivered.filter(|(id, _)| known.insert(*id)) {
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

/// Creates orders in transactions, every third of which is rolled back, until all are made or the server is gone.
/// `late`: each stays open for this long, and is committed.
async fn create(url: String, transactions: u32, late: Option<Duration>, count: Count) -> Vec<(String, Committed)> {
    let database = connect(&url).await.unwrap();
    let mut committed = Vec::new();
    for n in 0..transactions {
        let requested = Instant::now();
        if database.batch_execute("BEGIN").await.is_err() {
            break;
        }
        let mut inserted = Vec::new();
        for _ in 0..rand::random_range(1..4) {
            let customer = format!("c{}", rand::random_range(0..20));
            // Without the server, the commit fails as well.
            inserted.extend(try_insert(&database, &customer).await);
        }
        tokio::time::sleep(late.unwrap_or(Duration::from_millis(rand::random_range(0..15)))).await;
        let end = if n % 3 == 2 && late.is_none() { "ROLLBACK" } else { "COMMIT" };
        if database.batch_execute(end).await.is_err() {
            break;
        }
        if end == "COMMIT" {
            let acknowledged = Instant::now();
            count.fetch_add(inserted.len(), Ordering::Relaxed);
            committed.extend(inserted.into_iter().map(|id| (id, Committed { requested, acknowledged })));
        }
    }
    committed
}

/// The work of all clients, with `transactions` each, and of a stranger whose transactions hold low numbers for long.
/// Two thirds of the transactions are committed, each with two orders on average.
pub async fn create_all(url: String, transactions: u32, count: Count) -> HashMap<String, Committed> {
    let late = Duration::from_millis(700);
    let stranger = create(url.clone(), transactions / 10, Some(late), count.clone());
    let mut creators = vec![tokio::spawn(stranger)];
    for _ in 0..CLIENTS {
        let client = create(url.clone(), transactions, None, count.clone());
        creators.push(tokio::spawn(client));
    }
    let mut committed = HashMap::new();
    for creator in creators {
        committed.extend(creator.await.unwrap());
    }
    committed
}

/// Waits until so many orders are committed.
pub async fn reaches(count: &Count, orders: usize) {
    until("enough orders are committed", async || count.load(Ordering::Relaxed) >= orders).await;
}
