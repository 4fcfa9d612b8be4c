//! The faults, and the calls of the protocol at which they happen.

use std::time::Duration;

use crate::texts::texts;

texts! {
    /// A call of the protocol, in its order.
    Point {
        Reserve = "The reservation",
        AskHistory = "The question for the database's history, or drawing one",
        InsertNew = "The insertion of a resource that is most likely new, alone or together with others",
        Wait = "A wait for other requests: a leader's, a waiter's, or for another's question for the history",
        Insert = "The insertion that returns the existing resource",
        InsertAgain = "The same insertion, repeated after a conflict or a failure",
        Acquire = "Taking the list's lock",
        Find = "The search for a retry's resource while another request holds the lock",
        InsertBasedOn = "The insertion on a condition, up to its commit",
        Commit = "Its commit. Until then, statements that conflict with it wait",
        Release = "Releasing the lock",
        Withdraw = "Deleting the record of a rejected request",
        Complete = "Writing the completed record",
    }
}

texts! {
    /// A fault during a call, or just before it.
    Fault {
        /// The request ends (trap, host killed) before the store receives the call.
        DiesBefore = "request dies before the call",
        /// The request ends after the store has executed the call.
        DiesAfter = "request dies after the call",
        /// The request ends; the store executes the call later, or never.
        DiesCallDelayed = "request dies, call is delayed",
        /// The store executes the call; its answer is lost with the connection.
        AnswerLost = "answer lost",
        /// No answer within the request's time for the store; the store executes the call later, or never.
        TimesOut = "time-out, call is delayed",
        /// The store executes the call; its answer takes [`SLOW`]. The second one comes after the request's time.
        Slow = "answer after 3 seconds",
        /// The store rejects the call and new connections.
        Refuses = "refused",
        /// Another transaction makes the statement fail: it is undone. One that waits has waited for as long as it may.
        Conflicts = "another transaction in the way",
        /// The store executes the call; its answer is replaced by bytes without meaning.
        Garbage = "garbage answered",
        /// Before the call, Redis loses everything.
        Flush = "Redis flushed",
        /// Before the call, Redis loses its key: a record or a lock that expired or was evicted.
        Evict = "key expired or evicted",
        /// Before the call, Redis loses its last write: it was restarted from an older file, or failed over.
        Rollback = "Redis loses its last write",
        /// Before the call, a record of a future version replaces the key's record.
        FutureRecord = "record of a future version",
        /// Before the call, Postgres recovers from a crash: statements under way are undone, and all connections are
        /// closed. Its incarnation stays the same.
        PostgresRestart = "Postgres restarts",
        /// Before the call, a Postgres server that lacks the last commits takes over: besides, half of the rows are
        /// lost.
        Failover = "Postgres loses its last rows",
        /// The store executes the call. While its commit waits for a standby, the server crashes: the row is visible
        /// then, and no standby has it.
        CrashWhileWaiting = "Postgres crashes while the commit waits for a standby",
        /// Before the call, a synchronous standby takes over: besides, rows are lost that no standby has.
        Promotion = "Postgres loses what no standby has",
        /// Before the call, [`PAUSE`] passes for the stores and the instances. No request's time ends.
        TimePasses = "two minutes pass",
    }
}

/// How long a slow answer takes.
pub const SLOW: Duration = Duration::from_secs(3);

/// Longer than an instance believes a history, than a lock's lease, and than a request takes.
pub const PAUSE: Duration = Duration::from_secs(120);

impl Fault {
    /// Those after which Postgres still has what it has committed.
    pub const WITHOUT_LOSS: [Self; 13] = [
        Self::DiesBefore,
        Self::DiesAfter,
        Self::DiesCallDelayed,
        Self::AnswerLost,
        Self::TimesOut,
        Self::Refuses,
        Self::Conflicts,
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

    /// What synchronous replication must survive.
    pub const OF_REPLICATION: [Self; 4] = [Self::CrashWhileWaiting, Self::Promotion, Self::AnswerLost, Self::Evict];

    /// Those that let statements wait for one another, and end the waits.
    pub const OF_WAITS: [Self; 3] = [Self::Conflicts, Self::Evict, Self::PostgresRestart];

    /// The faults that lose the answer to a question for the history, or make that answer matter.
    pub const OF_QUESTIONS: [Self; 3] = [Self::Failover, Self::DiesBefore, Self::TimesOut];

    /// What can happen to a statement that waits for another one's end.
    pub const WHILE_WAITING: [Self; 6] = [
        Self::DiesBefore,
        Self::DiesCallDelayed,
        Self::TimesOut,
        Self::Conflicts,
        Self::PostgresRestart,
        Self::Failover,
    ];

    /// Whether the fault can happen at that call. Postgres's protocol and driver check its answers, and no request
    /// reads the answer to a completion. A waiting request makes no call, so it can only die. A fault of Redis during
    /// an insertion on a condition is the same as before it. A shared insertion and Redis have so little time that a
    /// slow answer counts as lost.
    pub fn applies_at(self, point: Point) -> bool {
        let has_time = matches!(
            point,
            Point::AskHistory | Point::Insert | Point::InsertAgain | Point::Find | Point::InsertBasedOn
        );
        match (self, point) {
            (Self::DiesBefore, Point::Wait) => true,
            (_, Point::Wait) => false,
            (Self::AnswerLost, Point::Commit) => true,
            (_, Point::Commit) => Self::WHILE_WAITING.contains(&self),
            (Self::CrashWhileWaiting, _) => {
                matches!(point, Point::InsertNew | Point::Insert | Point::InsertAgain | Point::InsertBasedOn)
            }
            (Self::Conflicts, _) => has_time || point == Point::InsertNew,
            (Self::Garbage, _) => matches!(point, Point::Reserve | Point::Acquire),
            (Self::Slow, _) => has_time,
            (Self::FutureRecord, Point::Acquire | Point::Release) => false,
            _ => true,
        }
    }
}
