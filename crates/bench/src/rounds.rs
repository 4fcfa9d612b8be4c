//! Rounds in which every row has its turn, and the checks that make their figures worth something.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use devstack::{App, Host};

use crate::contestants::{Contestant, ROWS, Row, Workload};
use crate::generator::{Run, output_of, wrk};
use crate::stage::{Entrant, Place, Stage, native};
use crate::{CONNECTIONS, GOAL_CONNECTIONS, Options, ROUNDS, cpu};

/// What one row gave with one number of connections.
pub struct Measurement {
    /// Which row.
    pub row: Row,
    /// On what; `None` where there is no host.
    pub host: Option<String>,
    /// How many connections.
    pub connections: usize,
    /// What each round gave.
    pub samples: Vec<Sample>,
}

/// What one round gave for one row.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Answers per second.
    pub rate: f64,
    /// Median latency, in microseconds.
    pub p50: f64,
    /// 99th percentile of latencies, in microseconds.
    pub p99: f64,
    /// Processor time per answer, where it can be had.
    pub processor: Option<Processor>,
}

/// Microseconds of processor time.
#[derive(Clone, Copy, Debug)]
pub struct Processor {
    /// The process that serves.
    pub host: f64,
    /// Redis.
    pub redis: f64,
    /// Postgres, all of its processes.
    pub postgres: f64,
    /// The load generator.
    pub generator: f64,
}

impl Measurement {
    /// Answers per second, round by round.
    pub fn rates(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.rate).collect()
    }

    /// Median latencies in microseconds, round by round.
    pub fn p50s(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.p50).collect()
    }
}

/// Measures all rows on all hosts.
pub async fn measure(options: &Options, stage: &Stage) -> Result<Vec<Measurement>> {
    eprintln!("Starting the contestants ...");
    let mut entrants = Vec::new();
    for row in ROWS {
        for (index, host) in options.hosts.iter().enumerate() {
            if index == 0 || matches!(row.contestant, Contestant::Component(_)) {
                let entrant = stage.enter(options, row, host).await;
                entrants.push(entrant.with_context(|| row.name)?);
            }
        }
    }
    eprintln!("Warming up ...");
    for entrant in &entrants {
        let warm_up = run(options, entrant, GOAL_CONNECTIONS, 1);
        warm_up.with_context(|| entrant.row.name)?;
    }
    let mut measurements = Vec::new();
    for connections in CONNECTIONS {
        let takes_part = |e: &&Entrant| e.row.runs_with(connections, options.quick);
        let field: Vec<&Entrant> = entrants.iter().filter(takes_part).collect();
        if field.is_empty() {
            continue;
        }
        measurements.extend(compare(options, stage, &field, connections).await?);
    }
    Ok(measurements)
}

/// What tables call our stand-in for Spin.
pub const RUNNER: &str = "runner";

/// What tables call a host.
fn label(host: &Host) -> String {
    match host {
        Host::Spin(version) => format!("Spin {version}"),
        Host::Runner(_) => RUNNER.to_owned(),
    }
}

/// Lets entrants take turns.
pub async fn compare(
    options: &Options,
    stage: &Stage,
    field: &[&Entrant],
    connections: usize,
) -> Result<Vec<Measurement>> {
    let mut measurements: Vec<Measurement> = field
        .iter()
        .map(|entrant| Measurement {
            row: entrant.row,
            host: entrant.host.as_ref().map(label),
            connections,
            samples: Vec::new(),
        })
        .collect();
    for round in 1..=ROUNDS {
        eprint!("{connections:4} connections, round {round} of {ROUNDS} ");
        for (entrant, measurement) in field.iter().zip(&mut measurements) {
            let sample = sample(options, stage, entrant, connections).await;
            let sample = sample.with_context(|| format!("{}, round {round}", entrant.row.name))?;
            measurement.samples.push(sample);
            eprint!(".");
        }
        eprintln!();
    }
    Ok(measurements)
}

