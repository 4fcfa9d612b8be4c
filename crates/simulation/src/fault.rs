//! The faults, and the calls of the protocol at which they happen.

use std::fmt;

/// A call of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// The reservation.
    Reserve,
    /// The insertion of a resource that is most likely new, alone or together with others.
    InsertNew,
    /// A waiter's or a leader's wait for other requests of the instance.
    Wait,
    /// The insertion that returns the existing resource.
    Insert,
    /// The same, repeated after a conflict.
    InsertAgain,
    /// Taking the list's lock.
    Acquire,
    /// The search for a retry's resource while another request holds the lock.
    Find,
    /// The insertion on a condition.
    InsertBasedOn,
    /// Releasing the lock.
    Release,
    /// Deleting the record of a refused request.
    Withdraw,
    /// Writing the completed record.
    Complete,
}

impl Point {
    /// All of them, in the protocol's order.
    pub const ALL: [Self; 11] = [
        Self::Reserve,
        Self::InsertNew,
        Self::Wait,
        Self::Insert,
        Self::InsertAgain,
        Self::Acquire,
        Self::Find,
        Self::InsertBasedOn,
        Self::Release,
        Self::Withdraw,
        Self::Complete,
    ];
}

/// A fault during a call, or just before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The request ends (trap, host killed) before the store receives the call.
    DiesBefore,
    /// The request ends after the store has executed the call.
    DiesAfter,
    /// The request ends; the store executes the call later, or never.
    DiesCallDelayed,
    /// The store executes the call; its answer is lost.
    AnswerLost,
    /// No answer within the deadline; the store executes the call later, or never.
    TimesOut,
    /// The store refuses the call.
    Refuses,
    /// The store executes the call; its answer is replaced by bytes without meaning.
    Garbage,
    /// Before the call, Redis loses everything.
    Flush,
    /// Before the call, Redis loses its key: a record or a lock that expired or was evicted.
    Evict,
    /// Before the call, Redis loses its last write: it was restarted from an older file, or failed over.
    Rollback,
    /// Before the call, a record of a future version replaces the key's record.
    FutureRecord,
    /// Before the call, Postgres restarts: statements under way are undone, and all connections are closed.
    PostgresRestart,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::DiesBefore,
        Self::DiesAfter,
        Self::DiesCallDelayed,
        Self::AnswerLost,
        Self::TimesOut,
        Self::Refuses,
        Self::Garbage,
        Self::Flush,
        Self::Evict,
        Self::Rollback,
        Self::FutureRecord,
        Self::PostgresRestart,
    ];

    /// Whether it can happen at that call. Postgres's answers are checked by its protocol and driver, and no request
    /// reads the answer to a completion. A waiting request makes no call: it can only die.
    pub fn applies_at(self, point: Point) -> bool {
        match (self, point) {
            (Self::DiesBefore, Point::Wait) => true,
            (_, Point::Wait) => false,
            (Self::Garbage, _) => matches!(point, Point::Reserve | Point::Acquire),
            (Self::FutureRecord, Point::Acquire | Point::Release) => false,
            _ => true,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::DiesBefore => "request dies before the call",
            Self::DiesAfter => "request dies after the call",
            Self::DiesCallDelayed => "request dies, call is delayed",
            Self::AnswerLost => "answer lost",
            Self::TimesOut => "time-out, call is delayed",
            Self::Refuses => "refused",
            Self::Garbage => "garbage answered",
            Self::Flush => "Redis flushed",
            Self::Evict => "key expired or evicted",
            Self::Rollback => "Redis loses its last write",
            Self::FutureRecord => "record of a future version",
            Self::PostgresRestart => "Postgres restarts",
        })
    }
}
