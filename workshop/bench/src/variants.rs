//! Measures variants of the host or of the component in turns: the runner's switches, each against the host as Spin is, and
//! another build of the component against the current one.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use devstack::{Host, workspace};
use serde::{Deserialize, Serialize};

use crate::contestants::{CREATE, Component, REPLAY, row_named};
use crate::environment::{Environment, PreparedRow, complete_replayed_keys};
use crate::figures::{Machine, Measurement, Sample};
use crate::generator::Requests;
use crate::options::{GOAL_CONNECTIONS, Options, ROUNDS};
use crate::rounds::{compare, warm_up};
use crate::statistics::{Spread, median, median_ratio};

/// The numbers of clients.
const CLIENTS: [usize; 2] = [1, GOAL_CONNECTIONS];

/// The runner's switches, by the name in the table: arguments, and the number of tokio's threads where that is set.
const SWITCHES: [(&str, &[&str], Option<&str>); 7] = [
    ("as Spin", &[], None),
    ("typed", &["--postgres-statements", "typed"], None),
    (
        "prepared once",
        &["--postgres-statements", "prepared-once"],
        None,
    ),
    ("asked at once", &["--instances-asked", "at-once"], None),
    ("TCP_NODELAY", &["--tcp-nodelay"], None),
    ("one thread", &[], Some("1")),
    (
        "all but one thread",
        &[
            "--postgres-statements",
            "prepared-once",
            "--instances-asked",
            "at-once",
            "--tcp-nodelay",
        ],
        None,
    ),
];

/// A host and a component that take turns with others. The first one is what the others are compared with.
struct Variant {
    name: String,
    manifest: PathBuf,
    arguments: &'static [&'static str],
    threads: Option<&'static str>,
}

/// The result of `cargo xtask bench --switches` and `--against`.
#[derive(Debug, Serialize, Deserialize)]
pub struct VariantReport {
    /// The machine.
    pub machine: Machine,
    /// The number of rounds that each figure is the median of.
    pub rounds: usize,
    /// One line for each number of clients, workload and variant.
    pub lines: Vec<VariantLine>,
}

/// What one variant reaches.
#[derive(Debug, Serialize, Deserialize)]
pub struct VariantLine {
    /// The number of clients.
    pub connections: usize,
    /// The row: create or replay.
    pub row: String,
    /// The variant.
    pub variant: String,
    /// Responses per second.
    pub rate: Spread,
    /// Its rate divided by that of the first variant, in the same round.
    pub to_first: f64,
    /// Median latency, in microseconds.
    pub p50: f64,
    /// 99th percentile of latencies, in microseconds.
    pub p99: f64,
    /// Microseconds of the host's processor time per response, and of Postgres's.
    pub processor: Option<(f64, f64)>,
}

/// Measures the runner's switches.
pub async fn switches(
    options: &Options,
    environment: &Environment,
    machine: Machine,
) -> Result<VariantReport> {
    let variants = SWITCHES.map(|(name, arguments, threads)| Variant {
        name: name.to_owned(),
        manifest: Component::Ours.manifest(),
        arguments,
        threads,
    });
    measure(options, environment, machine, &variants).await
}

/// Measures the current component against another build of it, on the same schema and with the same variables.
pub async fn against(
    options: &Options,
    environment: &Environment,
    machine: Machine,
    builds: &[PathBuf],
) -> Result<VariantReport> {
    let mut variants = vec![Variant {
        name: "current".to_owned(),
        manifest: Component::Ours.manifest(),
        arguments: &[],
        threads: None,
    }];
    for (index, build) in builds.iter().enumerate() {
        let manifest = environment.folder().join(format!("spin-{index}.toml"));
        write_manifest(&manifest, build)?;
        variants.push(Variant {
            name: build.display().to_string(),
            manifest,
            arguments: &[],
            threads: None,
        });
    }
    // The first one is what the current build is compared with.
    variants.rotate_left(1);
    measure(options, environment, machine, &variants).await
}

