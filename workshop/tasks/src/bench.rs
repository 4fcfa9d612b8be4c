//! `cargo xtask bench`: builds the component and all contestants, and measures them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use bench::{MOST_ORDERS, Options, STORED_ORDERS};
use devstack::{Host, Programs, install, workspace};
use serde::Serialize;

#[derive(clap::Args)]
pub struct Arguments {
    /// Measure fewer rows, for about three minutes on one host after the builds.
    #[arg(long)]
    quick: bool,
    /// Compare values of Spin's flags for the reuse of instances instead of contestants (8 minutes for each
    /// host, 2 with --quick).
    #[arg(long, conflicts_with = "orders")]
    flags: bool,
    /// Compare the runner's switches with the host as Spin is instead of contestants (8 minutes, 6 with --quick).
    #[arg(long, conflicts_with_all = ["orders", "flags"])]
    switches: bool,
    /// Compare the component with another build of it instead of contestants; may be given more than once.
    #[arg(long, value_name = "WASM", conflicts_with_all = ["orders", "flags", "switches"])]
    against: Vec<PathBuf>,
    /// Measure how cost grows with clients, stored orders, bytes of an order and one customer's orders instead of
    /// contestants, on Spin where it is on PATH (20 minutes, and 7 more to store 50 million orders).
    #[arg(long, conflicts_with_all = ["flags", "switches", "against"])]
    growth: bool,
    /// Write the figures to a file; of contestants and of growth, also a chart to the same path with the extension
    /// .svg.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The number of stored orders and keys to measure creation with, 0 to leave this out; by default
    /// 5 million, 50 million with --growth, and 0 and 5 million with --quick.
    #[arg(long, value_name = "NUMBER")]
    orders: Option<u64>,
    /// Fail rather than install a missing Redis, Postgres or wrk with apt.
    #[arg(long)]
    no_install: bool,
}

pub async fn bench(arguments: Arguments) -> Result<()> {
    workspace::ensure_wasm_target()?;
    let may_install = !arguments.no_install;
    let programs = Programs::find_or_install(may_install)?;
    let wrk = install::find_or_install_wrk(may_install)?;
    workspace::build_components()?;
    if arguments.growth {
        workspace::build_for_wasm(workspace::Workspace::Workshop, &["contestant-floor"])?;
        workspace::build_optimised(&["runner"])?;
    } else if arguments.flags || arguments.switches || !arguments.against.is_empty() {
        workspace::build_optimised(&["runner"])?;
    } else {
        workspace::build_for_wasm(
            workspace::Workspace::Workshop,
            &["contestant-bare", "contestant-floor", "contestant-naive"],
        )?;
        workspace::build_optimised(&["runner", "contestant-native"])?;
    }
    let runner = Host::Runner(workspace::optimised("runner"));
    let default_orders = match (arguments.growth, arguments.quick) {
        (true, false) => MOST_ORDERS,
        (true, true) | (false, false) => STORED_ORDERS,
        (false, true) => 0,
    };
    let start = Instant::now();
    let options = Options {
        programs,
        wrk,
        native: workspace::optimised("contestant-native"),
        hosts: [runner].into_iter().chain(Host::spin()).collect(),
        quick: arguments.quick,
        stored_orders: Some(arguments.orders.unwrap_or(default_orders)).filter(|n| *n > 0),
    };
    let file = arguments.json.as_deref();
    if arguments.switches || !arguments.against.is_empty() {
        let report = match arguments.switches {
            true => bench::run_switches(&options).await?,
            false => bench::run_against(&options, &arguments.against).await?,
        };
        println!("{report}");
        if let Some(file) = file {
            write(&report, file)?;
        }
    } else if arguments.growth {
        let report = bench::run_growth(&options).await?;
        println!("{report}");
        if let Some(file) = file {
            write(&report, file)?;
            bench::draw_growth(&report, &file.with_extension("svg"))?;
        }
    } else if arguments.flags {
        let report = bench::run_flags(&options).await?;
        println!("{report}");
        if let Some(file) = file {
            write(&report, file)?;
        }
    } else {
        let report = bench::run(&options).await?;
        println!("{report}");
        if let Some(file) = file {
            write(&report, file)?;
            bench::draw(&report, &file.with_extension("svg"))?;
        }
    }
    eprintln!("Measured in {} s.", start.elapsed().as_secs());
    Ok(())
}

fn write(report: &impl Serialize, file: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    std::fs::write(file, json + "\n").with_context(|| format!("writing {}", file.display()))
}
