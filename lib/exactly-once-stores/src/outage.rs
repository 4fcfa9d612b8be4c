//! What the log says about a store that is down: a line when an outage begins and one when it has ended. No line repeats more
//! of a host's words than their first line.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use exactly_once::breaker::COOL_DOWN;

use crate::platform::Platform;

/// The longest text of a host's in the log, in characters.
const MAX_CHARS: usize = 200;

/// Whether a store is down as far as this instance knows. Failures within [`COOL_DOWN`] of each other are one outage, even if
/// calls succeed in between.
#[derive(Default)]
pub(crate) struct Outage {
    times: Cell<Option<Times>>,
}

#[derive(Clone, Copy)]
struct Times {
    first_failure: Duration,
    last_failure: Duration,
}

impl Outage {
    /// A call of the store failed, for this reason. `consequence` says what requests do without the store.
    pub fn failed(&self, platform: &impl Platform, store: &str, why: &str, consequence: &str) {
        let now = platform.now();
        let first_failure = match self.times.get() {
            Some(times) => times.first_failure,
            None => {
                let why = first_line(why);
                platform.write_line(format!("{store}: down: {why}; {consequence}"));
                now
            }
        };
        self.times.set(Some(Times {
            first_failure,
            last_failure: now,
        }));
    }

    /// A call of the store succeeded.
    pub fn succeeded(&self, platform: &impl Platform, store: &str) {
        let Some(times) = self.times.get() else {
            return;
        };
        let now = platform.now();
        if now.saturating_sub(times.last_failure) >= COOL_DOWN {
            self.times.set(None);
            let seconds = now.saturating_sub(times.first_failure).as_secs();
            platform.write_line(format!("{store}: back after {seconds} s"));
        }
    }
}

/// What would be the same for every request, and is written once per instance.
#[derive(Default)]
pub(crate) struct Said(RefCell<Vec<String>>);

impl Said {
    /// Writes the line unless one of this kind was written. `kind` is one of few values.
    pub fn once(&self, platform: &impl Platform, kind: String, line: &str) {
        let mut said = self.0.borrow_mut();
        if !said.contains(&kind) {
            said.push(kind);
            platform.write_line(first_line(line));
        }
    }
}

/// The first line of a host's text about a failure, at most 200 characters of it. A backtrace may follow.
fn first_line(text: &str) -> String {
    let line = text.trim_start().lines().next().unwrap_or_default();
    let printable = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(MAX_CHARS).collect()
}