async fn sample(
    options: &Options,
    stage: &Stage,
    entrant: &Entrant,
    connections: usize,
) -> Result<Sample> {
    let orders = Place::count(&entrant.database).await?;
    let mut expected = 0..=0;
    let lead_in = entrant.row.lead_in(connections);
    if lead_in > 0 {
        let run = run(options, entrant, connections, lead_in)?;
        expected = expected_orders(entrant.row, &run, connections);
    }
    let seconds = entrant.row.seconds(connections, options.quick);
    let before = readings(stage, entrant);
    let run = run(options, entrant, connections, seconds)?;
    let after = readings(stage, entrant);
    let added = settled_count(entrant).await?.saturating_sub(orders);
    let measured = expected_orders(entrant.row, &run, connections);
    let expected = expected.start() + measured.start()..=expected.end() + measured.end();
    ensure!(
        expected.contains(&added),
        "{added} orders were created where {expected:?} should have been: {run:?}"
    );
    Ok(Sample {
        rate: run.rate(),
        p50: run.p50 as f64,
        p99: run.p99 as f64,
        processor: spent(before, after, run.requests),
    })
}

fn run(options: &Options, entrant: &Entrant, connections: usize, seconds: u64) -> Result<Run> {
    match (&entrant.app, entrant.row.contestant) {
        (_, Contestant::Store(question)) => output_of(
            native(options, &entrant.place)
                .args(["floor", question])
                .args(["--connections", &connections.to_string()])
                .args(["--seconds", &seconds.to_string()]),
        ),
        (Some(app), _) => wrk(
            &options.wrk,
            &app.base_url(),
            entrant.row.workload,
            connections,
            seconds,
        ),
        (None, _) => anyhow::bail!("nothing serves it"),
    }
}

/// The count once nothing is added any more: requests whose client has gone are still carried out.
async fn settled_count(entrant: &Entrant) -> Result<u64> {
    let mut count = Place::count(&entrant.database).await?;
    loop {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let again = Place::count(&entrant.database).await?;
        if again == count {
            return Ok(count);
        }
        count = again;
    }
}

/// How many orders a run must have added. When it ends, each connection may have one in flight, whose fate
/// is open; one key more is drawn when the script is tried out.
fn expected_orders(row: Row, run: &Run, connections: usize) -> RangeInclusive<u64> {
    let open = connections as u64 + 1;
    match (row.contestant, row.workload) {
        (Contestant::Store("insert"), _) => run.requests..=run.requests,
        (Contestant::Store(_), _) | (_, Workload::Nothing | Workload::Replay) => 0..=0,
        (_, Workload::Create) => run.requests..=run.requests + open,
        (_, Workload::Mix) => run.keys.saturating_sub(open)..=run.keys,
    }
}

type Readings = [Option<Duration>; 4];

fn readings(stage: &Stage, entrant: &Entrant) -> Readings {
    let tree = |id: Option<u32>| cpu::of_tree(id?);
    [
        tree(entrant.app.as_ref().map(App::process_id)),
        tree(stage.redis.process_id()),
        tree(stage.postgres.process_id()),
        cpu::of_ended_children(),
    ]
}

fn spent(before: Readings, after: Readings, requests: u64) -> Option<Processor> {
    let per_request = |before: Option<Duration>, after: Option<Duration>| {
        let spent = after?.saturating_sub(before?);
        Some(spent.as_secs_f64() * 1e6 / requests.max(1) as f64)
    };
    let [host, redis, postgres, generator] = before;
    let [host_after, redis_after, postgres_after, generator_after] = after;
    Some(Processor {
        host: per_request(host, host_after).unwrap_or_default(),
        redis: per_request(redis, redis_after)?,
        postgres: per_request(postgres, postgres_after)?,
        generator: per_request(generator, generator_after)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_of(requests: u64, keys: u64) -> Run {
        Run {
            requests,
            microseconds: 1,
            p50: 1,
            p99: 1,
            errors: 0,
            keys,
        }
    }

    #[test]
    fn every_answered_order_must_be_there_and_none_that_was_not_asked_for() {
        let row = |name: &str| ROWS.into_iter().find(|row| row.name == name).unwrap();
        let orders = |name, run: &Run| expected_orders(row(name), run, 4);
        assert_eq!(orders("create", &run_of(100, 105)), 100..=105);
        assert_eq!(orders("naive create", &run_of(100, 105)), 100..=105);
        assert_eq!(orders("mix", &run_of(100, 98)), 93..=98);
        assert_eq!(orders("replay", &run_of(100, 0)), 0..=0);
        assert_eq!(orders("floor", &run_of(100, 0)), 0..=0);
        assert_eq!(orders("store insert", &run_of(100, 0)), 100..=100);
        assert_eq!(orders("store reserve", &run_of(100, 0)), 0..=0);
    }
}
