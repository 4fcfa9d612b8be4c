//! Redis, Postgres and the clock as far as the protocol can tell. `tests/stores` compares the stores with the real
//! ones.

use std::collections::BTreeMap;
use std::time::Duration;

use exactly_once::condition::Expected;
use exactly_once::ports::{Attempt, ConditionalInsertion, Insertion, List, NewResource, StoredResource};
use exactly_once::{IdempotencyKey, KeyScope, ListState, Progress, Record, ResourceId};
use exactly_once_stores::redis::Reply;
use uuid::Uuid;

use crate::tables::{Moment, Snapshot, Tables, with};

/// What Redis says is left of the lease of any lock.
pub const REMAINING_LEASE: Duration = Duration::from_secs(5);

/// A call of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Set-if-absent of a record that returns the existing one.
    Reserve(KeyScope, Record),
    /// Set of a record.
    Set(KeyScope, Record),
    /// Deletes a scope's record if it is still this one.
    Withdraw(KeyScope, Record),
    /// Only for broken variants: deletes what the scope holds.
    Delete(KeyScope),
    /// Inserts unless the scope has a resource.
    Insert(Box<NewResource>),
    /// Inserts those resources of one collection that conflict with nothing; never empty.
    InsertAll(Vec<NewResource>),
    /// Takes the lock of a scope's list unless another key holds it.
    Acquire(KeyScope),
    /// Releases the lock of a scope's list if the key has it.
    Release(KeyScope),
    /// Looks for the resource of a scope.
    Find(KeyScope),
    /// Asks Postgres for its history.
    AskHistory,
    /// Draws one unless there is one.
    DrawHistory,
    /// Inserts on an expected state unless the scope has a resource.
    InsertBasedOn(Box<NewResource>, Expected),
    /// Only for broken variants: inserts, based on a state, without a constraint.
    InsertBasedOnUnchecked(Box<NewResource>, ListState),
    /// Only for broken variants: the same as `InsertBasedOn`, with a snapshot that lacks the last commit.
    InsertBasedOnOld(Box<NewResource>, Expected),
    /// Only for broken variants: inserts without a constraint.
    InsertUnchecked(Box<NewResource>),
    /// Only for broken variants: sends an insertion and does not wait for its answer.
    InsertUnawaited(Box<NewResource>),
}

impl Call {
    /// Whether it is a call of Postgres.
    pub fn is_postgres(&self) -> bool {
        self.new_resource().is_some() || matches!(self, Self::Find(_) | Self::AskHistory | Self::DrawHistory)
    }

    /// The resource to insert, or the first of several.
    pub fn new_resource(&self) -> Option<&NewResource> {
        match self {
            Self::Reserve(..)
            | Self::Set(..)
            | Self::Withdraw(..)
            | Self::Delete(_)
            | Self::Acquire(..)
            | Self::Release(..)
            | Self::Find(_)
            | Self::AskHistory
            | Self::DrawHistory => None,
            Self::InsertBasedOn(new, _) | Self::InsertBasedOnUnchecked(new, _) | Self::InsertBasedOnOld(new, _) => {
                Some(new)
            }
            Self::Insert(new) | Self::InsertUnchecked(new) | Self::InsertUnawaited(new) => Some(new),
            Self::InsertAll(batch) => batch.first(),
        }
    }

    /// The scope, or the first of several.
    pub fn scope(&self) -> Option<&KeyScope> {
        match self {
            Self::Reserve(scope, _)
            | Self::Set(scope, _)
            | Self::Withdraw(scope, _)
            | Self::Delete(scope)
            | Self::Find(scope) => Some(scope),
            _ => self.new_resource().map(|new| &new.scope),
        }
    }
}

/// A store's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a call of Redis.
    Redis(Reply),
    /// To an insertion.
    Postgres(Insertion),
    /// To an insertion on a condition.
    Conditional(ConditionalInsertion),
    /// To a search.
    Found(Option<StoredResource>),
    /// To the question for the history.
    History,
    /// To an insertion of several resources.
    Attempts(Vec<Attempt>),
}

