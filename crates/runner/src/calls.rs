//! Counts what components ask of the stores, for tests that assert how many trips a request takes, and how
//! often the processor was found in their code, for benchmarks.

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
        self.0.fetch_add(1, Ordering::Relaxed);
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
/// Looks at what the processor does for this process, with `--measure-guests`.
pub static SAMPLES: Counter = Counter::new();
/// Those that found it in a component's own code.
pub static GUEST_SAMPLES: Counter = Counter::new();

/// All counts, as JSON.
pub fn to_json() -> String {
    serde_json::json!({
        "redisOpened": REDIS_OPENED.get(),
        "redisCommands": REDIS_COMMANDS.get(),
        "postgresOpened": POSTGRES_OPENED.get(),
        "postgresStatements": POSTGRES_STATEMENTS.get(),
        "samples": SAMPLES.get(),
        "guestSamples": GUEST_SAMPLES.get(),
    })
    .to_string()
}
