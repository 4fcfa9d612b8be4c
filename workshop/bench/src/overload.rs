//! Sends requests from two thousand clients at once: each request must get a response before its deadline,
//! even if it is a 503.

use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::contestants::Component;
use crate::environment::Environment;
use crate::generator::Requests;
use crate::options::Options;

const CLIENTS: usize = 2000;

/// The number of orders that each client creates, one after the other.
const ORDERS_EACH: usize = 3;

/// The component's own deadlines (0.5 s for Redis, 5 s for Postgres), and the same again for the queue.
const DEADLINE: Duration = Duration::from_secs(11);

/// The number of requests without a response at their deadline; `None` if there is no host.
pub async fn unanswered(options: &Options, environment: &Environment) -> Result<Option<f64>> {
    let Some(host) = options.hosts.first() else {
        return Ok(None);
    };
    let storage = environment.storage("overload").await?;
    let app = environment.serve(host, Component::Ours, &storage)?;
    let url = format!("{}/api/v1/orders", app.base_url());
    // The clients have their own threads: this thread owns the servers.
    let clients = std::thread::spawn(move || send(&url));
    let count = clients.join().map_err(|_| anyhow!("a client panicked"))??;
    Ok(Some(count as f64))
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
            .body(Requests::default().order);
        let response = async { request.send().await?.bytes().await };
        if response.await.is_err() {
            unanswered += 1;
        }
    }
    unanswered
}
