use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

const ATTEMPTS: u32 = 6;
const RETRIED: [u16; 7] = [408, 409, 421, 429, 502, 503, 504];

/// Why there is no order.
#[derive(Debug)]
pub enum Failure {
    /// The service has said so.
    Rejected(StatusCode, String),
    /// The order may exist: keep the key.
    NoResponse,
}

/// Creates an order; sends it again as often as it takes.
pub async fn create_order(url: &str, order: &Value, key: &str) -> Result<Value, Failure> {
    let client = Client::new();
    for attempt in 1..=ATTEMPTS {
        let limit = Duration::from_millis(200 << attempt).min(Duration::from_secs(10));
        let mut wait = limit.mul_f64(rand::random());
        let request = client
            .post(format!("{url}/api/v1/orders"))
            .timeout(Duration::from_secs(10))
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", key)
            .body(order.to_string());
        // Anything else was the connection, the time limit, or half a body.
        if let Ok(response) = request.send().await {
            let (status, after) = (response.status(), retry_after(&response));
            match (status, response.text().await) {
                (StatusCode::CREATED, Ok(body)) => {
                    if let Ok(created) = serde_json::from_str(&body) {
                        return Ok(created);
                    }
                }
                (StatusCode::CREATED, Err(_)) => {}
                (status, _) if RETRIED.contains(&status.as_u16()) => wait += after,
                (status, body) => return Err(Failure::Rejected(status, body.unwrap_or_default())),
            }
        }
        if attempt < ATTEMPTS {
            tokio::time::sleep(wait).await;
        }
    }
    Err(Failure::NoResponse)
}

fn retry_after(response: &Response) -> Duration {
    let header = response.headers().get("Retry-After");
    let seconds = header.and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}