/// What Redis holds.
#[derive(Clone, Debug, Default)]
struct Redis {
    records: BTreeMap<KeyScope, Vec<u8>>,
    locks: BTreeMap<List, IdempotencyKey>,
}

/// The stores' state.
#[derive(Clone, Debug, Default)]
pub struct World {
    redis: Redis,
    /// Redis before each of its writes, for [`World::roll_back`].
    redis_before: Vec<Redis>,
    /// Postgres.
    pub tables: Tables,
    drawn: u128,
    now: Duration,
    /// How often a record was written or lost.
    record_changes: u64,
    /// The scope of a completed record that a call has replaced by a record in progress, or deleted.
    pub completion_lost: Option<KeyScope>,
}

impl World {
    /// What Redis holds for a scope.
    pub fn record(&self, scope: &KeyScope) -> Option<&[u8]> {
        self.redis.records.get(scope).map(Vec::as_slice)
    }

    /// All records that Redis holds.
    pub fn records(&self) -> impl Iterator<Item = (&KeyScope, &[u8])> {
        self.redis.records.iter().map(|(scope, bytes)| (scope, bytes.as_slice()))
    }

    /// A value that differs once a row or a record has changed.
    pub fn version(&self) -> (Moment, u64) {
        (self.tables.moment(), self.record_changes)
    }

    /// The clock.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Time passes.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// An id that was never drawn before, of version 7 and with the current time.
    pub fn draw_id(&mut self) -> ResourceId {
        self.drawn += 1;
        let (version, variant) = (7_u128 << 76, 2_u128 << 62);
        ResourceId::from_uuid(Uuid::from_u128((self.now.as_millis() << 80) | version | variant | self.drawn))
    }

    /// Executes a call in one step.
    pub fn execute(&mut self, call: &Call, snapshot: Snapshot) -> Answer {
        match call {
            Call::Reserve(scope, record) => {
                let found = self.redis.records.get(scope).cloned();
                if found.is_none() {
                    self.set(scope, record);
                }
                Answer::Redis(found.map_or(Reply::Nil, Reply::Bytes))
            }
            Call::Set(scope, record) => {
                if record.progress == Progress::InProgress && self.is_completed(scope) {
                    self.completion_lost = Some(scope.clone());
                }
                self.set(scope, record);
                Answer::Redis(Reply::Bytes(b"OK".to_vec()))
            }
            Call::Withdraw(scope, record) => {
                let own = self.record(scope) == Some(&record.encode());
                if own {
                    self.delete(scope);
                }
                Answer::Redis(Reply::Bytes(if own { b"1" } else { b"0" }.to_vec()))
            }
            Call::Delete(scope) => {
                self.delete(scope);
                Answer::Redis(Reply::Bytes(b"1".to_vec()))
            }
            Call::Acquire(scope) => {
                let held = self.redis.locks.get(&List::from(scope));
                if held.is_some_and(|other| *other != scope.key) {
                    let remaining = REMAINING_LEASE.as_millis().to_string();
                    return Answer::Redis(Reply::Bytes(remaining.into_bytes()));
                }
                self.redis_before.push(self.redis.clone());
                self.redis.locks.insert(List::from(scope), scope.key.clone());
                Answer::Redis(Reply::Nil)
            }
            Call::Release(scope) => {
                let list = List::from(scope);
                let own = self.redis.locks.get(&list) == Some(&scope.key);
                if own {
                    self.redis_before.push(self.redis.clone());
                    self.redis.locks.remove(&list);
                }
                Answer::Redis(Reply::Bytes(if own { b"1" } else { b"0" }.to_vec()))
            }
            Call::Find(scope) => {
                let found = self.tables.row_of(scope).map(|row| row.resource.clone());
                if found.is_some() {
                    self.tables.wait_for_standbys();
                }
                Answer::Found(found)
            }
            Call::AskHistory => Answer::History,
            Call::DrawHistory => {
                self.tables.draw_history();
                Answer::History
            }
            Call::InsertBasedOn(new, expected) => {
                let inserted = self.tables.insert_based_on(new, expected, snapshot);
                Answer::Conditional(inserted)
            }
            Call::InsertBasedOnOld(new, expected) => {
                let inserted = self.tables.insert_based_on(new, expected, snapshot.earlier());
                Answer::Conditional(inserted)
            }
            Call::InsertBasedOnUnchecked(new, state) => {
                self.tables.push(new, Some(*state));
                Answer::Conditional(ConditionalInsertion::Inserted(with(state, new.id)))
            }
            Call::Insert(new) => Answer::Postgres(self.tables.insert(new, snapshot)),
            Call::InsertAll(batch) => {
                let attempts = batch.iter().map(|new| self.tables.attempt(new, None));
                Answer::Attempts(attempts.collect())
            }
            Call::InsertUnchecked(new) | Call::InsertUnawaited(new) => {
                self.tables.push(new, None);
                Answer::Postgres(Insertion::Inserted)
            }
        }
    }

