//! Two thousand clients at once: every request must be answered before its deadline, if only with a 503.

use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::Options;
use crate::contestants::Component;
use crate::goals::{Bound, Goal};
use crate::stage::{ORDER, Stage};

const CLIENTS: usize = 2000;

/// What each creates, one after the other.
const ORDERS_EACH: usize = 3;

/// The component's own deadlines (0.5 s for Redis, 5 s for Postgres) and as much again for the queue.
const DEADLINE: Duration = Duration::from_secs(11);

/// How many requests went unanswered.
pub async fn goal(options: &Options, stage: &Stage) -> Result<Goal> {
    let mut unanswered = None;
    if let Some(host) = options.hosts.first() {
        let place = stage.place("crowd").await?;
        let app = stage.serve(host, Component::Ours, &place, &[])?;
        let url = format!("{}/api/v1/orders", app.base_url());
        // Both cores for the clients, while this thread keeps the servers.
        let clients = std::thread::spawn(move || send(&url));
        let count = clients.join().map_err(|_| anyhow!("a client panicked"))??;
        unanswered = Some(count as f64);
    }
    Ok(Goal::new(
        "2,000 clients: requests unanswered at their deadline",
        Bound::AtMost(0.0),
        "",
        unanswered,
    ))
}

#[tokio::main]
async fn send(url: &str) -> Result<usize> {
    let client = reqwest::Client::builder().timeout(DEADLINE).build()?;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(unanswered_of_one(client.clone(), url.to_owned())))
        .collect();
    let mut unanswered = 0;
    for client in clients {
        unanswered += client.await?;
    }
    Ok(unanswered)
}

async fn unanswered_of_one(client: reqwest::Client, url: String) -> usize {
    let mut unanswered = 0;
    for _ in 0..ORDERS_EACH {
        let request = client
            .post(&url)
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", uuid::Uuid::new_v4().to_string())
            .body(ORDER);
        let answer = async { request.send().await?.bytes().await };
        if answer.await.is_err() {
            unanswered += 1;
        }
    }
    unanswered
}
