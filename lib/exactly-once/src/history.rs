//! Database histories: which completed records may be believed.
//!
//! A failover to a standby that lacks the last commits, a restore and a deletion lose rows. A completed record in Redis
//! outlives the lost row. So a record names the *history* in which its row was read, and a record of another history is
//! not believed. In Postgres a history is 8 random bytes, drawn anew after a start of the server, a promotion, a
//! restore or a copy, and by `forget_records()` and deletions. Each statement that returns rows also returns the
//! present history, so an instance rarely needs a statement for it.
//!
//! An instance believes a history for [`TRUSTED_FOR`]. After that, the next replay asks Postgres; replays that arrive
//! meanwhile wait for the same response ([`crate::single_flight`]), so an idle instance sends at most one such
//! statement per [`TRUSTED_FOR`]. While Postgres does not respond, [`crate::create::ReplayPolicy`] decides whether a
//! completed record may still be replayed. Several servers behind one address have a history each; the statement about
//! a key goes to the key's server, so the instance learns all of them.

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

/// The histories of the servers behind one address. A plain Postgres has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistorySet {
    histories: [u64; REMEMBERED],
    count: usize,
}

impl HistorySet {
    /// Whether the history is one of them.
    pub fn contains(&self, history: History) -> bool {
        self.iter().any(|one| one == history)
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = History> {
        self.histories.iter().take(self.count).map(|history| History(history.to_ne_bytes()))
    }
}

impl FromIterator<History> for HistorySet {
    fn from_iter<I: IntoIterator<Item = History>>(histories: I) -> Self {
        let mut set = Self::default();
        for (place, history) in set.histories.iter_mut().zip(histories) {
            *place = u64::from_ne_bytes(history.0);
            set.count += 1;
        }
        set
    }
}

impl From<History> for HistorySet {
    fn from(history: History) -> Self {
        std::iter::once(history).collect()
    }
}

/// What an instance knows about the database's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownHistory {
    /// The database named each of these within [`TRUSTED_FOR`].
    Current(HistorySet),
    /// No statement has returned the history for some time. The next one does.
    Unknown {
        /// What it named before.
        last: HistorySet,
    },
    /// A statement has failed within [`OUTAGE`]: the next one most likely fails too.
    Unreachable {
        /// What it named before.
        last: HistorySet,
    },
}

impl KnownHistory {
    /// What the database named last, however long ago.
    pub fn last(self) -> HistorySet {
        match self {
            Self::Current(last) | Self::Unknown { last } | Self::Unreachable { last } => last,
        }
    }
}

/// How long an instance believes a history. A server that lacks commits can take over at any time; a retry of a lost
/// creation is replayed from an old record for at most this time.
pub const TRUSTED_FOR: Duration = Duration::from_secs(3);

/// How long after a failed statement the database counts as unreachable.
pub const OUTAGE: Duration = Duration::from_secs(2);

/// How many histories an instance remembers: each shard of a distributed table has one, and the coordinator. With
/// more of them, more retries ask.
const REMEMBERED: usize = 32;

/// A history, and when the first and the last statement were sent that returned it. Events in the database since then
/// are not in it.
#[derive(Clone, Copy, Debug)]
struct Heard {
    history: History,
    first: Duration,
    last: Duration,
}

/// What one instance knows of one database's history. Times are of any monotonic clock, since its start.
#[derive(Clone, Debug, Default)]
pub struct HistoryMonitor {
    /// At most [`REMEMBERED`].
    heard: Vec<Heard>,
    /// When the last statement was sent that has returned.
    newest: Option<Duration>,
    /// When a statement failed that was sent after that.
    failed: Option<Duration>,
}

impl HistoryMonitor {
    /// No history is known.
    pub const fn new() -> Self {
        Self { heard: Vec::new(), newest: None, failed: None }
    }

    /// Notes that a statement that was sent at that time returned the history.
    pub fn heard(&mut self, history: History, sent: Duration) {
        if self.newest <= Some(sent) {
            self.newest = Some(sent);
            self.failed = None;
        }
        let known = self.heard.iter_mut().find(|heard| heard.history == history);
        if let Some(heard) = known {
            heard.last = heard.last.max(sent);
            return;
        }
        let new = Heard { history, first: sent, last: sent };
        if self.heard.len() < REMEMBERED {
            self.heard.push(new);
        } else if let Some(oldest) = self.heard.iter_mut().min_by_key(|heard| heard.last) {
            *oldest = new;
        }
    }

