//! `cargo xtask bench`: builds the component and the contestants, and measures them: the floor of a host, a component
//! that only makes the same host calls (bare), a naive component, and a native service. All contestants run on one
//! machine in one run and take turns, so that other load on the machine affects all of them alike.

mod chart;
mod contestants;
mod environment;
mod figures;
mod goals;
mod growth;
mod load;
mod processes;
mod rounds;
mod stored_orders;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use devstack::workspace::{self, Workspace};
use devstack::{Host, Programs, install};

use crate::environment::{Environment, Options, host_name};
use crate::figures::{Grows, Line, Machine, Measurement, Report};
use crate::goals::Goal;
use crate::rounds::ROUNDS;

/// The most stored orders of the growth run by default, and those of a quick one.
const MOST_ORDERS: u64 = 50_000_000;
const QUICK_ORDERS: u64 = 5_000_000;

/// Measure the component against its host's floor, a bare and a naive component and a native service.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Arguments {
    /// Measure fewer rows, for about three minutes on one host after the builds.
    #[arg(long)]
    quick: bool,
    /// Measure how cost grows with clients, stored orders, bytes of an order and one customer's orders instead of
    /// contestants, on Spin where it is on PATH (20 minutes, and 7 more to store 50 million orders).
    #[arg(long)]
    growth: bool,
    /// Measure creation by 64, by 1,024 and by 4 clients while busy loops on all cores take processor time away.
    #[arg(long, conflicts_with = "growth")]
    overload: bool,
    /// Write the figures to a file, and a chart to the same path with the extension .svg.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The most stored orders that --growth measures creation with, 0 to leave this out; by default 50 million, and
    /// 5 million with --quick. Without --growth, nothing is stored in advance.
    #[arg(long, value_name = "NUMBER")]
    orders: Option<u64>,
    /// Fail rather than install a missing Redis, Postgres or wrk with apt.
    #[arg(long)]
    no_install: bool,
}

// Children are tied to the thread that starts them, so everything stays on this one.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    devstack::exit_code(run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<()> {
    let options = prepare(&arguments)?;
    let start = Instant::now();
    devstack::process::raise_file_limit();
    let machine = Machine::this();
    let environment = Environment::start(options).await?;
    let measured = measure(&environment, &arguments).await;
    let (lines, goals, order_bytes) = environment.finish(measured)?;
    let report = Report { machine, quick: arguments.quick, rounds: ROUNDS, lines, goals, order_bytes };
    println!("{report}");
    if let Some(file) = arguments.json.as_deref() {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(file, json + "\n").with_context(|| format!("writing {}", file.display()))?;
        chart::draw(&report, &file.with_extension("svg"))?;
    }
    eprintln!("Measured in {} s.", start.elapsed().as_secs());
    Ok(())
}

/// Installs and builds what is measured.
fn prepare(arguments: &Arguments) -> Result<Options> {
    workspace::ensure_wasm_target()?;
    let may_install = !arguments.no_install;
    let programs = Programs::find_or_install(may_install)?;
    let wrk = install::find_or_install_wrk(may_install)?;
    workspace::build_components()?;
    if arguments.growth || arguments.overload {
        workspace::build_for_wasm(Workspace::Workshop, &["contestant-floor"])?;
        workspace::build_optimised(&["runner"])?;
    } else {
        let components = ["contestant-bare", "contestant-floor", "contestant-naive"];
        workspace::build_for_wasm(Workspace::Workshop, &components)?;
        workspace::build_optimised(&["runner", "contestant-native"])?;
    }
    let most_orders = if arguments.quick { QUICK_ORDERS } else { MOST_ORDERS };
    let runner = Host::Runner(workspace::optimised("runner"));
    Ok(Options {
        programs,
        wrk,
        native: workspace::optimised("contestant-native"),
        hosts: [runner].into_iter().chain(Host::spin()).collect(),
        quick: arguments.quick,
        stored_orders: Some(arguments.orders.unwrap_or(most_orders)).filter(|n| *n > 0),
    })
}

/// Measures all rows, evaluates the goals, which only the main table has, and the bytes of an order with `--growth`.
///
/// # Errors
/// If a figure would be worthless: a response is not a success, or the number of stored orders does not fit
/// the number of responses.
async fn measure(environment: &Environment, arguments: &Arguments) -> Result<(Vec<Line>, Vec<Goal>, Option<f64>)> {
    if arguments.overload {
        return Ok((growth::under_overload(environment).await?, Vec::new(), None));
    }
    if arguments.growth {
        let (lines, order_bytes) = growth::measure(environment).await?;
        return Ok((lines, Vec::new(), Some(order_bytes)));
    }
    let facts = environment.facts().await?;
    let hosts: Vec<String> = environment.options.hosts.iter().map(host_name).collect();
    let rounds = rounds::measure(environment).await?;
    let line = |row: &Measurement| row.line(Grows::Clients, row.connections as u64, &rounds);
    let lines = rounds.iter().filter_map(line).collect();
    Ok((lines, goals::judge(&hosts, &rounds, &facts), None))
}
