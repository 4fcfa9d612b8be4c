//! The goals, and whether the measured figures reach them.

use std::fmt;

use serde::Serialize;

use crate::contestants::{
    BARE_CREATE, BARE_REPLAY, CREATE, Contestant, GOAL_CONNECTIONS, NAIVE_CREATE, NATIVE_CREATE, REPLAY, Row,
    TAIL_CONNECTIONS,
};
use crate::environment::RUNNER;
use crate::figures::{Measurement, find, median_ratio};

/// A figure that a goal is set for.
enum Figure {
    /// The rate of a row divided by that of another, with 64 clients.
    Rate(Row, Row),
    /// The median latency of a row divided by that of another, with one client.
    Latency(Row, Row),
    /// The 99th percentile of a row's latencies divided by the median, with so many clients.
    Tail(Row, usize),
}

use Bound::{AtLeast, AtMost};
use Figure::{Latency, Rate, Tail};

/// The goals for each host. Those against the native service are set for the runner only: it has no host to compare
/// with.
const GOALS: [(Figure, Bound); 11] = [
    (Rate(CREATE, BARE_CREATE), AtLeast(1.5)),
    (Rate(CREATE, NAIVE_CREATE), AtLeast(2.8)),
    (Rate(REPLAY, BARE_REPLAY), AtLeast(0.97)),
    (Latency(CREATE, BARE_CREATE), AtMost(0.8)),
    (Latency(REPLAY, BARE_REPLAY), AtMost(1.05)),
    (Tail(CREATE, 1), AtMost(4.0)),
    (Tail(CREATE, TAIL_CONNECTIONS), AtMost(4.0)),
    (Tail(REPLAY, 1), AtMost(4.0)),
    (Tail(REPLAY, TAIL_CONNECTIONS), AtMost(4.0)),
    (Rate(CREATE, NATIVE_CREATE), AtLeast(0.5)),
    (Latency(CREATE, NATIVE_CREATE), AtMost(1.6)),
];

impl Figure {
    fn is_set_for(&self, host: &str) -> bool {
        match self {
            Rate(_, other) | Latency(_, other) => other.contestant != Contestant::Native || host == RUNNER,
            Tail(..) => true,
        }
    }

    fn name(&self) -> String {
        match self {
            Rate(row, other) => {
                let (row, other) = (row.name, other.name);
                format!("{row}, {GOAL_CONNECTIONS} clients: rate / rate of {other}")
            }
            Latency(row, other) => format!("{}, 1 client: p50 / p50 of {}", row.name, other.name),
            Tail(row, 1) => format!("{}, 1 client: p99 / p50", row.name),
            Tail(row, connections) => format!("{}, {connections} clients: p99 / p50", row.name),
        }
    }

    fn measured(&self, rounds: &[Measurement], host: &str) -> Option<f64> {
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
                median_ratio(&row.each(|s| s.p99), &row.each(|s| s.p50))
            }
        }
    }
}

/// Compares every figure with its goal.
pub fn judge(hosts: &[String], rounds: &[Measurement]) -> Vec<Goal> {
    let on_host = |host: &String| {
        let goals = GOALS.iter().filter(|(figure, _)| figure.is_set_for(host));
        let judged = goals.map(|(figure, bound)| Goal {
            name: figure.name(),
            host: host.clone(),
            bound: *bound,
            measured: figure.measured(rounds, host),
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
            AtLeast(bound) => format!(">= {bound}x"),
            AtMost(bound) => format!("<= {bound}x"),
        };
        let measured = self.measured.map(|measured| format!("{measured:.2}x"));
        let measured = measured.unwrap_or("not measured".to_owned());
        let reached = match self.is_reached() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        write!(f, "{:<50} {bound:>10} {measured:>12}  {reached}", self.name)
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
            samples: vec![Sample { rate, refused: 0.0, p50: 1e6 / rate, p99: 3e6 / rate, processor: None }],
        }
    }

    #[test]
    fn each_host_is_compared_with_its_own_rows() {
        let (runner, spin) = (Some(RUNNER), Some("Spin 4.1.0"));
        let rounds = [
            measurement(CREATE, runner, 64, 4000.0),
            measurement(BARE_CREATE, runner, 64, 2000.0),
            measurement(NATIVE_CREATE, None, 64, 8000.0),
            measurement(CREATE, spin, 64, 3000.0),
            measurement(BARE_CREATE, spin, 64, 1000.0),
            measurement(CREATE, spin, 1, 500.0),
            measurement(BARE_CREATE, spin, 1, 400.0),
        ];
        let hosts = [RUNNER, "Spin 4.1.0"].map(ToOwned::to_owned);
        let goals = judge(&hosts, &rounds);
        let figure = |host: &str, name: &str| {
            let is_it = |goal: &&Goal| goal.host == host && goal.name.starts_with(name);
            let found: Vec<_> = goals.iter().filter(is_it).map(|g| g.measured).collect();
            assert!(found.len() < 2, "{name} names two goals");
            found.first().copied()
        };
        let bare = "create, 64 clients: rate / rate of bare";
        assert_eq!(figure(RUNNER, bare), Some(Some(2.0)));
        assert_eq!(figure("Spin 4.1.0", bare), Some(Some(3.0)));
        let native = "create, 64 clients: rate / rate of native";
        assert_eq!(figure(RUNNER, native), Some(Some(0.5)));
        assert_eq!(figure("Spin 4.1.0", native), None);
        let alone = "create, 1 client: p50 / p50 of bare";
        assert_eq!(figure("Spin 4.1.0", alone), Some(Some(0.8)));
        assert_eq!(figure(RUNNER, alone), Some(None));
        assert_eq!(figure("Spin 4.1.0", "create, 1 client: p99"), Some(Some(3.0)));
    }

    #[test]
    fn bounds_are_inclusive() {
        assert!(AtLeast(2.5).is_reached(2.5) && !AtLeast(2.5).is_reached(2.4));
        assert!(AtMost(1.5).is_reached(1.5) && !AtMost(1.5).is_reached(1.6));
    }
}
