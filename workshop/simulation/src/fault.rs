//! The faults, and the calls of the protocol at which they happen.

use std::fmt;
use std::time::Duration;

/// A call of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// The reservation.
    Reserve,
    /// The question for the database's history.
    AskHistory,
    /// The insertion of a resource that is most likely new, alone or together with others.
    InsertNew,
    /// A wait for other requests of the instance: a leader's or a waiter's, or for another's question for the history.
    Wait,
    /// The insertion that returns the existing resource.
    Insert,
    /// The same insertion, repeated after a conflict.
    InsertAgain,
    /// Taking the list's lock.
    Acquire,
    /// The search for a retry's resource while another request holds the lock.
    Find,
    /// The insertion on a condition, up to its commit.
    InsertBasedOn,
    /// Its commit. Until then, statements that conflict with it wait.
    Commit,
    /// Releasing the lock.
    Release,
    /// Deleting the record of a rejected request.
    Withdraw,
    /// Writing the completed record.
    Complete,
}

impl Point {
    /// All of them, in the protocol's order.
    pub const ALL: [Self; 13] = [
        Self::Reserve,
        Self::AskHistory,
        Self::InsertNew,
        Self::Wait,
        Self::Insert,
        Self::InsertAgain,
        Self::Acquire,
        Self::Find,
        Self::InsertBasedOn,
        Self::Commit,
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
    /// No answer within the request's time for the store; the store executes the call later, or never.
    TimesOut,
    /// The store executes the call; its answer takes [`SLOW`]. The second such answer comes after the request's time.
    Slow,
    /// The store rejects the call; before a commit: it undoes the statement.
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
    /// Before the call, a Postgres server that lacks the last commits takes over: besides, half of the rows are lost.
    Failover,
    /// Before the call, [`PAUSE`] passes.
    TimePasses,
}

/// How long a slow answer takes.
pub const SLOW: Duration = Duration::from_secs(3);

/// Longer than an instance believes what it has heard, than a lock's lease, and than a request takes.
pub const PAUSE: Duration = Duration::from_secs(120);

impl Fault {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::DiesBefore,
        Self::DiesAfter,
        Self::DiesCallDelayed,
        Self::AnswerLost,
        Self::TimesOut,
        Self::Slow,
        Self::Refuses,
        Self::Garbage,
        Self::Flush,
        Self::Evict,
        Self::Rollback,
        Self::FutureRecord,
        Self::PostgresRestart,
        Self::Failover,
        Self::TimePasses,
    ];

    /// Those after which Postgres still has what it has committed.
    pub const WITHOUT_LOSS: [Self; 12] = [
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

    /// Those that make a failover worse.
    pub const WITH_LOSS: [Self; 9] = [
        Self::Failover,
        Self::TimePasses,
        Self::DiesBefore,
        Self::DiesAfter,
        Self::DiesCallDelayed,
        Self::AnswerLost,
        Self::TimesOut,
        Self::Slow,
        Self::Evict,
    ];

    /// Those that let statements wait for one another, and end the waits.
    pub const OF_WAITS: [Self; 3] = [Self::Refuses, Self::Evict, Self::PostgresRestart];

    /// The faults that leave a question for the history unanswered, or make the answer matter.
    pub const OF_QUESTIONS: [Self; 3] = [Self::Failover, Self::DiesBefore, Self::TimesOut];

    /// What can happen to a statement that waits for another one's end.
    pub const WHILE_WAITING: [Self; 6] = [
        Self::DiesBefore,
        Self::DiesCallDelayed,
        Self::TimesOut,
        Self::Refuses,
        Self::PostgresRestart,
        Self::Failover,
    ];

    /// Whether the fault can happen at that call. Postgres's protocol and driver check its answers, and no request
    /// reads the answer to a completion. A waiting request makes no call, so it can only die. A fault of Redis during
    /// an insertion on a condition is the same as before it. A shared insertion and Redis have so little time that a
    /// slow answer counts as lost.
    pub fn applies_at(self, point: Point) -> bool {
        match (self, point) {
            (Self::DiesBefore, Point::Wait) => true,
            (_, Point::Wait) => false,
            (Self::AnswerLost, Point::Commit) => true,
            (_, Point::Commit) => Self::WHILE_WAITING.contains(&self),
            (Self::Garbage, _) => matches!(point, Point::Reserve | Point::Acquire),
            (Self::Slow, _) => matches!(
                point,
                Point::AskHistory | Point::Insert | Point::InsertAgain | Point::Find | Point::InsertBasedOn
            ),
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
            Self::Slow => "answer after 3 seconds",
            Self::Refuses => "refused",
            Self::Garbage => "garbage answered",
            Self::Flush => "Redis flushed",
            Self::Evict => "key expired or evicted",
            Self::Rollback => "Redis loses its last write",
            Self::FutureRecord => "record of a future version",
            Self::PostgresRestart => "Postgres restarts",
            Self::Failover => "Postgres loses its last rows",
            Self::TimePasses => "two minutes pass",
        })
    }
}
