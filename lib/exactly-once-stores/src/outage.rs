//! What the log says about a store that is down: a line when an outage begins and one when it has ended. No line
//! repeats more of a host's words than their first line.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use exactly_once::breaker::COOL_DOWN;

use crate::platform::Platform;

/// The longest text of a host's in the log, in characters.
const MAX_CHARS: usize = 200;

/// Whether a store is down as far as this instance knows. Failures within [`COOL_DOWN`] of each other are one outage,
/// even if calls succeed in between.
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

#[cfg(test)]
mod tests {
    use exactly_once::ports::Clock;

    use super::*;
    use crate::testing::{MS, TestPlatform};

    #[test]
    fn failures_within_a_cool_down_are_one_outage() {
        let (platform, outage) = (TestPlatform::default(), Outage::default());
        outage.succeeded(&platform, "store");
        outage.failed(&platform, "store", "why\nbacktrace", "so what");
        assert_eq!(platform.lines(), ["store: down: why; so what"]);
        platform.pass(COOL_DOWN - MS);
        outage.succeeded(&platform, "store");
        outage.failed(&platform, "store", "why", "so what");
        platform.pass(COOL_DOWN - MS);
        outage.succeeded(&platform, "store");
        assert!(platform.lines().is_empty());
        platform.pass(MS);
        outage.succeeded(&platform, "store");
        let seconds = platform.now().as_secs();
        assert_eq!(platform.lines(), [format!("store: back after {seconds} s")]);
        outage.failed(&platform, "store", "again", "so what");
        assert_eq!(platform.lines().len(), 1);
    }

    #[test]
    fn a_backtrace_is_cut_and_so_is_a_long_line() {
        let text = "\nno\tconnection\r\n\nStack backtrace:\n   0: frame\n".to_owned();
        assert_eq!(first_line(&text), "no connection");
        assert_eq!(first_line(&"\u{fc}".repeat(3000)).chars().count(), MAX_CHARS);
        assert_eq!(first_line(""), "");
    }
}