    /// Notes that a statement that was sent at that time failed or timed out. It is ignored if a later statement has
    /// succeeded: it may have been sent to a server that no longer exists.
    pub fn failed(&mut self, sent: Duration, now: Duration) {
        if self.newest <= Some(sent) {
            self.failed = Some(now);
        }
    }

    /// What is known now.
    pub fn known(&self, now: Duration) -> KnownHistory {
        let last = self.present(self.newest.unwrap_or_default());
        if self.failed.is_some_and(|failed| now < failed + OUTAGE) {
            return KnownHistory::Unreachable { last };
        }
        match self.newest {
            Some(sent) if now < sent + TRUSTED_FOR => KnownHistory::Current(self.present(now)),
            _ => KnownHistory::Unknown { last },
        }
    }

    /// The histories that statements returned within [`TRUSTED_FOR`] before that time. A history that no statement has
    /// returned since another one first appeared is over. Servers that serve together return theirs in turns.
    fn present(&self, time: Duration) -> HistorySet {
        let followed = self.heard.iter().map(|heard| heard.first).max().unwrap_or_default();
        let is_present = |heard: &&Heard| time < heard.last + TRUSTED_FOR && followed <= heard.last;
        self.heard.iter().filter(is_present).map(|heard| heard.history).collect()
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

    fn current(histories: &[History]) -> KnownHistory {
        KnownHistory::Current(histories.iter().copied().collect())
    }

    #[test]
    fn what_was_heard_is_trusted_for_three_seconds_from_when_it_was_asked() {
        let mut monitor = HistoryMonitor::new();
        assert_eq!(monitor.known(S), KnownHistory::Unknown { last: HistorySet::default() });
        monitor.heard(ONE, S);
        assert_eq!(monitor.known(S * 4 - S / 8), current(&[ONE]));
        let last = HistorySet::from(ONE);
        assert_eq!(monitor.known(S * 4), KnownHistory::Unknown { last });
        monitor.heard(OTHER, S * 5);
        assert_eq!(monitor.known(S * 5), current(&[OTHER]));
        // A late response of a server that no longer exists.
        monitor.heard(ONE, S * 2);
        assert_eq!(monitor.known(S * 5), current(&[OTHER]));
    }

    #[test]
    fn a_failure_counts_for_two_seconds_unless_a_later_statement_succeeds() {
        let mut monitor = HistoryMonitor::new();
        monitor.failed(S, S * 2);
        let last = HistorySet::default();
        let almost = S * 4 - S / 8;
        assert_eq!(monitor.known(almost), KnownHistory::Unreachable { last });
        assert_eq!(monitor.known(S * 4), KnownHistory::Unknown { last });
        monitor.heard(ONE, S * 4);
        assert_eq!(monitor.known(S * 4), current(&[ONE]));
        monitor.failed(S * 3, S * 5);
        assert_eq!(monitor.known(S * 5), current(&[ONE]));
        monitor.failed(S * 5, S * 6);
        let last = HistorySet::from(ONE);
        assert_eq!(monitor.known(S * 6), KnownHistory::Unreachable { last });
        monitor.heard(OTHER, S * 6);
        assert_eq!(monitor.known(S * 6), current(&[OTHER]));
    }

    #[test]
    fn servers_that_are_heard_in_turns_are_all_believed_and_one_that_was_followed_is_not() {
        let mut monitor = HistoryMonitor::new();
        monitor.heard(ONE, S);
        monitor.heard(OTHER, S * 2);
        assert_eq!(monitor.known(S * 2), current(&[OTHER]), "it may have followed");
        monitor.heard(ONE, S * 3);
        assert_eq!(monitor.known(S * 3), current(&[ONE, OTHER]), "it has not");
        assert_eq!(monitor.known(S * 5), current(&[ONE]), "each for three seconds");
        monitor.failed(S * 4, S * 60);
        let last = [ONE, OTHER].into_iter().collect();
        assert_eq!(monitor.known(S * 60), KnownHistory::Unreachable { last });
        // One of them was followed by a third.
        let third = History([3; 8]);
        monitor.heard(OTHER, S * 61);
        monitor.heard(third, S * 62);
        assert_eq!(monitor.known(S * 62), current(&[third]));
        monitor.heard(OTHER, S * 63);
        assert_eq!(monitor.known(S * 63), current(&[OTHER, third]));
    }

    #[test]
    fn few_histories_are_remembered() {
        let mut monitor = HistoryMonitor::new();
        for turn in 0..100 {
            monitor.heard(History([turn % 50; 8]), S / 100 * u32::from(turn));
        }
        assert_eq!(monitor.heard.len(), REMEMBERED);
        assert_eq!(monitor.known(S).last().iter().count(), 1, "none is heard again before it is forgotten");
    }
}
