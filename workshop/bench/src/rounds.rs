//! Measures the rows in rounds: in each round every row has one turn. Checks after each turn that the number
//! of stored orders fits the number of responses.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::contestants::{CONNECTIONS, GOAL_CONNECTIONS, ROWS, Row, Workload};
use crate::environment::{Environment, PreparedRow};
use crate::figures::{Measurement, ProcessorTime, Sample};
use crate::load::{self, Run};
use crate::processes;

/// Each figure is the median over this number of rounds.
pub const ROUNDS: usize = 5;

/// Measures all rows on all hosts.
pub async fn measure(environment: &Environment) -> Result<Vec<Measurement>> {
    eprintln!("Starting the contestants ...");
    let options = &environment.options;
    let mut prepared = Vec::new();
    for row in ROWS {
        for (index, host) in options.hosts.iter().enumerate() {
            if index == 0 || row.contestant.manifest().is_some() {
                let row_on_host = environment.prepare(row, host).await;
                prepared.push(row_on_host.with_context(|| row.name)?);
            }
        }
    }
    warm_up(environment, &prepared)?;
    let mut measurements = Vec::new();
    for connections in CONNECTIONS {
        let rows: Vec<&PreparedRow> =
            prepared.iter().filter(|prepared| prepared.row.runs_with(connections, options.quick)).collect();
        if !rows.is_empty() {
            measurements.extend(compare(environment, &rows, connections).await?);
        }
    }
    Ok(measurements)
}

/// Loads each contestant once.
pub fn warm_up(environment: &Environment, prepared: &[PreparedRow]) -> Result<()> {
    eprintln!("Loading each contestant once before the rounds ...");
    for row in prepared {
        let warm_up = run(environment, row, GOAL_CONNECTIONS, 1);
        warm_up.with_context(|| row.row.name)?;
    }
    Ok(())
}

/// Measures rows with a number of clients; they take turns.
pub async fn compare(environment: &Environment, rows: &[&PreparedRow], connections: usize) -> Result<Vec<Measurement>> {
    let mut measurements: Vec<Measurement> = rows
        .iter()
        .map(|row| Measurement { row: row.row, host: row.host.clone(), connections, samples: Vec::new() })
        .collect();
    for round in 1..=ROUNDS {
        eprint!("{connections:4} clients, round {round} of {ROUNDS} ");
        for (row, measurement) in rows.iter().zip(&mut measurements) {
            let sample = sample(environment, row, connections).await;
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
async fn sample(environment: &Environment, prepared: &PreparedRow, connections: usize) -> Result<Sample> {
    let row = prepared.row;
    let orders = prepared.storage.count(&prepared.database).await?;
    let mut expected = 0..=0;
    let lead_in = row.lead_in(connections);
    if lead_in > 0 {
        let run = run(environment, prepared, connections, lead_in)?;
        expected = expected_orders(row, &run, connections);
    }
    let seconds = row.seconds(connections, environment.options.quick);
    let before = processor_times(environment, prepared);
    let run = run(environment, prepared, connections, seconds)?;
    let after = processor_times(environment, prepared);
    let added = settled_count(prepared).await?.saturating_sub(orders);
    let measured = expected_orders(row, &run, connections);
    let expected = expected.start() + measured.start()..=expected.end() + measured.end();
    ensure!(expected.contains(&added), "{added} orders were stored, but {expected:?} were expected: {run:?}");
    Ok(Sample {
        rate: run.rate(),
        refused: run.errors as f64 / run.requests as f64,
        stalls: run.stalls as f64 / run.requests as f64,
        p50: run.p50 as f64,
        p99: run.p99 as f64,
        p99_no_stalls: run.p99_no_stalls as f64,
        processor: per_response(before, after, run.requests),
    })
}

fn run(environment: &Environment, prepared: &PreparedRow, connections: usize, seconds: u64) -> Result<Run> {
    let (url, workload) = (prepared.app.base_url(), prepared.row.workload);
    let wrk = &environment.options.wrk;
    load::send(wrk, &url, workload, &prepared.requests, connections, seconds)
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
    match row.workload {
        Workload::Nothing | Workload::Replay | Workload::List => 0..=0,
        Workload::Create => run.requests.saturating_sub(run.errors)..=run.requests + in_flight,
        Workload::Mix => run.keys.saturating_sub(in_flight)..=run.keys,
    }
}

/// As in [`ProcessorTime`].
type ProcessorTimes = Option<[Duration; 5]>;

fn processor_times(environment: &Environment, prepared: &PreparedRow) -> ProcessorTimes {
    let [user, system] = processes::processor_time_of_tree(prepared.app.process_id())?;
    let all = |process| processes::processor_time_of_tree(process).map(|times| times.iter().sum());
    Some([
        user,
        system,
        all(environment.redis.process_id()?)?,
        all(environment.postgres.process_id()?)?,
        processes::processor_time_of_ended_children()?,
    ])
}

fn per_response(before: ProcessorTimes, after: ProcessorTimes, responses: u64) -> Option<ProcessorTime> {
    let spent = before?.into_iter().zip(after?);
    let spent = spent.map(|(before, after)| after.saturating_sub(before).as_secs_f64());
    let each: Vec<f64> = spent.map(|s| s * 1e6 / responses.max(1) as f64).collect();
    each.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestants::{CREATE, FLOOR, MIX, REPLAY};

    #[test]
    fn every_acknowledged_order_is_stored_and_no_order_that_was_not_sent() {
        let orders = |row, keys, errors| {
            let run = Run { requests: 100, microseconds: 1, p50: 1, p99: 1, p99_no_stalls: 1, stalls: 0, errors, keys };
            expected_orders(row, &run, 4)
        };
        assert_eq!(orders(CREATE, 105, 0), 100..=105);
        assert_eq!(orders(CREATE, 105, 3), 97..=105);
        assert_eq!(orders(MIX, 98, 0), 93..=98);
        assert_eq!(orders(REPLAY, 0, 0), 0..=0);
        assert_eq!(orders(FLOOR, 0, 0), 0..=0);
    }
}
