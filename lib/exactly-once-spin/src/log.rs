//! What the component writes to stderr: a line per request where `log_requests` is set, and one when a store goes down
//! and one when it is back. No line repeats more of the host's words than their first line.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use exactly_once::Collection;
use exactly_once::breaker::{COOL_DOWN, State};
use exactly_once::resource::rfc3339;
use exactly_once_http::request_log::{LogLine, first_line, milliseconds, route_pattern, trace_id};
use exactly_once_http::{Head, Response};

use crate::{redis, variables};

/// What one request notes for its line. Without `log_requests` it reads no clock.
#[derive(Default)]
pub struct RequestLog {
    started: Option<Instant>,
    redis: Cell<Duration>,
    postgres: Cell<Duration>,
    trips: Cell<u32>,
}

impl RequestLog {
    /// Begins unless it is known that nothing will be written.
    pub fn start() -> Self {
        Self {
            started: (variables::logs_requests() != Some(false)).then(Instant::now),
            ..Self::default()
        }
    }

    /// Counts a command or a statement.
    pub fn count_trip(&self) {
        self.trips.set(self.trips.get() + 1);
    }

    /// Adds the time until the guard is dropped to that for Redis.
    pub fn redis(&self) -> Wait<'_> {
        self.wait(&self.redis)
    }

    /// Adds the time until the guard is dropped to that for Postgres.
    pub fn postgres(&self) -> Wait<'_> {
        self.wait(&self.postgres)
    }

    fn wait<'l>(&'l self, total: &'l Cell<Duration>) -> Wait<'l> {
        Wait {
            total,
            since: self.started.map(|_| Instant::now()),
        }
    }

    /// Writes the line, where that is wanted.
    pub async fn write(&self, collection: &Collection, head: &impl Head, answer: &Response) {
        let Some(started) = self.started else {
            return;
        };
        if !variables::read_logs_requests().await {
            return;
        }
        let target = head.target();
        let path = target.split_once('?').map_or(&*target, |(path, _)| path);
        let of = |duration: Duration| milliseconds(duration.as_secs_f64());
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix_millis = since_epoch.unwrap_or_default().as_millis();
        let line = LogLine {
            time: rfc3339(i64::try_from(unix_millis).unwrap_or_default()),
            route: route_pattern(collection, path),
            status: answer.status.as_u16(),
            outcome: answer.outcome,
            duration_ms: of(started.elapsed()),
            redis_ms: of(self.redis.get()),
            postgres_ms: of(self.postgres.get()),
            trips: self.trips.get(),
            breaker: match redis::breaker() {
                State::Closed => "closed",
                State::Open => "open",
                State::HalfOpen => "half_open",
            },
            trace_id: trace_id(head),
        };
        write_line(line.to_json());
    }
}

/// Measures how long a request waits for a store, until it is dropped.
pub struct Wait<'l> {
    total: &'l Cell<Duration>,
    since: Option<Instant>,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(since) = self.since {
            self.total.set(self.total.get() + since.elapsed());
        }
    }
}

/// Whether a store is down as far as this instance knows. It writes one line when an outage begins and one when it has
/// ended. Failures within [`COOL_DOWN`] of each other are one outage, even if calls succeed in between.
pub struct Outage {
    store: &'static str,
    times: Cell<Option<Times>>,
}

#[derive(Clone, Copy)]
struct Times {
    first_failure: Instant,
    last_failure: Instant,
}

impl Outage {
    /// No outage so far.
    pub const fn none(store: &'static str) -> Self {
        Self {
            store,
            times: Cell::new(None),
        }
    }

    /// A call failed, for this reason. `consequence` says what requests do without the store.
    pub fn failed(&self, why: &str, consequence: &str) {
        let now = Instant::now();
        let first_failure = match self.times.get() {
            Some(times) => times.first_failure,
            None => {
                let why = first_line(why);
                write_line(format!("{}: down: {why}; {consequence}", self.store));
                now
            }
        };
        self.times.set(Some(Times {
            first_failure,
            last_failure: now,
        }));
    }

    /// A call succeeded.
    pub fn succeeded(&self) {
        let Some(times) = self.times.get() else {
            return;
        };
        if times.last_failure.elapsed() >= COOL_DOWN {
            self.times.set(None);
            let seconds = times.first_failure.elapsed().as_secs();
            write_line(format!("{}: back after {seconds} s", self.store));
        }
    }
}

thread_local! {
    static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Writes something that would be the same for every request, once per instance. `kind` is one of few values.
pub fn once(kind: &str, line: &str) {
    let is_new = SAID.with_borrow_mut(|said| {
        let is_new = !said.iter().any(|one| one == kind);
        if is_new {
            said.push(kind.to_owned());
        }
        is_new
    });
    if is_new {
        write_line(first_line(line));
    }
}

/// Writes a line with one call of the host: `eprintln!` takes one per part, and lines of other instances get in between.
fn write_line(mut line: String) {
    line.push('\n');
    // If the log cannot be written, there is no place to report it.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
