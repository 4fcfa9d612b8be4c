//! `cargo xtask bench`: builds the component and everything it is compared with, and measures.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use bench::{Options, Report, STORED_ORDERS};
use devstack::{Host, Programs, install, workspace};

#[derive(clap::Args)]
pub struct Arguments {
    /// Measure less of everything, in at most three minutes after the builds.
    #[arg(long)]
    quick: bool,
    /// Write the figures to a file, and a chart of them beside it (.svg).
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How many orders and keys to measure creations beside, 0 for none; 5 million unless --quick.
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
    workspace::build_component()?;
    workspace::build_for_wasm(&["contestant-floor", "contestant-naive"])?;
    workspace::build_optimised(&["runner", "contestant-native"])?;
    let runner = Host::Runner(workspace::optimised("runner"));
    let default_orders = if arguments.quick { 0 } else { STORED_ORDERS };
    let start = Instant::now();
    let report = bench::run(&Options {
        programs,
        wrk,
        native: workspace::optimised("contestant-native"),
        hosts: [runner].into_iter().chain(Host::spin()).collect(),
        quick: arguments.quick,
        stored_orders: Some(arguments.orders.unwrap_or(default_orders)).filter(|n| *n > 0),
    })
    .await?;
    println!("{report}");
    eprintln!("Measured in {} s.", start.elapsed().as_secs());
    match &arguments.json {
        Some(file) => write(&report, file),
        None => Ok(()),
    }
}

fn write(report: &Report, file: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    std::fs::write(file, json + "\n").with_context(|| format!("writing {}", file.display()))?;
    bench::draw(report, &file.with_extension("svg"))
}
