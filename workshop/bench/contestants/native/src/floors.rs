//! What the stores alone give: the component's statement, or its command, from many clients at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use exactly_once::ports::{NewResource, ResourceIds};
use exactly_once::{Customer, Document, Fingerprint, IdempotencyKey, KeyScope, Progress, Record};
use exactly_once_stores::redis::Reply;
use hdrhistogram::Histogram;
use native_stores::RandomIds;
use orders::ORDERS;
use uuid::Uuid;

use crate::stores::Stores;

/// What a client calls, again and again.
#[derive(Clone, Copy, ValueEnum)]
pub enum Call {
    /// Postgres, to insert an order.
    Insert,
    /// Redis, to reserve a key.
    Reserve,
}

/// The longest latency that is told apart from longer ones, in microseconds.
const LONGEST: u64 = 60_000_000;

/// Calls, and prints the number of calls, the duration and the latencies as JSON.
pub async fn measure(
    stores: Arc<Stores>,
    call: Call,
    connections: usize,
    seconds: f64,
) -> Result<()> {
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let clients: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(client(stores.clone(), call, end)))
        .collect();
    let mut latencies = Histogram::<u64>::new_with_bounds(1, LONGEST, 3)?;
    for client in clients {
        latencies.add(client.await??)?;
    }
    let report = serde_json::json!({
        "requests": latencies.len(),
        "microseconds": start.elapsed().as_micros(),
        "p50": latencies.value_at_quantile(0.5),
        "p99": latencies.value_at_quantile(0.99),
        "errors": 0,
    });
    println!("{report}");
    Ok(())
}

async fn client(stores: Arc<Stores>, call: Call, end: Instant) -> Result<Histogram<u64>> {
    let mut latencies = Histogram::new_with_bounds(1, LONGEST, 3)?;
    let document = document()?;
    while Instant::now() < end {
        let new = new(&document)?;
        let start = Instant::now();
        match call {
            Call::Insert => {
                let inserted = stores.inserted(stores.insert_alone(&new)).await?;
                ensure!(inserted == 1, "nothing was inserted");
            }
            Call::Reserve => {
                let record = Record {
                    progress: Progress::InProgress,
                    fingerprint: new.fingerprint,
                    id: new.id,
                };
                let command = stores.records().reserve(&new.scope, &record);
                ensure!(
                    stores.send(&command).await? == Reply::Nil,
                    "a key was taken"
                );
            }
        }
        let microseconds = u64::try_from(start.elapsed().as_micros())?;
        latencies.saturating_record(microseconds.max(1));
    }
    Ok(latencies)
}

/// The order that the load generator sends.
fn document() -> Result<Document> {
    let body = serde_json::json!({
        "currency": "EUR",
        "items": [{"sku": "A-1", "quantity": 2, "unitPrice": 1250}],
    });
    let order = ORDERS.validate(&body).ok();
    Ok(Document::of(&order.context("the order is not valid")?))
}

fn new(document: &Document) -> Result<NewResource> {
    let key = Uuid::new_v4().to_string();
    let scope = KeyScope {
        collection: ORDERS.collection.name,
        customer: Customer::anonymous(),
        key: IdempotencyKey::parse(key.as_bytes()).context("the key is not valid")?,
    };
    Ok(NewResource {
        id: RandomIds.draw(),
        fingerprint: Fingerprint::of(&scope, "POST", ORDERS.collection.path, document),
        scope,
        document: document.clone(),
    })
}
