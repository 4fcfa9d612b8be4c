//! Counts what components ask of the stores and what their code takes of the processor, for tests that assert
//! how many trips a request takes and for benchmarks.

use std::sync::atomic::{AtomicU64, Ordering};

/// Where the counts are shown with `--count-calls` and `--measure-guests`.
pub const PATH: &str = "/.well-known/runner/calls";

/// One kind of thing, counted since the start of the process.
pub struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts one.
    pub fn count(&self) {
        self.add(1);
    }

    /// Counts several.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Connections opened to Redis.
pub static REDIS_OPENED: Counter = Counter::new();
/// Commands sent to Redis.
pub static REDIS_COMMANDS: Counter = Counter::new();
/// Connections taken out of a Postgres pool.
pub static POSTGRES_OPENED: Counter = Counter::new();
/// Statements sent to Postgres.
pub static POSTGRES_STATEMENTS: Counter = Counter::new();
/// Nanoseconds of processor time spent in components' own code, with `--measure-guests`.
pub static GUEST_NANOSECONDS: Counter = Counter::new();

/// All counts, as JSON.
pub fn to_json() -> String {
    serde_json::json!({
        "redisOpened": REDIS_OPENED.get(),
        "redisCommands": REDIS_COMMANDS.get(),
        "postgresOpened": POSTGRES_OPENED.get(),
        "postgresStatements": POSTGRES_STATEMENTS.get(),
        "guestNanoseconds": GUEST_NANOSECONDS.get(),
    })
    .to_string()
}
