//! What the log says about a store that is down: a line when an outage begins and one when it has ended. A host's words
//! pass here on their way to the log: one line of them, without passwords.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use exactly_once::breaker::COOL_DOWN;

use crate::platform::{MISCONFIGURED, Platform};

/// The longest text of a host in the log, in characters.
const MAX_CHARS: usize = 200;

/// Whether a store is down as far as this instance knows. Failures within [`COOL_DOWN`] of each other are one outage,
/// even if calls succeed in between.
#[derive(Default)]
pub(crate) struct Outage {
    times: Cell<Option<Times>>,
    /// Whether the host said that it will never connect.
    pub misconfigured: Cell<bool>,
}

#[derive(Clone, Copy)]
struct Times {
    first_failure: Duration,
    last_failure: Duration,
}

impl Outage {
    /// Whether there is one.
    pub fn is_on(&self) -> bool {
        self.times.get().is_some()
    }

    /// A call of the store failed, for this reason. `consequence` says what requests do without the store.
    pub fn failed(&self, platform: &impl Platform, store: &str, why: &str, consequence: &str) {
        let now = platform.now();
        let first_failure = match self.times.get() {
            Some(times) => times.first_failure,
            None => {
                self.misconfigured.set(why.starts_with(MISCONFIGURED));
                let why = reason(why);
                platform.write_line(format!("{store}: down: {why}; {consequence}"));
                now
            }
        };
        self.times.set(Some(Times { first_failure, last_failure: now }));
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

/// Lines that would be the same for every request: each is written once per instance.
#[derive(Default)]
pub(crate) struct Said(RefCell<Vec<String>>);

impl Said {
    /// Writes the line unless one of this kind was written. `kind` is one of few values.
    pub fn once(&self, platform: &impl Platform, kind: String, line: &str) {
        let mut said = self.0.borrow_mut();
        if !said.contains(&kind) {
            said.push(kind);
            platform.write_line(reason(line));
        }
    }
}

/// The innermost cause in a host's text about a failure, in one line of at most 200 characters. The causes, which Spin
/// numbers if there are several, and a backtrace may follow the first line.
fn reason(text: &str) -> String {
    let (_, causes) = text.split_once("Caused by:").unwrap_or(("", text));
    let mut line = "";
    for next in causes.split('\n') {
        let next = next.trim();
        match next.split_once(": ") {
            _ if next == "Stack backtrace:" => break,
            Some((number, cause)) if number.bytes().all(|byte| byte.is_ascii_digit()) => line = cause,
            _ if line.is_empty() => line = next,
            _ => {}
        }
    }
    let line = redacted(line);
    let printable = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(MAX_CHARS).collect()
}

/// A line without the user and the password of a URL, or of a part of one, and without what follows `password=`.
fn redacted(line: &str) -> String {
    let (line, _) = line.split_once("password=").unwrap_or((line, ""));
    // To the last "@": a password may contain one.
    match line.rsplit_once('@') {
        None => line.to_owned(),
        Some((before, host)) => {
            let (kept, _) = before.split_once("://").unwrap_or_default();
            format!("{kept}://...@{host}")
        }
    }
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
    fn a_reason_is_the_innermost_cause_in_one_short_line() {
        let causes = "pool: db error\n\nCaused by:\n    0: db error\n    1: FATAL: no: 2\n       HINT: none\n";
        for (text, expected) in [
            ("\nno\tconnection\r\n\nStack backtrace:\n   0: frame\n", "no connection"),
            (causes, "FATAL: no: 2"),
            (&format!("{causes}\nStack backtrace:\n   0: frame\n"), "FATAL: no: 2"),
            ("pool\n\nCaused by:\n    FATAL: no\n    HINT: none", "FATAL: no"),
            ("", ""),
        ] {
            assert_eq!(reason(text), expected, "{text}");
        }
        assert_eq!(reason(&"\u{fc}".repeat(3000)).chars().count(), MAX_CHARS);
    }

    #[test]
    fn no_reason_contains_a_password() {
        for (text, expected) in [
            ("\"postgres://u:s3cret@h:1/d\" has a path", "\"postgres://...@h:1/d\" has a path"),
            ("redis://:s3@cret@h and postgres://u:s3 cret@h2", "redis://...@h2"),
            ("Invalid allowed host port \"s3cret@h\"", "://...@h\""),
            ("u:s3@cret@h", "://...@h"),
            ("postgres://h?user=u&password=s3cret is not permitted", "postgres://h?user=u&"),
            ("address postgres://h:5432 is not permitted", "address postgres://h:5432 is not permitted"),
        ] {
            assert_eq!(reason(text), expected);
        }
        let (platform, outage) = (TestPlatform::default(), Outage::default());
        outage.failed(&platform, "store", &format!("{MISCONFIGURED}a://u:s3cret@h"), "so what");
        assert_eq!(platform.lines(), ["store: down: misconfigured: a://...@h; so what"]);
        assert!(outage.misconfigured.get());
    }
}
