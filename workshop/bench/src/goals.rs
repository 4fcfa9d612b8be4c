//! The goals, and whether the measured figures reach them.

use std::fmt;

use serde::Serialize;

use crate::contestants::{
    BARE_CREATE, BARE_REPLAY, CREATE, GOAL_CONNECTIONS, NAIVE_CREATE, REPLAY, Row, TAIL_CONNECTIONS,
};
use crate::environment::RUNNER;
use crate::figures::{Measurement, find, median_ratio};

/// A figure that a goal is set for.
enum Figure {
    /// The rate of a row divided by that of another, with 64 clients.
    Rate(Row, Row),
    /// The median latency of a row divided by that of another, with one client.
    Latency(Row, Row),
    /// The 99th percentile of a row's latencies, without those that Nagle's algorithm has held back, divided by the
    /// median, with so many clients.
    Tail(Row, usize),
    /// How often a warm instance calls its host.
    Calls(Row),
    /// The bytes of the component.
    Size,
}

/// What is measured without load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// How often a warm instance calls its host for a creation and for a replay.
    pub calls: [u64; 2],
    /// The bytes of the component.
    pub size: u64,
}

use Bound::{AtLeast, AtMost};
use Figure::{Calls, Latency, Rate, Size, Tail};

/// The goals for each host. The runner counts calls, and the size is the same on all hosts.
const GOALS: [(Figure, Bound); 9] = [
    (Rate(REPLAY, BARE_REPLAY), AtLeast(0.92)),
    (Rate(CREATE, BARE_CREATE), AtLeast(1.3)),
    (Rate(CREATE, NAIVE_CREATE), AtLeast(2.8)),
    (Latency(CREATE, BARE_CREATE), AtMost(0.9)),
    (Latency(REPLAY, BARE_REPLAY), AtMost(1.1)),
    (Tail(REPLAY, TAIL_CONNECTIONS), AtMost(4.0)),
    (Calls(CREATE), AtMost(50.0)),
    (Calls(REPLAY), AtMost(32.0)),
    (Size, AtMost(620_000.0)),
];

impl Figure {
    fn is_set_for(&self, host: &str) -> bool {
        match self {
            Rate(..) | Latency(..) | Tail(..) => true,
            Calls(_) | Size => host == RUNNER,
        }
    }

    fn name(&self) -> String {
        match self {
            Rate(row, other) => {
                let (row, other) = (row.name, other.name);
                format!("{row}, {GOAL_CONNECTIONS} clients: rate / rate of {other}")
            }
            Latency(row, other) => format!("{}, 1 client: p50 / p50 of {}", row.name, other.name),
            Tail(row, connections) => format!("{}, {connections} clients: p99 without stalls / p50", row.name),
            Calls(row) => format!("{}: calls of the host", row.name),
            Size => "bytes of the component".to_owned(),
        }
    }

    fn measured(&self, rounds: &[Measurement], facts: &Facts, host: &str) -> Option<f64> {
        let find = |row, connections| find(rounds, row, Some(host), connections);
        match *self {
            Rate(row, other) => {
                let rates = |row| Some(find(row, GOAL_CONNECTIONS)?.each(|sample| sample.rate));
                median_ratio(&rates(row)?, &rates(other)?)
            }
            Latency(row, other) => {
                let latencies = |row| Some(find(row, 1)?.each(|sample| sample.p50));
                median_ratio(&latencies(row)?, &latencies(other)?)
            }
            Tail(row, connections) => {
                let row = find(row, connections)?;
                median_ratio(&row.each(|s| s.p99_no_stalls), &row.each(|s| s.p50))
            }
            Calls(row) => facts.calls.get(usize::from(row == REPLAY)).map(|calls| *calls as f64),
            Size => Some(facts.size as f64),
        }
    }
}

/// Compares every figure with its goal.
pub fn judge(hosts: &[String], rounds: &[Measurement], facts: &Facts) -> Vec<Goal> {
    let on_host = |host: &String| {
        let goals = GOALS.iter().filter(|(figure, _)| figure.is_set_for(host));
        let judged = goals.map(|(figure, bound)| Goal {
            name: figure.name(),
            host: host.clone(),
            bound: *bound,
            measured: figure.measured(rounds, facts, host),
        });
        judged.collect::<Vec<_>>()
    };
    hosts.iter().flat_map(on_host).collect()
}

