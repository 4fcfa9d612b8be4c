//! Measures the rows in rounds: in each round every row has one turn. Checks after each turn that the number
//! of stored orders fits the number of responses.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use devstack::App;

use crate::contestants::{Contestant, ROWS, Row, Workload};
use crate::environment::{Environment, PreparedRow, native};
use crate::figures::{Measurement, ProcessorTime, Sample};
use crate::generator::{Run, output_of, wrk};
use crate::options::{CONNECTIONS, GOAL_CONNECTIONS, Options, ROUNDS, host_name};
use crate::processes;

/// Measures all rows on all hosts.
pub async fn measure(options: &Options, environment: &Environment) -> Result<Vec<Measurement>> {
    eprintln!("Starting the contestants ...");
    let mut prepared = Vec::new();
    for row in ROWS {
        for (index, host) in options.hosts.iter().enumerate() {
            if index == 0 || matches!(row.contestant, Contestant::Component(_)) {
                let row_on_host = environment.prepare(options, row, host).await;
                prepared.push(row_on_host.with_context(|| row.name)?);
            }
        }
    }
    warm_up(options, &prepared)?;
    let mut measurements = Vec::new();
    for connections in CONNECTIONS {
        let takes_part = |row: &&PreparedRow| row.row.runs_with(connections, options.quick);
        let rows: Vec<&PreparedRow> = prepared.iter().filter(takes_part).collect();
        if rows.is_empty() {
            continue;
        }
        measurements.extend(compare(options, environment, &rows, connections).await?);
    }
    Ok(measurements)
}

/// Loads each contestant once.
pub fn warm_up(options: &Options, prepared: &[PreparedRow]) -> Result<()> {
    eprintln!("Loading each contestant once before the rounds ...");
    for row in prepared {
        let warm_up = run(options, row, GOAL_CONNECTIONS, 1);
        warm_up.with_context(|| row.row.name)?;
    }
    Ok(())
}

/// Measures rows with a number of clients; they take turns.
pub async fn compare(
    options: &Options,
    environment: &Environment,
    rows: &[&PreparedRow],
    connections: usize,
) -> Result<Vec<Measurement>> {
    let mut measurements: Vec<Measurement> = rows
        .iter()
        .map(|row| Measurement {
            row: row.row,
            host: row.host.as_ref().map(host_name),
            connections,
            samples: Vec::new(),
        })
        .collect();
    for round in 1..=ROUNDS {
        eprint!("{connections:4} clients, round {round} of {ROUNDS} ");
        for (row, measurement) in rows.iter().zip(&mut measurements) {
            let sample = sample(options, environment, row, connections).await;
            let sample = sample.with_context(|| format!("{}, round {round}", row.row.name))?;
            measurement.samples.push(sample);
            eprint!(".");
        }
        eprintln!();
    }
    Ok(measurements)
}

/// Measures one turn of a row.
///
/// # Errors
/// If a response is not a success, or the number of orders that were stored does not fit the number of
/// responses.
pub async fn sample(
    options: &Options,
    environment: &Environment,
    prepared: &PreparedRow,
    connections: usize,
) -> Result<Sample> {
    let orders = prepared.storage.count(&prepared.database).await?;
    let mut expected = 0..=0;
    let lead_in = prepared.row.lead_in(connections);
    if lead_in > 0 {
        let run = run(options, prepared, connections, lead_in)?;
        expected = expected_orders(prepared.row, &run, connections);
    }
    let seconds = prepared.row.seconds(connections, options.quick);
    let before = processor_times(environment, prepared);
    let run = run(options, prepared, connections, seconds)?;
    let after = processor_times(environment, prepared);
    let memory = prepared.app.as_ref().map(App::process_id);
    let memory = memory.and_then(processes::memory_of_tree);
    let added = settled_count(prepared).await?.saturating_sub(orders);
    let measured = expected_orders(prepared.row, &run, connections);
    let expected = expected.start() + measured.start()..=expected.end() + measured.end();
    ensure!(
        expected.contains(&added),
        "{added} orders were stored, but {expected:?} were expected: {run:?}"
    );
    Ok(Sample {
        rate: run.rate(),
        refused: run.errors as f64 / run.requests as f64,
        p50: run.p50 as f64,
        p99: run.p99 as f64,
        processor: per_response(before, after, run.requests),
        memory,
    })
}

