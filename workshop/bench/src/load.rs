//! Runs the load generator, wrk. It uses little of the processor time that it shares with the contestants,
//! keeps its connections, and takes requests from a script.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use devstack::workspace;
use reqwest::Client;
use serde::Deserialize;

use crate::contestants::Workload;

/// The number of keys that [`Workload::Replay`] repeats; load.lua has the same number.
const REPLAYED_KEYS: u64 = 64;

/// The result of one run.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Run {
    /// The number of responses.
    pub requests: u64,
    /// The duration.
    pub microseconds: u64,
    /// Median latency, in microseconds.
    pub p50: u64,
    /// 99th percentile of latencies, in microseconds.
    pub p99: u64,
    /// The same without stalls.
    pub p99_no_stalls: u64,
    /// Responses that Nagle's algorithm has held back for 40 ms. Counted with up to 16 clients.
    pub stalls: u64,
    /// Refused and broken connections, and responses that are not a success.
    pub errors: u64,
    /// The number of new keys that were drawn. It exceeds the number of responses by at most one, and one per
    /// connection.
    pub keys: u64,
}

impl Run {
    /// Responses per second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 * 1e6 / self.microseconds.max(1) as f64
    }
}

/// What the requests of a workload contain.
#[derive(Clone, Debug)]
pub struct Requests {
    /// The order that is created, as JSON.
    pub order: String,
    /// How many customers create orders; with 0, no request names its customer.
    pub customers: u32,
    /// Whether some may be refused, because there are more clients than the host has connections to Postgres.
    pub may_be_refused: bool,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            order: r#"{"currency":"EUR","items":[{"sku":"A-1","quantity":2,"unitPrice":1250}]}"#.to_owned(),
            customers: 0,
            may_be_refused: false,
        }
    }
}

/// Sends a workload to an address with wrk.
///
/// # Errors
/// If there was no response, or a response was not a success and none may be refused.
pub fn send(
    wrk: &Path,
    base_url: &str,
    workload: Workload,
    requests: &Requests,
    connections: usize,
    seconds: u64,
) -> Result<Run> {
    let seed = uuid::Uuid::new_v4().as_fields().0;
    let mut command = Command::new(wrk);
    command
        .args(["--threads", "1", "--timeout", "60s"])
        .args(["--connections", &connections.to_string()])
        .args(["--duration", &format!("{seconds}s")])
        .arg("--script")
        .arg(workspace::root().join("workshop/bench/src/load.lua"))
        .args([base_url, "--", workload.name()])
        .args([seed.to_string(), connections.to_string()])
        .args([&requests.customers.to_string(), &requests.order]);
    result_of(&mut command, requests.may_be_refused)
}

fn result_of(command: &mut Command, may_be_refused: bool) -> Result<Run> {
    let output = command.output().context("running the load generator")?;
    ensure!(output.status.success(), "the load generator failed: {}", String::from_utf8_lossy(&output.stderr));
    // wrk prints other lines before the one that is JSON.
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with('{'));
    let line = line.with_context(|| format!("no result in: {text}"))?;
    let run: Run = serde_json::from_str(line).with_context(|| format!("not a result: {line}"))?;
    ensure!(run.requests > 0, "there was no response");
    ensure!(may_be_refused || run.errors == 0, "some responses are not a success: {run:?}");
    Ok(run)
}

/// Creates the orders that [`Workload::Replay`] repeats, and sends each twice: the first retry marks its key as
/// completed in Redis.
///
/// # Errors
/// If a response is not 201.
pub async fn complete_replayed_keys(base_url: &str, requests: &Requests) -> Result<()> {
    let client = Client::new();
    for number in 0..2 * REPLAYED_KEYS {
        send_order(&client, base_url, requests, number / 2).await?;
    }
    Ok(())
}

/// Sends one order.
///
/// # Errors
/// If the response is not 201.
pub async fn send_order(client: &Client, base_url: &str, requests: &Requests, key: u64) -> Result<()> {
    let request = client
        .post(format!("{base_url}/api/v1/orders"))
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", format!("00000000-0000-4000-8000-{key:012x}"))
        .body(requests.order.clone());
    let response = request.send().await?;
    let status = response.status();
    let text = response.text().await?;
    ensure!(status.as_u16() == 201, "{status}: {text}");
    Ok(())
}

/// How often components have called the runner.
///
/// # Errors
/// If it does not count.
pub async fn host_calls(base_url: &str) -> Result<u64> {
    let response = reqwest::get(format!("{base_url}/.well-known/runner/calls")).await?;
    let calls: serde_json::Value = serde_json::from_str(&response.text().await?)?;
    let count = |name| {
        calls
            .pointer(&format!("/host/{name}"))
            .and_then(serde_json::Value::as_u64)
            .with_context(|| format!("no count of {name}"))
    };
    ["http", "redis", "postgres", "timers", "wasi", "intrinsics"].into_iter().map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str, may_be_refused: bool) -> Result<Run> {
        result_of(Command::new("echo").arg(text), may_be_refused)
    }

    #[test]
    fn the_result_is_the_line_that_is_json_and_has_no_error() {
        let text = |errors: u32| {
            let figures =
                r#""requests":12,"microseconds":2000000,"p50":7,"p99":9,"p99_no_stalls":8,"stalls":1,"keys":13"#;
            format!("Running 2s test\n  12 requests in 2.00s\n{{{figures},\"errors\":{errors}}}\n")
        };
        let run = printed(&text(0), false).expect("a result");
        assert_eq!((run.requests, run.p50, run.p99, run.keys), (12, 7, 9, 13));
        assert_eq!(run.rate(), 6.0);
        assert!(printed(&text(1), false).is_err());
        assert!(printed(&text(1), true).is_ok_and(|run| run.errors == 1));
        assert!(printed("Running 2s test", false).is_err());
        assert!(result_of(&mut Command::new("false"), false).is_err());
    }
}