/// A goal and what was measured for it.
#[derive(Clone, Debug, Serialize)]
pub struct Goal {
    pub name: String,
    pub host: String,
    pub bound: Bound,
    /// The figure; `None` if this run did not measure it.
    pub measured: Option<f64>,
}

/// The bound of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Bound {
    /// The figure must be at least this.
    AtLeast(f64),
    /// The figure must be at most this.
    AtMost(f64),
}

impl Bound {
    fn is_reached(self, measured: f64) -> bool {
        match self {
            AtLeast(bound) => measured >= bound,
            AtMost(bound) => measured <= bound,
        }
    }
}

impl Goal {
    /// `None` if it was not measured.
    pub fn is_reached(&self) -> Option<bool> {
        self.measured.map(|measured| self.bound.is_reached(measured))
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = match self.bound {
            AtLeast(bound) => format!(">= {bound}"),
            AtMost(bound) => format!("<= {bound}"),
        };
        let measured = match self.measured {
            Some(measured) if measured >= 10.0 => format!("{measured:.0}"),
            Some(measured) => format!("{measured:.2}"),
            None => "not measured".to_owned(),
        };
        write!(f, "{:<50} {bound:>10} {measured:>12}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Sample;

    fn measurement(row: Row, host: Option<&str>, connections: usize, rate: f64) -> Measurement {
        Measurement {
            row,
            host: host.map(ToOwned::to_owned),
            connections,
            samples: vec![Sample {
                rate,
                refused: 0.0,
                stalls: 0.0,
                p50: 1e6 / rate,
                p99: 5e6 / rate,
                p99_no_stalls: 3e6 / rate,
                processor: None,
            }],
        }
    }

    #[test]
    fn each_host_is_compared_with_its_own_rows() {
        let (runner, spin) = (Some(RUNNER), Some("Spin 4.1.0"));
        let rounds = [
            measurement(CREATE, runner, 64, 4000.0),
            measurement(BARE_CREATE, runner, 64, 2000.0),
            measurement(CREATE, spin, 64, 3000.0),
            measurement(BARE_CREATE, spin, 64, 1000.0),
            measurement(CREATE, spin, 1, 500.0),
            measurement(BARE_CREATE, spin, 1, 400.0),
            measurement(REPLAY, spin, 16, 500.0),
        ];
        let hosts = [RUNNER, "Spin 4.1.0"].map(ToOwned::to_owned);
        let goals = judge(&hosts, &rounds, &Facts { calls: [60, 30], size: 600_000 });
        let figure = |host: &str, name: &str| {
            let is_it = |goal: &&Goal| goal.host == host && goal.name.starts_with(name);
            let found: Vec<_> = goals.iter().filter(is_it).map(|g| g.measured).collect();
            assert!(found.len() < 2, "{name} names two goals");
            found.first().copied()
        };
        let bare = "create, 64 clients: rate / rate of bare";
        assert_eq!(figure(RUNNER, bare), Some(Some(2.0)));
        assert_eq!(figure("Spin 4.1.0", bare), Some(Some(3.0)));
        assert_eq!(figure(RUNNER, "replay: calls"), Some(Some(30.0)));
        assert_eq!(figure("Spin 4.1.0", "replay: calls"), None);
        let alone = "create, 1 client: p50 / p50 of bare";
        assert_eq!(figure("Spin 4.1.0", alone), Some(Some(0.8)));
        assert_eq!(figure(RUNNER, alone), Some(None));
        assert_eq!(figure("Spin 4.1.0", "replay, 16 clients: p99"), Some(Some(3.0)));
    }

    #[test]
    fn bounds_are_inclusive() {
        assert!(AtLeast(2.5).is_reached(2.5) && !AtLeast(2.5).is_reached(2.4));
        assert!(AtMost(1.5).is_reached(1.5) && !AtMost(1.5).is_reached(1.6));
    }
}