    /// Whether a call waits for a transaction that is open. Without a snapshot it begins now.
    pub fn must_wait(&self, call: &Call, snapshot: Option<Snapshot>) -> bool {
        let snapshot = snapshot.unwrap_or_else(|| self.tables.snapshot());
        match call {
            Call::Insert(new) => self.tables.must_wait(new, None, snapshot),
            Call::InsertBasedOn(new, expected) => self.tables.must_wait(new, Some(expected), snapshot),
            Call::InsertAll(batch) => {
                let mut batch = batch.iter();
                batch.any(|new| self.tables.must_wait(new, None, snapshot))
            }
            _ => false,
        }
    }

    fn is_completed(&self, scope: &KeyScope) -> bool {
        let record = self.record(scope).and_then(Record::decode);
        record.is_some_and(|record| record.progress != Progress::InProgress)
    }

    fn delete(&mut self, scope: &KeyScope) {
        self.record_changes += 1;
        if self.is_completed(scope) {
            self.completion_lost = Some(scope.clone());
        }
        self.redis_before.push(self.redis.clone());
        self.redis.records.remove(scope);
    }

    fn set(&mut self, scope: &KeyScope, record: &Record) {
        self.record_changes += 1;
        self.redis_before.push(self.redis.clone());
        self.redis.records.insert(scope.clone(), record.encode());
    }

    /// Redis loses everything.
    pub fn flush(&mut self) {
        self.record_changes += 1;
        self.redis = Redis::default();
    }

    /// Redis loses a record.
    pub fn evict(&mut self, scope: &KeyScope) {
        self.record_changes += 1;
        self.redis.records.remove(scope);
    }

    /// Redis loses a lock, or its lease ends.
    pub fn evict_lock(&mut self, list: &List) {
        self.redis.locks.remove(list);
    }

    /// The leases of all locks end.
    pub fn expire_locks(&mut self) {
        self.redis.locks.clear();
    }

    /// Redis goes back to its state before its last write.
    pub fn roll_back(&mut self) {
        self.record_changes += 1;
        if let Some(before) = self.redis_before.pop() {
            self.redis = before;
        }
    }

    /// Puts a record of a future version under a scope. Read as one of this version, it would be a completed record
    /// of a resource that does not exist.
    pub fn plant_future_record(&mut self, scope: &KeyScope, like: Option<Record>) {
        let (Some(like), Some(history)) = (like, self.tables.history()) else {
            return;
        };
        self.record_changes += 1;
        let id = self.draw_id();
        let mut bytes = Record { progress: Progress::Completed(history), id, ..like }.encode();
        if let Some(version) = bytes.first_mut() {
            *version = 2;
        }
        self.redis.records.insert(scope.clone(), bytes);
    }
}
