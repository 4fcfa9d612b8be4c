//! Measures creations and replays with different values of Spin's flags for the reuse of instances: one flag
//! at a time differs from its default, and a few combinations.

use anyhow::{Context, Result};
use devstack::Host;
use serde::Deserialize;

use crate::contestants::{CREATE, Component, REPLAY, Row, row_named};
use crate::environment::{Environment, PreparedRow, Storage, complete_replayed_keys};
use crate::figures::{FlagFigures, FlagLine, FlagReport, Machine, ReuseFlags, Sample};
use crate::generator::Requests;
use crate::options::{GOAL_CONNECTIONS, Options, host_name};
use crate::rounds::sample;
use crate::statistics::{Spread, median};

/// Each figure is the median over this number of rounds; one round in a quick run.
const ROUNDS: usize = 3;

/// The defaults of Spin and of the runner.
const DEFAULT: (u32, u32, &str) = (128, 16, "1s");

/// All combinations: requests in total, requests at once, idle timeout.
const COMBINATIONS: [(u32, u32, &str); 13] = [
    DEFAULT,
    (1, 16, "1s"),
    (16, 16, "1s"),
    (1024, 16, "1s"),
    (65536, 16, "1s"),
    (128, 1, "1s"),
    (128, 4, "1s"),
    (128, 8, "1s"),
    (128, 64, "1s"),
    (128, 16, "100ms"),
    (128, 16, "10s"),
    (1024, 4, "10s"),
    (1024, 8, "10s"),
];

/// What one host has reached with one combination so far.
struct Combination<'h> {
    host: &'h Host,
    flags: ReuseFlags,
    storage: Storage,
    creates: Vec<Sample>,
    replays: Vec<Sample>,
    /// SQL statements per created order, one value for each round; empty on Spin.
    statements: Vec<f64>,
}

/// Measures all combinations on all hosts. They take turns, and each turn has its own process: a process that
/// has served other requests holds more memory.
pub async fn measure(
    options: &Options,
    environment: &Environment,
    machine: Machine,
) -> Result<FlagReport> {
    let rounds = if options.quick { 1 } else { ROUNDS };
    let mut combinations = Vec::new();
    for host in &options.hosts {
        for flags in COMBINATIONS {
            combinations.push(prepare(environment, host, flags).await?);
        }
    }
    for round in 1..=rounds {
        eprint!("{GOAL_CONNECTIONS} clients, round {round} of {rounds} ");
        for combination in &mut combinations {
            let turn = combination.turn(options, environment).await;
            turn.with_context(|| format!("{:?}, round {round}", combination.flags))?;
            eprint!(".");
        }
        eprintln!();
    }
    let lines = combinations.iter().map(Combination::line);
    Ok(FlagReport {
        machine,
        connections: GOAL_CONNECTIONS,
        rounds,
        lines: lines
            .collect::<Option<_>>()
            .context("a combination has no sample")?,
    })
}

async fn prepare<'h>(
    environment: &Environment,
    host: &'h Host,
    (reuse_count, concurrent_reuse_count, idle_timeout): (u32, u32, &str),
) -> Result<Combination<'h>> {
    let name = format!(
        "flags {reuse_count} {concurrent_reuse_count} {idle_timeout} {}",
        match host {
            Host::Spin(_) => "spin",
            Host::Runner(_) => "runner",
        }
    );
    let storage = environment.storage(&name).await?;
    let app = environment.serve(host, Component::Ours, &storage)?;
    complete_replayed_keys(&app.base_url(), &Requests::default()).await?;
    Ok(Combination {
        host,
        flags: ReuseFlags {
            reuse_count,
            concurrent_reuse_count,
            idle_timeout: idle_timeout.to_owned(),
        },
        storage,
        creates: Vec::new(),
        replays: Vec::new(),
        statements: Vec::new(),
    })
}

impl Combination<'_> {
    async fn turn(&mut self, options: &Options, environment: &Environment) -> Result<()> {
        let create = self.serve(environment, CREATE).await?;
        let orders = create.storage.count(&create.database).await?;
        let sample_of_creates = sample(options, environment, &create, GOAL_CONNECTIONS).await?;
        self.creates.push(sample_of_creates);
        if let Some(statements) = self.statements(&create).await? {
            let created = create.storage.count(&create.database).await? - orders;
            self.statements
                .push(statements as f64 / created.max(1) as f64);
        }
        drop(create);
        let replay = self.serve(environment, REPLAY).await?;
        let sample_of_replays = sample(options, environment, &replay, GOAL_CONNECTIONS).await?;
        self.replays.push(sample_of_replays);
        Ok(())
    }

    async fn serve(&self, environment: &Environment, row: &str) -> Result<PreparedRow> {
        let row: Row = row_named(row).context("there is no such row")?;
        let app = environment.serve_with(self.host, Component::Ours, &self.storage, |command| {
            let flags = &self.flags;
            command
                .env("RUNNER_COUNT_CALLS", "true")
                .arg("--max-instance-reuse-count")
                .arg(flags.reuse_count.to_string())
                .arg("--max-instance-concurrent-reuse-count")
                .arg(flags.concurrent_reuse_count.to_string())
                .arg("--idle-instance-timeout")
                .arg(&flags.idle_timeout);
        })?;
        Ok(PreparedRow {
            row,
            host: Some(self.host.clone()),
            requests: Requests::default(),
            app: Some(app),
            database: self.storage.database().await?,
            storage: self.storage.clone(),
        })
    }

    /// The SQL statements that the host has sent since its start. Only the runner counts them.
    async fn statements(&self, row: &PreparedRow) -> Result<Option<u64>> {
        let (Host::Runner(_), Some(app)) = (self.host, &row.app) else {
            return Ok(None);
        };
        let url = format!("{}/.well-known/runner/calls", app.base_url());
        let response = reqwest::get(url).await?.text().await?;
        let calls: Calls =
            serde_json::from_str(&response).context("the runner does not return its counters")?;
        Ok(Some(calls.postgres_statements))
    }

    fn line(&self) -> Option<FlagLine> {
        Some(FlagLine {
            host: host_name(self.host),
            flags: self.flags.clone(),
            create: figures(&self.creates)?,
            statements_per_creation: median(self.statements.iter().copied()),
            replay: figures(&self.replays)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Calls {
    postgres_statements: u64,
}

fn figures(samples: &[Sample]) -> Option<FlagFigures> {
    Some(FlagFigures {
        rate: Spread::of(samples.iter().map(|sample| sample.rate))?,
        p50: median(samples.iter().map(|sample| sample.p50))?,
        p99: median(samples.iter().map(|sample| sample.p99))?,
        memory: median(
            samples
                .iter()
                .filter_map(|sample| sample.memory)
                .map(|bytes| bytes as f64),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_come_first_and_no_combination_twice() {
        let [first, rest @ ..] = &COMBINATIONS;
        assert_eq!(*first, DEFAULT);
        assert!(!rest.contains(first));
        for (index, combination) in rest.iter().enumerate() {
            assert!(!rest[..index].contains(combination), "{combination:?}");
        }
    }

    #[test]
    fn figures_are_medians_and_memory_is_optional() {
        let sample = |rate, memory| Sample {
            rate,
            refused: 0.0,
            p50: 10.0,
            p99: 20.0,
            processor: None,
            memory,
        };
        let known = figures(&[
            sample(1.0, Some(5)),
            sample(3.0, Some(7)),
            sample(9.0, None),
        ]);
        let known = known.expect("there are samples");
        assert_eq!((known.rate.median, known.memory), (3.0, Some(6.0)));
        assert!(figures(&[]).is_none());
    }
}
