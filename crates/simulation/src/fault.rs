//! What can go wrong, and where in the protocol.

use std::fmt;

/// A call of the protocol, as faults are placed at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// The reservation.
    Reserve,
    /// The insertion of what is most likely new, for itself and for others.
    InsertNew,
    /// Waiting for another request of the instance, which inserts for both.
    Wait,
    /// The insertion, or else the finding.
    Insert,
    /// The insertion, asked again after a conflict.
    InsertAgain,
    /// The taking of the customer's lock.
    Lock,
    /// The search for a retry's order, while somebody else has the lock.
    Find,
    /// The insertion on a condition.
    Follow,
    /// The giving up of the lock.
    Release,
    /// The finishing of the record.
    Finish,
}

impl Point {
    /// All of them, in the protocol's order.
    pub const ALL: [Self; 10] = [
        Self::Reserve,
        Self::InsertNew,
        Self::Wait,
        Self::Insert,
        Self::InsertAgain,
        Self::Lock,
        Self::Find,
        Self::Follow,
        Self::Release,
        Self::Finish,
    ];

    /// Whether it is a call of Redis.
    pub fn is_redis(self) -> bool {
        matches!(
            self,
            Self::Reserve | Self::Lock | Self::Release | Self::Finish
        )
    }
}

/// Something that goes wrong at a call, or just before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The request ends (trap, host killed) before the store gets the call.
    DiesBefore,
    /// The request ends after the store has executed the call.
    DiesAfter,
    /// The request ends, and the store executes the call some time later, or never.
    DiesInFlight,
    /// The store executes the call; its answer is lost.
    AnswerLost,
    /// No answer within the deadline; the store executes the call some time later, or never.
    Hangs,
    /// The store refuses the call.
    Refuses,
    /// The store executes the call and answers something else.
    Garbage,
    /// Before the call, Redis loses everything.
    Flush,
    /// Before the call, Redis drops this key, or this lock: expired, or evicted.
    Evict,
    /// Before the call, Redis goes back to before its last write: restarted from an older file, failed over.
    Rollback,
    /// Before the call, a record of a version from the future takes the place of this key's.
    FutureRecord,
    /// Before the call, Postgres restarts: whatever it was at is undone and its connections are gone.
    PostgresRestart,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::DiesBefore,
        Self::DiesAfter,
        Self::DiesInFlight,
        Self::AnswerLost,
        Self::Hangs,
        Self::Refuses,
        Self::Garbage,
        Self::Flush,
        Self::Evict,
        Self::Rollback,
        Self::FutureRecord,
        Self::PostgresRestart,
    ];

    /// Whether it can happen at that call. Postgres's answers are checked by its protocol and driver, and
    /// nobody reads the answer to a finishing. Who waits can only die.
    pub fn applies_at(self, point: Point) -> bool {
        match (self, point) {
            (Self::DiesBefore, Point::Wait) => true,
            (_, Point::Wait) => false,
            (Self::Garbage, _) => matches!(point, Point::Reserve | Point::Lock),
            (Self::FutureRecord, Point::Lock | Point::Release) => false,
            _ => true,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::DiesBefore => "request dies before the call",
            Self::DiesAfter => "request dies after the call",
            Self::DiesInFlight => "request dies, call lands later",
            Self::AnswerLost => "answer lost",
            Self::Hangs => "hangs, call lands later",
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
