//! What the stores give when nothing stands in front of them: the component's statement, or its command, from
//! many clients at once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use hdrhistogram::Histogram;
use orders::customer::Customer;
use orders::idempotency::{Fingerprint, IdempotencyKey, Progress, Record, KeyScope};
use orders::order::Draft;
use orders::ports::{NewResource, ResourceIds};
use orders::stores::redis::Reply;
use uuid::Uuid;

use crate::stores::{RandomIds, Stores, insert_alone};

/// What a client asks, again and again.
#[derive(Clone, Copy, ValueEnum)]
pub enum Question {
    /// Postgres, to insert an order.
    Insert,
    /// Redis, to reserve a key.
    Reserve,
}

/// The longest latency told apart, in microseconds.
const LONGEST: u64 = 60_000_000;

/// Asks, and prints requests, duration and latencies as JSON.
pub async fn ask(
    stores: &Stores,
    question: Question,
    connections: usize,
    seconds: f64,
) -> Result<()> {
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let clients: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(client(stores.clone(), question, end)))
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

async fn client(stores: Stores, question: Question, end: Instant) -> Result<Histogram<u64>> {
    let mut latencies = Histogram::new_with_bounds(1, LONGEST, 3)?;
    let draft = draft()?;
    while Instant::now() < end {
        let order = order(&draft)?;
        let start = Instant::now();
        match question {
            Question::Insert => {
                let inserted = stores.inserted(insert_alone(&order)).await?;
                ensure!(inserted == 1, "nothing was inserted");
            }
            Question::Reserve => {
                let record = Record {
                    progress: Progress::InProgress,
                    fingerprint: order.fingerprint,
                    order_id: order.order_id,
                };
                let command = stores.records().reserve(&order.scope, &record);
                ensure!(stores.send(command).await? == Reply::Nil, "a key was taken");
            }
        }
        let microseconds = u64::try_from(start.elapsed().as_micros())?;
        latencies.saturating_record(microseconds.max(1));
    }
    Ok(latencies)
}

/// The order that the load generator sends.
fn draft() -> Result<Draft> {
    let body = serde_json::json!({
        "currency": "EUR",
        "items": [{"sku": "A-1", "quantity": 2, "unitPrice": 1250}],
    });
    Draft::from_json(&body)
        .ok()
        .context("the order is not valid")
}

fn order(draft: &Draft) -> Result<NewResource> {
    let key = Uuid::new_v4().to_string();
    let scope = KeyScope {
        customer: Customer::anonymous(),
        key: IdempotencyKey::parse(key.as_bytes()).context("the key is not valid")?,
    };
    Ok(NewResource {
        order_id: RandomIds.draw(),
        fingerprint: Fingerprint::of(&scope, "POST", "/api/v1/orders", &draft.canonical()),
        scope,
        draft: draft.clone(),
    })
}
