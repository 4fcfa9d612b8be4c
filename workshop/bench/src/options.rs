//! What to measure, and the constants that all measurements share.

use std::path::PathBuf;

use devstack::{Host, Programs};

/// The numbers of clients that rows are compared with. Each client keeps one connection.
pub(crate) const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];

/// The number of clients that most goals are set for.
pub(crate) const GOAL_CONNECTIONS: usize = 64;

/// The number of clients below [`GOAL_CONNECTIONS`] that a goal for tail latencies is set for, besides one.
pub(crate) const TAIL_CONNECTIONS: usize = 16;

/// Each figure is the median over this number of rounds.
pub(crate) const ROUNDS: usize = 5;

/// The default number of stored orders and keys that creation is measured with.
pub const STORED_ORDERS: u64 = 5_000_000;

/// The name of the bundled runner in tables.
pub(crate) const RUNNER: &str = "runner";

/// How to measure.
pub struct Options {
    /// The programs of Redis and Postgres.
    pub programs: Programs,
    /// The program of the load generator, wrk.
    pub wrk: PathBuf,
    /// The program of the native contestants.
    pub native: PathBuf,
    /// The hosts to measure on. What does not depend on the host is measured on the first one.
    pub hosts: Vec<Host>,
    /// Measure fewer rows, for a shorter time.
    pub quick: bool,
    /// The number of stored orders and keys to measure creation with; `None` leaves this goal out.
    pub stored_orders: Option<u64>,
}

/// The name of a host in tables.
pub(crate) fn host_name(host: &Host) -> String {
    match host {
        Host::Spin(version) => format!("Spin {version}"),
        Host::Runner(_) => RUNNER.to_owned(),
    }
}
