//! Measures the component: against the floor of its host and of the stores, against a component as one would
//! write it first, and against native services with its protocol and with its ancestors'. All on one machine,
//! in one run, in turns, so that whatever else the machine does meets all alike.

mod chart;
mod contestants;
mod cpu;
mod crowd;
mod generator;
mod goals;
mod guest;
mod large;
mod report;
mod rounds;
mod sizes;
mod stage;
mod statistics;

use std::path::PathBuf;

use anyhow::{Context, Result};
use devstack::{Host, Programs};

use crate::report::Machine;
use crate::stage::Stage;

pub use chart::draw;
pub use report::Report;

/// What is compared at, in clients that keep their connection.
const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];

/// What most goals are set for.
const GOAL_CONNECTIONS: usize = 64;

/// Each figure is the median over so many rounds.
const ROUNDS: usize = 5;

/// How many orders and keys creations must not become slow beside.
pub const STORED_ORDERS: u64 = 5_000_000;

/// How to measure.
pub struct Options {
    /// Redis and Postgres.
    pub programs: Programs,
    /// The load generator.
    pub wrk: PathBuf,
    /// The native contestants.
    pub native: PathBuf,
    /// The hosts to measure on; the first is the one that goals are held against.
    pub hosts: Vec<Host>,
    /// Less of everything, in at most three minutes.
    pub quick: bool,
    /// How many orders and keys to measure creations beside; `None` leaves that out.
    pub stored_orders: Option<u64>,
}

/// Measures everything. Servers' and hosts' data and logs are in `.stack/bench-<pid>`, removed at the end.
///
/// # Errors
/// Whatever makes a figure worthless: an answer that is no success, a count of orders that does not fit.
pub async fn run(options: &Options) -> Result<Report> {
    devstack::process::raise_file_limit();
    let machine = Machine::idle();
    let stage = Stage::set(&options.programs).await?;
    let report = measure(options, &stage, machine).await;
    let logs = stage.folder().display().to_string();
    let report = report.with_context(|| format!("the logs are in {logs}"))?;
    stage.clear()?;
    Ok(report)
}

async fn measure(options: &Options, stage: &Stage, machine: Machine) -> Result<Report> {
    let rounds = rounds::measure(options, stage).await?;
    eprintln!("Measuring what is not a row ...");
    let guests = guest::measure(options, stage).await?;
    let goals = goals::measure(options, stage, &rounds, &guests).await?;
    let lines = report::lines(&rounds, &guests);
    Ok(Report::new(machine, options.quick, lines, goals))
}
