//! Measures the component and compares it with: the floor of its host, a component that only makes the same
//! host calls (bare), a naive component, native services, and the stores alone. All contestants run on one
//! machine in one run and take turns, so that other load on the machine affects all of them alike.

mod chart;
mod contestants;
mod environment;
mod figures;
mod flags;
mod generator;
mod goals;
mod growth;
mod guest_share;
mod options;
mod overload;
mod print;
mod processes;
mod report;
mod rounds;
mod sizes;
mod statistics;
mod stored_orders;
mod variants;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::environment::Environment;
use crate::figures::Machine;
use crate::goals::Measured;

pub use chart::{draw, draw_growth};
pub use figures::{FlagReport, Report};
pub use growth::{GrowthReport, MOST_ORDERS};
pub use options::{Options, STORED_ORDERS};
pub use variants::VariantReport;

/// Measures all rows and goals. Data and logs are in `.stack/bench-<pid>`, which is removed at the end.
///
/// # Errors
/// If a figure would be worthless: a response is not a success, or the number of stored orders does not fit
/// the number of responses.
pub async fn run(options: &Options) -> Result<Report> {
    let machine = report::machine();
    let environment = start(options).await?;
    let report = measure(options, &environment, machine).await;
    finish(environment, report)
}

/// Measures creations and replays with each combination of Spin's flags for the reuse of instances.
///
/// # Errors
/// As [`run`].
pub async fn run_flags(options: &Options) -> Result<FlagReport> {
    let machine = report::machine();
    let environment = start(options).await?;
    let report = flags::measure(options, &environment, machine).await;
    finish(environment, report)
}

/// Measures creations and replays with each of the runner's switches.
///
/// # Errors
/// As [`run`].
pub async fn run_switches(options: &Options) -> Result<VariantReport> {
    let machine = report::machine();
    let environment = start(options).await?;
    let report = variants::switches(options, &environment, machine).await;
    finish(environment, report)
}

/// Measures creations and replays of the component against other builds of it.
///
/// # Errors
/// As [`run`].
pub async fn run_against(options: &Options, builds: &[PathBuf]) -> Result<VariantReport> {
    let machine = report::machine();
    let environment = start(options).await?;
    let report = variants::against(options, &environment, machine, builds).await;
    finish(environment, report)
}

/// Measures how cost grows with clients, stored orders, bytes of an order and one customer's orders.
///
/// # Errors
/// As [`run`].
pub async fn run_growth(options: &Options) -> Result<GrowthReport> {
    let machine = report::machine();
    let environment = start(options).await?;
    let report = growth::measure(options, &environment, machine).await;
    finish(environment, report)
}

async fn start(options: &Options) -> Result<Environment> {
    devstack::process::raise_file_limit();
    Environment::start(&options.programs).await
}

/// Keeps the logs if the run failed.
fn finish<T>(environment: Environment, report: Result<T>) -> Result<T> {
    let logs = environment.folder().display().to_string();
    let report = report.with_context(|| format!("the logs are in {logs}"))?;
    environment.remove()?;
    Ok(report)
}

async fn measure(options: &Options, environment: &Environment, machine: Machine) -> Result<Report> {
    let rounds = rounds::measure(options, environment).await?;
    eprintln!("Measuring guest shares, overload, stored orders and sizes ...");
    let guests = guest_share::measure(options, environment).await?;
    let goals = goals::judge(&Measured {
        hosts: options.hosts.iter().map(options::host_name).collect(),
        rounds: &rounds,
        guests: &guests,
        unanswered: overload::unanswered(options, environment).await?,
        stored_orders: options.stored_orders.unwrap_or(STORED_ORDERS),
        slowdown: stored_orders::slowdown(options, environment).await?,
        sizes: sizes::measure(options, environment).await?,
    });
    let lines = report::lines(&rounds, &guests);
    Ok(report::new(machine, options.quick, lines, goals))
}
