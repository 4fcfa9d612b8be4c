//! The load generator, wrk: it costs little of the processor that it shares with what is measured, keeps its
//! connections, corrects its latencies for coordinated omission, and takes its requests from a script.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use devstack::workspace;
use serde::Deserialize;

use crate::contestants::Workload;

/// What one run gave.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Run {
    /// Answers.
    pub requests: u64,
    /// How long it took.
    pub microseconds: u64,
    /// Median latency, in microseconds.
    pub p50: u64,
    /// 99th percentile of latencies, in microseconds.
    pub p99: u64,
    /// Refused or broken connections, and answers that say so.
    pub errors: u64,
    /// How many new keys were made up: at most one, and one per connection, more than were answered.
    #[serde(default)]
    pub keys: u64,
}

impl Run {
    /// Answers per second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 * 1e6 / self.microseconds.max(1) as f64
    }
}

/// Has wrk ask an address.
pub fn wrk(
    wrk: &Path,
    base_url: &str,
    workload: Workload,
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
        .arg(workspace::root().join("crates/bench/src/load.lua"))
        .args([base_url, "--", workload.name()])
        .args([seed.to_string(), connections.to_string()]);
    output_of(&mut command)
}

/// Runs a generator and reads what it prints.
pub fn output_of(command: &mut Command) -> Result<Run> {
    let output = command.output().context("running the load generator")?;
    ensure!(
        output.status.success(),
        "the load generator failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let run = parse(&String::from_utf8_lossy(&output.stdout))?;
    ensure!(run.errors == 0, "answers that are no success: {run:?}");
    ensure!(run.requests > 0, "no answer at all");
    Ok(run)
}

/// The line that is JSON; wrk says things of its own before it.
fn parse(text: &str) -> Result<Run> {
    let line = text.lines().find(|line| line.starts_with('{'));
    let line = line.with_context(|| format!("no result in: {text}"))?;
    serde_json::from_str(line).with_context(|| format!("not a result: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_the_line_of_json_among_others() {
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
    fn a_run_with_an_error_is_no_result() {
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
