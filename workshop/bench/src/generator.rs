//! Runs the load generator, wrk. It uses little of the processor time that it shares with the contestants,
//! keeps its connections, corrects latencies for coordinated omission, and takes requests from a script.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use devstack::workspace;
use serde::Deserialize;

use crate::contestants::Workload;

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
    /// Refused and broken connections, and responses that are not a success.
    pub errors: u64,
    /// The number of new keys that were drawn. It exceeds the number of responses by at most one, and one per
    /// connection.
    #[serde(default)]
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
            order: r#"{"currency":"EUR","items":[{"sku":"A-1","quantity":2,"unitPrice":1250}]}"#
                .to_owned(),
            customers: 0,
            may_be_refused: false,
        }
    }
}

/// Sends a workload to an address with wrk.
pub fn wrk(
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
    match requests.may_be_refused {
        true => result_of(&mut command),
        false => output_of(&mut command),
    }
}

/// Runs a load generator and reads the result that it prints.
///
/// # Errors
/// If a response was not a success, or there was no response.
pub fn output_of(command: &mut Command) -> Result<Run> {
    let run = result_of(command)?;
    ensure!(run.errors == 0, "some responses are not a success: {run:?}");
    Ok(run)
}

fn result_of(command: &mut Command) -> Result<Run> {
    let output = command.output().context("running the load generator")?;
    ensure!(
        output.status.success(),
        "the load generator failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let run = parse(&String::from_utf8_lossy(&output.stdout))?;
    ensure!(run.requests > 0, "there was no response");
    Ok(run)
}

/// Reads the line that is JSON; wrk prints other lines before it.
fn parse(text: &str) -> Result<Run> {
    let line = text.lines().find(|line| line.starts_with('{'));
    let line = line.with_context(|| format!("no result in: {text}"))?;
    serde_json::from_str(line).with_context(|| format!("not a result: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_the_line_that_is_json() {
        let text = "Running 2s test\n  12 requests in 2.00s\n\
                    {\"requests\":12,\"microseconds\":2000000,\"p50\":7,\"p99\":9,\"errors\":1,\"keys\":13}\n";
        let run = parse(text).expect("a result");
        assert_eq!((run.requests, run.p50, run.p99), (12, 7, 9));
        assert_eq!((run.errors, run.keys), (1, 13));
        assert_eq!(run.rate(), 6.0);
        assert!(parse("Running 2s test\n").is_err());
        assert!(parse("{\"requests\":12}\n").is_err());
    }

    #[test]
    fn a_run_with_an_error_has_no_result() {
        let echo = |errors: u32| {
            let line = format!(
                "{{\"requests\":1,\"microseconds\":1,\"p50\":1,\"p99\":1,\"errors\":{errors}}}"
            );
            output_of(Command::new("echo").arg(line))
        };
        assert!(echo(0).is_ok());
        assert!(echo(1).is_err());
        assert!(output_of(&mut Command::new("false")).is_err());
    }
}
