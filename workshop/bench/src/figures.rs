//! The data types of what is measured: samples, table lines, goals and reports. No module that measures,
//! judges or prints is imported here.

use serde::{Deserialize, Serialize};

use crate::contestants::Row;
use crate::statistics::Spread;

/// All samples of one row with one number of clients.
pub struct Measurement {
    /// The row.
    pub row: Row,
    /// The name of the host; `None` for native rows and store rows.
    pub host: Option<String>,
    /// The number of clients.
    pub connections: usize,
    /// One sample for each round.
    pub samples: Vec<Sample>,
}

/// What one row reached in one round.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Responses per second.
    pub rate: f64,
    /// The share of responses that are not a success, 0 to 1.
    pub refused: f64,
    /// Median latency, in microseconds.
    pub p50: f64,
    /// 99th percentile of latencies, in microseconds.
    pub p99: f64,
    /// Processor time per response; `None` where the system does not report it.
    pub processor: Option<ProcessorTime>,
    /// Resident memory of the serving processes at the end, in bytes; `None` where the system does not
    /// report it or nothing serves.
    pub memory: Option<u64>,
}

/// Microseconds of processor time per response.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ProcessorTime {
    /// The process that serves.
    pub host: f64,
    /// Redis.
    pub redis: f64,
    /// All processes of Postgres.
    pub postgres: f64,
    /// The load generator.
    pub generator: f64,
}

/// The share of a host's processor time that a component's own code takes.
pub struct GuestShare {
    /// The row.
    pub row: Row,
    /// The share, 0 to 1.
    pub share: f64,
}

/// What is stored per order and key, the component's size, and its start time.
pub struct Sizes {
    /// Bytes in Redis per key.
    pub redis_bytes: f64,
    /// Bytes in Postgres per order, with indexes.
    pub postgres_bytes: f64,
    /// The size of the component in kilobytes (1,000 bytes).
    pub component_kilobytes: f64,
    /// Milliseconds from the start of the process to its first response, with a warm compilation cache.
    pub start_ms: Option<f64>,
}

impl Measurement {
    /// Responses per second, one value for each round.
    pub fn rates(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.rate).collect()
    }

    /// Median latencies in microseconds, one value for each round.
    pub fn p50s(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.p50).collect()
    }

    /// 99th percentiles of latencies in microseconds, one value for each round.
    pub fn p99s(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.p99).collect()
    }
}

/// Finds the measurement of a row on a host with a number of clients.
pub fn find<'m>(
    all: &'m [Measurement],
    name: &str,
    host: Option<&str>,
    connections: usize,
) -> Option<&'m Measurement> {
    all.iter()
        .find(|m| m.row.name == name && m.host.as_deref() == host && m.connections == connections)
}

/// The result of `cargo xtask bench`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// Whether this was a quick run.
    pub quick: bool,
    /// The number of rounds that each figure is the median of.
    pub rounds: usize,
    /// The table lines, in the order of their number of clients.
    pub lines: Vec<Line>,
    /// The goals.
    pub goals: Vec<Goal>,
}

/// The machine that the figures were measured on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// The number of cores that the process may use.
    pub cores: usize,
    /// The load average of the last minute before the run. Other processes disturb the measurement.
    pub load_before: String,
}

/// One row with one number of clients: medians over the rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The row's name.
    pub name: String,
    /// The host's name; `None` for native rows and store rows.
    pub host: Option<String>,
    /// The number of clients.
    pub connections: usize,
    /// Responses per second.
    pub rate: Spread,
    /// Median latency, in microseconds.
    pub p50: f64,
    /// 99th percentile of latencies, in microseconds.
    pub p99: f64,
    /// Its rate divided by the rate of the native service with the same workload.
    pub to_native: Option<f64>,
    /// Its rate divided by the rate of the floor on the same host.
    pub to_floor: Option<f64>,
    /// Its rate divided by the rate of the bare component with the same workload on the same host.
    #[serde(default)]
    pub to_bare: Option<f64>,
    /// Microseconds of processor time per response.
    pub processor: Option<ProcessorTime>,
    /// The share of the host's processor time that the component's code takes, 0 to 1. Only the runner
    /// measures it.
    pub guest_share: Option<f64>,
}

/// A goal and what was measured for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Goal {
    /// What is measured.
    pub name: String,
    /// The host's name; `None` if the host does not matter.
    #[serde(default)]
    pub host: Option<String>,
    /// What the figure must be.
    pub bound: Bound,
    /// The unit of bound and figure.
    pub unit: String,
    /// The figure; `None` if this run did not measure it.
    pub measured: Option<f64>,
}

/// The bound of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Bound {
    /// The figure must be at least this.
    AtLeast(f64),
    /// The figure must be at most this.
    AtMost(f64),
}

impl Goal {
    /// Whether the goal is reached; `None` if it was not measured.
    pub fn is_reached(&self) -> Option<bool> {
        self.measured.map(|measured| match self.bound {
            Bound::AtLeast(bound) => measured >= bound,
            Bound::AtMost(bound) => measured <= bound,
        })
    }
}

/// The result of `cargo xtask bench --flags`.
#[derive(Debug, Serialize, Deserialize)]
pub struct FlagReport {
    /// The machine.
    pub machine: Machine,
    /// The number of clients.
    pub connections: usize,
    /// The number of rounds that each figure is the median of.
    pub rounds: usize,
    /// One line for each host and each combination of flags.
    pub lines: Vec<FlagLine>,
}

/// What one combination of flags reaches on one host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlagLine {
    /// The host's name.
    pub host: String,
    /// The flags.
    pub flags: ReuseFlags,
    /// Creations.
    pub create: FlagFigures,
    /// SQL statements per created order. Only the runner counts them.
    pub statements_per_creation: Option<f64>,
    /// Replays.
    pub replay: FlagFigures,
}

/// Spin's flags for the reuse of instances. The runner has the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReuseFlags {
    /// `--max-instance-reuse-count`: requests that an instance serves before the host drops it.
    pub reuse_count: u32,
    /// `--max-instance-concurrent-reuse-count`: requests that an instance serves at the same time.
    pub concurrent_reuse_count: u32,
    /// `--idle-instance-timeout`: how long the host keeps an instance without a request.
    pub idle_timeout: String,
}

/// Medians over the rounds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct FlagFigures {
    /// Responses per second.
    pub rate: Spread,
    /// Median latency, in microseconds.
    pub p50: f64,
    /// 99th percentile of latencies, in microseconds.
    pub p99: f64,
    /// Resident memory of the host under load, in bytes.
    pub memory: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive_and_an_unmeasured_goal_is_neither_reached_nor_missed() {
        let reached = |bound, measured| {
            let goal = Goal {
                name: String::new(),
                host: None,
                bound,
                unit: String::new(),
                measured,
            };
            goal.is_reached()
        };
        assert_eq!(reached(Bound::AtLeast(2.5), Some(2.5)), Some(true));
        assert_eq!(reached(Bound::AtLeast(2.5), Some(2.4)), Some(false));
        assert_eq!(reached(Bound::AtMost(1.5), Some(1.5)), Some(true));
        assert_eq!(reached(Bound::AtMost(1.5), Some(1.6)), Some(false));
        assert_eq!(reached(Bound::AtMost(1.5), None), None);
    }
}
