//! What was measured, as tables for people and as JSON for machines.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::contestants::FLOOR;
use crate::goals::Goal;
use crate::guest::GuestShare;
use crate::rounds::{Measurement, Processor, RUNNER, Sample};
use crate::statistics::{Spread, median, median_ratio};
use crate::{GOAL_CONNECTIONS, ROUNDS};

/// Everything.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// On what.
    pub machine: Machine,
    /// Whether it was the quick run.
    pub quick: bool,
    /// How many rounds each figure is the median of.
    pub rounds: usize,
    /// The rows, by connections.
    pub lines: Vec<Line>,
    /// The goals.
    pub goals: Vec<Goal>,
}

/// What it ran on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many of its cores we may use.
    pub cores: usize,
    /// How many processes wanted a core in the minute before we began: others', which disturb.
    pub load_before: String,
}

/// A row with one number of connections: medians over the rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The row.
    pub name: String,
    /// What served it, if it has a host.
    pub host: Option<String>,
    /// How many clients that kept their connections.
    pub connections: usize,
    /// Answers per second.
    pub rate: Spread,
    /// Median latency, in microseconds.
    pub p50: f64,
    /// 99th percentile of latencies, in microseconds.
    pub p99: f64,
    /// Its rate in terms of the native service's with the same work.
    pub to_native: Option<f64>,
    /// Its rate in terms of the floor of its host.
    pub to_floor: Option<f64>,
    /// Microseconds of processor time per answer.
    pub processor: Option<Shares>,
    /// The guest's part of the host's, 0 to 1; told by the runner alone.
    pub guest_share: Option<f64>,
}

/// Microseconds of processor time per answer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Shares {
    /// The process that serves.
    pub host: f64,
    /// Redis.
    pub redis: f64,
    /// Postgres, all of its processes.
    pub postgres: f64,
    /// The load generator.
    pub generator: f64,
}

impl Report {
    pub(crate) fn new(machine: Machine, quick: bool, lines: Vec<Line>, goals: Vec<Goal>) -> Self {
        Self {
            machine,
            quick,
            rounds: ROUNDS,
            lines,
            goals,
        }
    }
}

impl Machine {
    /// This one, before we burden it.
    pub(crate) fn idle() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let name = cpus.lines().find_map(|l| l.strip_prefix("model name"));
        let name = name.map(|name| name.trim_start_matches([' ', '\t', ':']));
        let load = read("/proc/loadavg");
        Self {
            processor: name.unwrap_or(std::env::consts::ARCH).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            load_before: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// The table's lines.
pub(crate) fn lines(measured: &[Measurement], guests: &[GuestShare]) -> Vec<Line> {
    let line = |measurement| line(measurement, measured, guests);
    measured.iter().filter_map(line).collect()
}

fn line(measurement: &Measurement, all: &[Measurement], guests: &[GuestShare]) -> Option<Line> {
    let rates = measurement.rates();
    let against = |name: &str, host: &Option<String>| {
        let other = find(all, name, host, measurement.connections)?;
        median_ratio(&rates, &other.rates())
    };
    let samples = &measurement.samples;
    Some(Line {
        name: measurement.row.name.to_owned(),
        host: measurement.host.clone(),
        connections: measurement.connections,
        rate: Spread::of(rates.iter().copied())?,
        p50: median(samples.iter().map(|sample| sample.p50))?,
        p99: median(samples.iter().map(|sample| sample.p99))?,
        to_native: measurement
            .row
            .native()
            .and_then(|name| against(name, &None)),
        to_floor: measurement
            .host
            .as_ref()
            .and_then(|_| against(FLOOR, &measurement.host)),
        processor: shares(samples),
        guest_share: guests
            .iter()
            .find(|guest| guest.row == measurement.row)
            .filter(|_| measurement.connections == GOAL_CONNECTIONS)
            .filter(|_| measurement.host.as_deref() == Some(RUNNER))
            .map(|guest| guest.share),
    })
}

/// A row on a host, with as many connections.
pub(crate) fn find<'m>(
    all: &'m [Measurement],
    name: &str,
    host: &Option<String>,
    connections: usize,
) -> Option<&'m Measurement> {
    all.iter()
        .find(|m| m.row.name == name && m.host == *host && m.connections == connections)
}

fn shares(samples: &[Sample]) -> Option<Shares> {
    let of = |part: fn(&Processor) -> f64| {
        median(
            samples
                .iter()
                .filter_map(|s| s.processor.as_ref().map(part)),
        )
    };
    Some(Shares {
        host: of(|p| p.host)?,
        redis: of(|p| p.redis)?,
        postgres: of(|p| p.postgres)?,
        generator: of(|p| p.generator)?,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine {
            processor,
            cores,
            load_before,
        } = &self.machine;
        writeln!(f, "{processor}, {cores} cores, load before: {load_before}")?;
        writeln!(
            f,
            "medians of {} rounds; right: microseconds of processor time per answer, the guest's part of the host's",
            self.rounds
        )?;
        let mut connections = 0;
        for line in &self.lines {
            if line.connections != connections {
                connections = line.connections;
                writeln!(f, "\n{connections} connections")?;
                writeln!(
                    f,
                    "{:<16} {:>8} {:>15} {:>9} {:>9} {:>8} {:>8} {:>7} {:>6} {:>6} {:>6} {:>6}  on",
                    "",
                    "req/s",
                    "min-max",
                    "p50 ms",
                    "p99 ms",
                    "x native",
                    "x floor",
                    "host",
                    "redis",
                    "pg",
                    "wrk",
                    "guest",
                )?;
            }
            writeln!(f, "{line}")?;
        }
        writeln!(f, "\n{:<66} {:>10} {:>12}  reached", "goal", "", "measured")?;
        self.goals.iter().try_for_each(|goal| writeln!(f, "{goal}"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |r| format!("{r:.2}"));
        let Spread { median, min, max } = self.rate;
        write!(
            f,
            "{:<16} {median:>8.0} {:>15} {:>9.2} {:>9.2} {:>8} {:>8}",
            self.name,
            format!("{min:.0}-{max:.0}"),
            self.p50 / 1000.0,
            self.p99 / 1000.0,
            ratio(self.to_native),
            ratio(self.to_floor),
        )?;
        if let Some(Shares {
            host,
            redis,
            postgres,
            generator,
        }) = self.processor
        {
            write!(
                f,
                " {host:>7.0} {redis:>6.0} {postgres:>6.0} {generator:>6.0}"
            )?;
        }
        let guest = self
            .guest_share
            .map(|share| format!("{:.0} %", share * 100.0));
        write!(f, " {:>6}", guest.unwrap_or_default())?;
        write!(f, "  {}", self.host.as_deref().unwrap_or("-"))
    }
}
