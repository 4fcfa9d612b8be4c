//! Database histories: which completed records may be believed.
//!
//! A failover to a standby that lacks the last commits, a restore and a deletion lose rows. A completed record in Redis
//! outlives the lost row. So a record names the *history* in which its row was read, and a record of another history is
//! not believed. In Postgres a history is 8 random bytes, drawn anew after a start, a promotion or a restore of the
//! server, and by `forget_records()` and deletions. Each statement that returns rows also returns the present history,
//! so an instance rarely needs a statement for it.
//!
//! An instance believes a history for [`TRUSTED_FOR`]. After that, the next replay asks Postgres; replays that arrive
//! meanwhile wait for the same response ([`crate::single_flight`]), so an idle instance sends at most one such
//! statement per [`TRUSTED_FOR`]. While Postgres does not respond, [`crate::create::ReplayPolicy`] decides whether a
//! completed record may still be replayed.

use std::time::Duration;

/// The succession of commits that a database is in. Opaque: the database computes it, and it changes whenever committed
/// rows may be missing from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History([u8; Self::BYTES]);

impl History {
    /// The length of its encoding.
    pub const BYTES: usize = 8;

    /// The history of these bytes, if they are as many as one has.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

/// What a statement returned, and the history that its snapshot belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InHistory<T> {
    /// The history.
    pub history: History,
    /// What the statement returned.
    pub value: T,
}

impl<T> InHistory<T> {
    /// The same with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> InHistory<U> {
        InHistory { history: self.history, value: f(self.value) }
    }
}

/// What an instance knows about the database's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownHistory {
    /// The database named this history within [`TRUSTED_FOR`].
    Current(History),
    /// The database has not named its history lately. A statement finds out.
    Unknown {
        /// The history that it named before.
        last: Option<History>,
    },
    /// A statement has failed within [`OUTAGE`]: the next one most likely fails too.
    Unreachable {
        /// The history that it named before.
        last: Option<History>,
    },
}

impl KnownHistory {
    /// The history that the database named last, however long ago.
    pub fn last(self) -> Option<History> {
        match self {
            Self::Current(history) => Some(history),
            Self::Unknown { last } | Self::Unreachable { last } => last,
        }
    }
}

/// How long an instance believes a history. A server that lacks commits can take over at any time; a retry of a lost
/// creation is replayed from an old record for at most this time.
pub const TRUSTED_FOR: Duration = Duration::from_secs(3);

/// How long after a failed statement the database counts as unreachable.
pub const OUTAGE: Duration = Duration::from_secs(2);

/// What one instance knows of one database's history. Times are of any monotonic clock, since its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct HistoryMonitor {
    /// The history, and when the statement that returned it was sent. Events in the database since then are not in it.
    heard: Option<(History, Duration)>,
    /// When a statement failed that was sent after the last successful one.
    failed: Option<Duration>,
}

impl HistoryMonitor {
    /// No history is known.
    pub const fn new() -> Self {
        Self { heard: None, failed: None }
    }

    /// Notes that a statement that was sent at that time returned the history. It is ignored if a later statement has
    /// returned already.
    pub fn heard(&mut self, history: History, sent: Duration) {
        if self.heard.is_none_or(|(_, last)| last <= sent) {
            self.heard = Some((history, sent));
            self.failed = None;
        }
    }

    /// Notes that a statement that was sent at that time failed or timed out. It is ignored if a later statement has
    /// succeeded: it may have been sent to a server that no longer exists.
    pub fn failed(&mut self, sent: Duration, now: Duration) {
        if self.heard.is_none_or(|(_, last)| last <= sent) {
            self.failed = Some(now);
        }
    }

    /// What is known now.
    pub fn known(&self, now: Duration) -> KnownHistory {
        let last = self.heard.map(|(history, _)| history);
        if self.failed.is_some_and(|failed| now < failed + OUTAGE) {
            return KnownHistory::Unreachable { last };
        }
        match self.heard {
            Some((history, sent)) if now < sent + TRUSTED_FOR => KnownHistory::Current(history),
            _ => KnownHistory::Unknown { last },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const ONE: History = History([1; 8]);
    const OTHER: History = History([2; 8]);

    #[test]
    fn a_history_is_eight_bytes() {
        assert_eq!(History::from_bytes(&[1; 8]), Some(ONE));
        assert_eq!(History::from_bytes(&[1; 7]), None);
        assert_eq!(History::from_bytes(&[1; 9]), None);
    }

    #[test]
    fn what_was_heard_is_trusted_for_three_seconds_from_when_it_was_asked() {
        let mut monitor = HistoryMonitor::new();
        assert_eq!(monitor.known(S), KnownHistory::Unknown { last: None });
        monitor.heard(ONE, S);
        assert_eq!(monitor.known(S * 4 - S / 8), KnownHistory::Current(ONE));
        let last = Some(ONE);
        assert_eq!(monitor.known(S * 4), KnownHistory::Unknown { last });
        monitor.heard(OTHER, S * 5);
        assert_eq!(monitor.known(S * 5), KnownHistory::Current(OTHER));
        // A late response of a server that no longer exists.
        monitor.heard(ONE, S * 2);
        assert_eq!(monitor.known(S * 5), KnownHistory::Current(OTHER));
    }

    #[test]
    fn a_failure_counts_for_two_seconds_unless_a_later_statement_succeeds() {
        let mut monitor = HistoryMonitor::new();
        monitor.failed(S, S * 2);
        let last = None;
        let almost = S * 4 - S / 8;
        assert_eq!(monitor.known(almost), KnownHistory::Unreachable { last });
        assert_eq!(monitor.known(S * 4), KnownHistory::Unknown { last });
        monitor.heard(ONE, S * 4);
        assert_eq!(monitor.known(S * 4), KnownHistory::Current(ONE));
        monitor.failed(S * 3, S * 5);
        assert_eq!(monitor.known(S * 5), KnownHistory::Current(ONE));
        monitor.failed(S * 5, S * 6);
        let last = Some(ONE);
        assert_eq!(monitor.known(S * 6), KnownHistory::Unreachable { last });
        monitor.heard(OTHER, S * 6);
        assert_eq!(monitor.known(S * 6), KnownHistory::Current(OTHER));
    }
}