/// The application's manifest with another build of its component.
fn write_manifest(file: &Path, build: &Path) -> Result<()> {
    let build = build
        .canonicalize()
        .with_context(|| format!("there is no file {}", build.display()))?;
    let manifest = std::fs::read_to_string(Component::Ours.manifest())?;
    let ours = "target/wasm32-wasip2/release/orders.wasm";
    let root = workspace::root().display().to_string();
    let manifest = manifest
        .replace(ours, &build.display().to_string())
        .replace("\"target/", &format!("\"{root}/target/"));
    std::fs::write(file, manifest).with_context(|| format!("writing {}", file.display()))
}

async fn measure(
    options: &Options,
    environment: &Environment,
    machine: Machine,
    variants: &[Variant],
) -> Result<VariantReport> {
    let is_runner = |host: &&Host| matches!(host, Host::Runner(_));
    let host = options.hosts.iter().find(is_runner);
    let host = host.context("only the runner has variants")?;
    let mut prepared = Vec::new();
    for row in [CREATE, REPLAY] {
        for (index, variant) in variants.iter().enumerate() {
            let name = format!("{row} {index}");
            let row = variant.prepare(environment, host, row, &name).await;
            prepared.push(row.with_context(|| variant.name.clone())?);
        }
    }
    warm_up(options, &prepared)?;
    let rows: Vec<&PreparedRow> = prepared.iter().collect();
    let mut lines = Vec::new();
    for connections in CLIENTS {
        let measured = compare(options, environment, &rows, connections).await?;
        for of_row in measured.chunks(variants.len()) {
            let first = of_row.first().context("there is no variant")?;
            for (variant, measurement) in variants.iter().zip(of_row) {
                let line = line(&variant.name, measurement, first);
                lines.push(line.context("a variant has no sample")?);
            }
        }
    }
    Ok(VariantReport {
        machine,
        rounds: ROUNDS,
        lines,
    })
}

impl Variant {
    async fn prepare(
        &self,
        environment: &Environment,
        host: &Host,
        row: &str,
        name: &str,
    ) -> Result<PreparedRow> {
        let storage = environment.storage(name).await?;
        let app = environment.serve_manifest(host, &self.manifest, &storage, |command| {
            command.args(self.arguments);
            if let Some(threads) = self.threads {
                command.env("TOKIO_WORKER_THREADS", threads);
            }
        })?;
        let requests = Requests::default();
        if row == REPLAY {
            complete_replayed_keys(&app.base_url(), &requests).await?;
        }
        Ok(PreparedRow {
            row: row_named(row).context("there is no such row")?,
            host: Some(host.clone()),
            requests,
            app: Some(app),
            database: storage.database().await?,
            storage,
        })
    }
}

fn line(variant: &str, measurement: &Measurement, first: &Measurement) -> Option<VariantLine> {
    let rates = measurement.rates();
    let processor =
        |part: fn(&Sample) -> Option<f64>| median(measurement.samples.iter().filter_map(part));
    let host = processor(|sample| Some(sample.processor?.host));
    let postgres = processor(|sample| Some(sample.processor?.postgres));
    Some(VariantLine {
        connections: measurement.connections,
        row: measurement.row.name.to_owned(),
        variant: variant.to_owned(),
        rate: Spread::of(rates.iter().copied())?,
        to_first: median_ratio(&rates, &first.rates())?,
        p50: median(measurement.p50s())?,
        p99: median(measurement.p99s())?,
        processor: host.zip(postgres),
    })
}

impl fmt::Display for VariantReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "Each figure is the median of {} rounds; x first is the median of each round's ratio. host and pg: \
             microseconds of processor time per response.\n",
            self.rounds
        )?;
        writeln!(
            f,
            "{:>7} {:<8} {:>8} {:>15} {:>8} {:>9} {:>9} {:>6} {:>6}  variant",
            "clients", "row", "req/s", "min-max", "x first", "p50 ms", "p99 ms", "host", "pg"
        )?;
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for VariantLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread { median, min, max } = self.rate;
        let (host, postgres) = self.processor.unwrap_or_default();
        write!(
            f,
            "{:>7} {:<8} {median:>8.0} {:>15} {:>8.3} {:>9.3} {:>9.3} {host:>6.0} {postgres:>6.0}  {}",
            self.connections,
            self.row,
            format!("{min:.0}-{max:.0}"),
            self.to_first,
            self.p50 / 1000.0,
            self.p99 / 1000.0,
            self.variant,
        )
    }
}