fn run(options: &Options, prepared: &PreparedRow, connections: usize, seconds: u64) -> Result<Run> {
    match (&prepared.app, prepared.row.contestant) {
        (_, Contestant::Store(command)) => output_of(
            native(options, &prepared.storage)
                .args(["floor", command])
                .args(["--connections", &connections.to_string()])
                .args(["--seconds", &seconds.to_string()]),
        ),
        (Some(app), _) => wrk(
            &options.wrk,
            &app.base_url(),
            prepared.row.workload,
            &prepared.requests,
            connections,
            seconds,
        ),
        (None, _) => anyhow::bail!("no process serves this row"),
    }
}

/// The number of stored orders once it no longer grows: a host completes requests whose client has gone.
async fn settled_count(prepared: &PreparedRow) -> Result<u64> {
    let mut count = prepared.storage.count(&prepared.database).await?;
    loop {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let again = prepared.storage.count(&prepared.database).await?;
        if again == count {
            return Ok(count);
        }
        count = again;
    }
}

/// The number of orders that a run must have stored. At its end each connection may have one request in flight
/// whose order is stored or not; wrk draws one more key when it tests the script.
fn expected_orders(row: Row, run: &Run, connections: usize) -> RangeInclusive<u64> {
    let in_flight = connections as u64 + 1;
    match (row.contestant, row.workload) {
        (Contestant::Store("insert"), _) => run.requests..=run.requests,
        (Contestant::Store(_), _) | (_, Workload::Nothing | Workload::Replay | Workload::List) => {
            0..=0
        }
        (_, Workload::Create) => run.requests.saturating_sub(run.errors)..=run.requests + in_flight,
        (_, Workload::Mix) => run.keys.saturating_sub(in_flight)..=run.keys,
    }
}

/// Of host, Redis, Postgres and load generator.
type ProcessorTimes = [Option<Duration>; 4];

fn processor_times(environment: &Environment, prepared: &PreparedRow) -> ProcessorTimes {
    let tree = |id: Option<u32>| processes::processor_time_of_tree(id?);
    [
        tree(prepared.app.as_ref().map(App::process_id)),
        tree(environment.redis.process_id()),
        tree(environment.postgres.process_id()),
        processes::processor_time_of_ended_children(),
    ]
}

fn per_response(
    before: ProcessorTimes,
    after: ProcessorTimes,
    responses: u64,
) -> Option<ProcessorTime> {
    let each = |before: Option<Duration>, after: Option<Duration>| {
        let spent = after?.saturating_sub(before?);
        Some(spent.as_secs_f64() * 1e6 / responses.max(1) as f64)
    };
    let [host, redis, postgres, generator] = before;
    let [host_after, redis_after, postgres_after, generator_after] = after;
    Some(ProcessorTime {
        host: each(host, host_after).unwrap_or_default(),
        redis: each(redis, redis_after)?,
        postgres: each(postgres, postgres_after)?,
        generator: each(generator, generator_after)?,
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
    fn every_acknowledged_order_is_stored_and_no_order_that_was_not_sent() {
        let row = |name: &str| crate::contestants::row_named(name).unwrap();
        let orders = |name, run: &Run| expected_orders(row(name), run, 4);
        assert_eq!(orders("create", &run_of(100, 105)), 100..=105);
        assert_eq!(orders("bare create", &run_of(100, 105)), 100..=105);
        assert_eq!(orders("bare replay", &run_of(100, 0)), 0..=0);
        assert_eq!(orders("naive create", &run_of(100, 105)), 100..=105);
        assert_eq!(orders("mix", &run_of(100, 98)), 93..=98);
        assert_eq!(orders("replay", &run_of(100, 0)), 0..=0);
        assert_eq!(orders("floor", &run_of(100, 0)), 0..=0);
        assert_eq!(orders("store insert", &run_of(100, 0)), 100..=100);
        assert_eq!(orders("store reserve", &run_of(100, 0)), 0..=0);
    }
}
