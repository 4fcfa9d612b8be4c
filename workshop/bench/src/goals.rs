//! The goals, and whether the measured figures reach them.

use crate::contestants::{BARE_CREATE, BARE_REPLAY, CREATE, NAIVE_CREATE, NATIVE_CREATE, REPLAY};
use crate::figures::{Bound, Goal, GuestShare, Measurement, Sizes, find};
use crate::options::{GOAL_CONNECTIONS, RUNNER, TAIL_CONNECTIONS};
use crate::statistics::median_ratio;

/// All figures that goals are set for.
pub struct Measured<'m> {
    /// The names of the hosts. The figures below `guests` come from the first one.
    pub hosts: Vec<String>,
    /// The rows.
    pub rounds: &'m [Measurement],
    /// The components' shares of the runner's processor time.
    pub guests: &'m [GuestShare],
    /// Requests that were not answered before their deadline under overload.
    pub unanswered: Option<f64>,
    /// The number of stored orders and keys that `slowdown` is for.
    pub stored_orders: u64,
    /// The median latency of creation with stored orders divided by the one without.
    pub slowdown: Option<f64>,
    /// Sizes and start time.
    pub sizes: Sizes,
}

/// Compares every figure with its goal.
pub fn judge(measured: &Measured) -> Vec<Goal> {
    let mut goals = Vec::new();
    for host in &measured.hosts {
        let on = On {
            host,
            rounds: measured.rounds,
        };
        goals.extend(on.against_bare_and_naive());
        goals.extend(on.tails());
        if host == RUNNER {
            goals.extend(on.against_native());
            let create = measured.guests.iter().find(|g| g.row.name == CREATE);
            goals.push(on.goal(
                "create: guest's share of the host's processor time",
                Bound::AtMost(10.0),
                " %",
                create.map(|guest| guest.share * 100.0),
            ));
        }
        if measured.hosts.first() == Some(host) {
            goals.extend(on.once(measured));
        }
    }
    goals.extend(stored_sizes(&measured.sizes));
    goals
}

/// The rows on one host.
struct On<'m> {
    host: &'m str,
    rounds: &'m [Measurement],
}

impl<'m> On<'m> {
    fn goal(&self, name: &str, bound: Bound, unit: &str, measured: Option<f64>) -> Goal {
        Goal {
            name: name.to_owned(),
            host: Some(self.host.to_owned()),
            bound,
            unit: unit.to_owned(),
            measured,
        }
    }

    fn row(&self, name: &str, connections: usize) -> Option<&'m Measurement> {
        find(self.rounds, name, Some(self.host), connections)
    }

    fn rate(&self, ours: &str, theirs: &str) -> Option<f64> {
        let ours = self.row(ours, GOAL_CONNECTIONS)?.rates();
        median_ratio(&ours, &self.row(theirs, GOAL_CONNECTIONS)?.rates())
    }

    fn latency(&self, ours: &str, theirs: &str) -> Option<f64> {
        let ours = self.row(ours, 1)?.p50s();
        median_ratio(&ours, &self.row(theirs, 1)?.p50s())
    }

    fn against_bare_and_naive(&self) -> Vec<Goal> {
        vec![
            self.goal(
                "create, 64 clients: rate / rate of bare create",
                Bound::AtLeast(1.5),
                "x",
                self.rate(CREATE, BARE_CREATE),
            ),
            self.goal(
                "create, 64 clients: rate / rate of naive create",
                Bound::AtLeast(2.8),
                "x",
                self.rate(CREATE, NAIVE_CREATE),
            ),
            self.goal(
                "replay, 64 clients: rate / rate of bare replay",
                Bound::AtLeast(0.97),
                "x",
                self.rate(REPLAY, BARE_REPLAY),
            ),
            self.goal(
                "create, 1 client: p50 / p50 of bare create",
                Bound::AtMost(0.8),
                "x",
                self.latency(CREATE, BARE_CREATE),
            ),
            self.goal(
                "replay, 1 client: p50 / p50 of bare replay",
                Bound::AtMost(1.05),
                "x",
                self.latency(REPLAY, BARE_REPLAY),
            ),
        ]
    }

    /// Set for the runner only: a native service has no host to compare with.
    fn against_native(&self) -> Vec<Goal> {
        let native = |connections| find(self.rounds, NATIVE_CREATE, None, connections);
        let rate = || {
            let ours = self.row(CREATE, GOAL_CONNECTIONS)?.rates();
            median_ratio(&ours, &native(GOAL_CONNECTIONS)?.rates())
        };
        let latency = || median_ratio(&self.row(CREATE, 1)?.p50s(), &native(1)?.p50s());
        vec![
            self.goal(
                "create, 64 clients: rate / rate of native create",
                Bound::AtLeast(0.5),
                "x",
                rate(),
            ),
            self.goal(
                "create, 1 client: p50 / p50 of native create",
                Bound::AtMost(1.6),
                "x",
                latency(),
            ),
        ]
    }

    fn tails(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        for name in [CREATE, REPLAY] {
            for connections in [1, TAIL_CONNECTIONS] {
                let clients = if connections == 1 {
                    "client"
                } else {
                    "clients"
                };
                let tail = || {
                    let row = self.row(name, connections)?;
                    median_ratio(&row.p99s(), &row.p50s())
                };
                goals.push(self.goal(
                    &format!("{name}, {connections} {clients}: p99 / p50"),
                    Bound::AtMost(4.0),
                    "x",
                    tail(),
                ));
            }
        }
        goals
    }

    /// What is measured on the first host only.
    fn once(&self, measured: &Measured) -> Vec<Goal> {
        vec![
            self.goal(
                "2,000 clients: requests without a response at their deadline",
                Bound::AtMost(0.0),
                "",
                measured.unanswered,
            ),
            self.goal(
                &format!(
                    "create: p50 with {} orders and keys / p50 without",
                    measured.stored_orders
                ),
                Bound::AtMost(1.2),
                "x",
                measured.slowdown,
            ),
            self.goal(
                "start to first response, compiled before",
                Bound::AtMost(150.0),
                " ms",
                measured.sizes.start_ms,
            ),
        ]
    }
}

