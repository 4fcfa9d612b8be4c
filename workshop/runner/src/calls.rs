//! Counters: calls to the stores and of the host, for tests that assert what a request costs, and CPU samples in
//! components' code, for benchmarks.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::host_calls;

/// The path that shows the counters with `--count-calls` and `--measure-guests`.
pub const PATH: &str = "/.well-known/runner/calls";

/// A counter that starts at 0 with the process.
pub struct Counter(AtomicU64);

impl Counter {
    /// At 0.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts one.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Connections opened to Redis.
pub static REDIS_OPENED: Counter = Counter::new();
/// Commands sent to Redis.
pub static REDIS_COMMANDS: Counter = Counter::new();
/// Connections taken from a Postgres pool.
pub static POSTGRES_OPENED: Counter = Counter::new();
/// Statements sent to Postgres.
pub static POSTGRES_STATEMENTS: Counter = Counter::new();
/// Statements run on SQLite.
pub static SQLITE_STATEMENTS: Counter = Counter::new();
/// CPU samples of this process, with `--measure-guests`.
pub static SAMPLES: Counter = Counter::new();
/// The samples taken while a component's own code ran.
pub static GUEST_SAMPLES: Counter = Counter::new();

/// All counters as JSON.
pub fn to_json() -> String {
    serde_json::json!({
        "redisOpened": REDIS_OPENED.get(),
        "redisCommands": REDIS_COMMANDS.get(),
        "postgresOpened": POSTGRES_OPENED.get(),
        "postgresStatements": POSTGRES_STATEMENTS.get(),
        "sqliteStatements": SQLITE_STATEMENTS.get(),
        "host": host_calls::counted(),
        "samples": SAMPLES.get(),
        "guestSamples": GUEST_SAMPLES.get(),
    })
    .to_string()
}