fn stored_sizes(sizes: &Sizes) -> Vec<Goal> {
    let at_most = |name: &str, bound, unit: &str, measured| Goal {
        name: name.to_owned(),
        host: None,
        bound: Bound::AtMost(bound),
        unit: unit.to_owned(),
        measured: Some(measured),
    };
    vec![
        at_most("Redis: size of a key", 200.0, " B", sizes.redis_bytes),
        at_most(
            "Postgres: size of an order, with its indexes",
            600.0,
            " B",
            sizes.postgres_bytes,
        ),
        at_most(
            "size of the component",
            550.0,
            " KB",
            sizes.component_kilobytes,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestants::ROWS;
    use crate::figures::Sample;

    fn measurement(name: &str, host: Option<&str>, connections: usize, rate: f64) -> Measurement {
        Measurement {
            row: ROWS.into_iter().find(|row| row.name == name).unwrap(),
            host: host.map(ToOwned::to_owned),
            connections,
            samples: vec![Sample {
                rate,
                refused: 0.0,
                p50: 1e6 / rate,
                p99: 3e6 / rate,
                processor: None,
                memory: None,
            }],
        }
    }

    fn judged(rounds: &[Measurement]) -> Vec<Goal> {
        judge(&Measured {
            hosts: vec![RUNNER.to_owned(), "Spin 4.1.0".to_owned()],
            rounds,
            guests: &[],
            unanswered: Some(0.0),
            stored_orders: 100,
            slowdown: None,
            sizes: Sizes {
                redis_bytes: 168.0,
                postgres_bytes: 411.0,
                component_kilobytes: 656.0,
                start_ms: Some(21.0),
            },
        })
    }

    fn figure(goals: &[Goal], host: &str, name: &str) -> Option<f64> {
        let is_it =
            |goal: &&Goal| goal.host.as_deref() == Some(host) && goal.name.starts_with(name);
        let mut found = goals.iter().filter(is_it);
        let goal = found.next().unwrap();
        assert!(found.next().is_none(), "{name} names two goals");
        goal.measured
    }

    #[test]
    fn each_host_is_compared_with_its_own_rows() {
        let spin = Some("Spin 4.1.0");
        let runner = Some(RUNNER);
        let goals = judged(&[
            measurement(CREATE, runner, 64, 4000.0),
            measurement(BARE_CREATE, runner, 64, 2000.0),
            measurement(NATIVE_CREATE, None, 64, 8000.0),
            measurement(CREATE, spin, 64, 3000.0),
            measurement(BARE_CREATE, spin, 64, 1000.0),
            measurement(CREATE, spin, 1, 500.0),
            measurement(BARE_CREATE, spin, 1, 400.0),
        ]);
        let bare = "create, 64 clients: rate / rate of bare";
        assert_eq!(figure(&goals, RUNNER, bare), Some(2.0));
        assert_eq!(figure(&goals, "Spin 4.1.0", bare), Some(3.0));
        let native = "create, 64 clients: rate / rate of native";
        assert_eq!(figure(&goals, RUNNER, native), Some(0.5));
        assert!(
            !goals
                .iter()
                .any(|goal| goal.name.starts_with(native) && goal.host.as_deref() != Some(RUNNER))
        );
        let alone = "create, 1 client: p50 / p50 of bare";
        assert_eq!(figure(&goals, "Spin 4.1.0", alone), Some(0.8));
        assert_eq!(figure(&goals, RUNNER, alone), None);
        let tail = "create, 1 client: p99";
        assert_eq!(figure(&goals, "Spin 4.1.0", tail), Some(3.0));
    }

    #[test]
    fn a_component_that_is_too_large_misses_its_goal() {
        let goals = judged(&[]);
        let size = goals
            .iter()
            .find(|goal| goal.name == "size of the component");
        assert_eq!(size.and_then(Goal::is_reached), Some(false));
    }
}
