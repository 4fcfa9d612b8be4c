//! Redis and Postgres as far as the protocol can tell. `tests/stores` compares this with the real ones.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::condition::Expected;
use protocol::ports::{
    Attempt, ConditionalInsertion, Insertion, List, NewResource, Page, StoredResource,
};
use protocol::{History, KeyScope, ListState, Progress, Record, ResourceId};
use stores::redis::Reply;
use uuid::Uuid;

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
    /// Inserts unless the scope has a resource.
    Insert(Box<NewResource>),
    /// Inserts those resources of one collection that conflict with nothing; never empty.
    InsertAll(Vec<NewResource>),
    /// Takes a list's lock unless another request holds it.
    Acquire(List, ResourceId),
    /// Releases a list's lock if the holder has it.
    Release(List, ResourceId),
    /// Looks for the resource of a scope.
    Find(KeyScope),
    /// Inserts on an expected state unless the scope has a resource.
    InsertBasedOn(Box<NewResource>, Expected),
    /// Only for broken variants: inserts, based on a state, without a constraint.
    InsertBasedOnUnchecked(Box<NewResource>, ListState),
    /// Only for broken variants: inserts without a constraint.
    InsertUnchecked(Box<NewResource>),
    /// Only for broken variants: sends an insertion and does not wait for its answer.
    InsertUnawaited(Box<NewResource>),
}

impl Call {
    /// Whether it is a call of Postgres.
    pub fn is_postgres(&self) -> bool {
        self.new_resource().is_some() || matches!(self, Self::Find(_))
    }

    /// The resource to insert, or the first of several.
    pub fn new_resource(&self) -> Option<&NewResource> {
        match self {
            Self::Reserve(..)
            | Self::Set(..)
            | Self::Withdraw(..)
            | Self::Acquire(..)
            | Self::Release(..)
            | Self::Find(_) => None,
            Self::InsertBasedOn(new, _) | Self::InsertBasedOnUnchecked(new, _) => Some(new),
            Self::Insert(new) | Self::InsertUnchecked(new) | Self::InsertUnawaited(new) => {
                Some(new)
            }
            Self::InsertAll(batch) => batch.first(),
        }
    }

    /// The scope, or the first of several.
    pub fn scope(&self) -> Option<&KeyScope> {
        match self {
            Self::Reserve(scope, _)
            | Self::Set(scope, _)
            | Self::Withdraw(scope, _)
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
    /// To an insertion of several resources.
    Attempts(Vec<Attempt>),
    /// None, as far as the request can tell.
    Nothing,
}

/// The rows that a statement can see: their number when it began. Rows are only ever added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot(usize);

/// A row. Its table is that of its scope's collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its collection, customer and key.
    pub scope: KeyScope,
    /// The resource.
    pub resource: StoredResource,
    /// The state that it is based on, if it was created on a condition.
    pub based_on: Option<ListState>,
}

impl Row {
    fn is_in(&self, list: &List) -> bool {
        self.scope.collection == list.collection && self.scope.customer == list.customer
    }
}

/// What Redis holds.
#[derive(Clone, Debug, Default)]
struct Redis {
    records: BTreeMap<KeyScope, Vec<u8>>,
    locks: BTreeMap<List, ResourceId>,
}

/// The stores' state.
#[derive(Clone, Debug, Default)]
pub struct World {
    redis: Redis,
    /// Redis before each of its writes, for [`World::roll_back`].
    redis_before: Vec<Redis>,
    rows: Vec<Row>,
    drawn: u128,
    /// How often the database has lost its last rows.
    failovers: u64,
    /// The scope of a completed record that a call has replaced by a record in progress.
    pub completion_lost: Option<KeyScope>,
}

impl World {
    /// What Redis holds for a scope.
    pub fn record(&self, scope: &KeyScope) -> Option<&[u8]> {
        self.redis.records.get(scope).map(Vec::as_slice)
    }

    /// All records that Redis holds.
    pub fn records(&self) -> impl Iterator<Item = (&KeyScope, &[u8])> {
        self.redis
            .records
            .iter()
            .map(|(scope, bytes)| (scope, bytes.as_slice()))
    }

    /// All rows of all tables, in the order of their commits.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The first resource of a scope.
    pub fn resource_of(&self, scope: &KeyScope) -> Option<&StoredResource> {
        let row = self.rows.iter().find(|row| row.scope == *scope)?;
        Some(&row.resource)
    }

    /// The row of a list's resource.
    pub fn row(&self, list: &List, id: ResourceId) -> Option<&Row> {
        let is_it = |row: &&Row| row.is_in(list) && row.resource.id == id;
        self.rows.iter().find(is_it)
    }

    /// A list's resource.
    pub fn find(&self, list: &List, id: ResourceId) -> Option<&StoredResource> {
        self.row(list, id).map(|row| &row.resource)
    }

    /// Up to `limit` of a list's resources, newest first: those older than `after`, if it is given. `None` when
    /// `after` is not in the list.
    pub fn page(&self, list: &List, after: Option<ResourceId>, limit: usize) -> Option<Page> {
        let mut newest_first = self.rows.iter().rev().filter(|row| row.is_in(list));
        if let Some(after) = after {
            newest_first.find(|row| row.resource.id == after)?;
        }
        let mut resources: Vec<_> = newest_first
            .take(limit.saturating_add(1))
            .map(|row| row.resource.clone())
            .collect();
        let more = resources.len() > limit;
        resources.truncate(limit);
        Some(Page {
            state: self.list_state(list),
            resources,
            more,
        })
    }

    /// An id that was never drawn before, of version 7 and with a time of its own.
    pub fn draw_id(&mut self) -> ResourceId {
        self.drawn += 1;
        let (version, variant) = (7_u128 << 76, 2_u128 << 62);
        ResourceId::from_uuid(Uuid::from_u128(
            (self.drawn << 80) | version | variant | self.drawn,
        ))
    }

    /// What a statement that begins now can see.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.rows.len())
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
                let completed = |bytes: &[u8]| {
                    Record::decode(bytes).is_some_and(|r| r.progress != Progress::InProgress)
                };
                if record.progress == Progress::InProgress
                    && self.record(scope).is_some_and(completed)
                {
                    self.completion_lost = Some(scope.clone());
                }
                self.set(scope, record);
                Answer::Redis(Reply::Bytes(b"OK".to_vec()))
            }
            Call::Withdraw(scope, record) => {
                let own = self.record(scope) == Some(&record.encode());
                if own {
                    self.redis_before.push(self.redis.clone());
                    self.redis.records.remove(scope);
                }
                Answer::Redis(Reply::Bytes(if own { b"1" } else { b"0" }.to_vec()))
            }
            Call::Acquire(list, holder) => {
                let held = self.redis.locks.get(list);
                if held.is_some_and(|other| other != holder) {
                    let remaining = REMAINING_LEASE.as_millis().to_string();
                    return Answer::Redis(Reply::Bytes(remaining.into_bytes()));
                }
                self.redis_before.push(self.redis.clone());
                self.redis.locks.insert(list.clone(), *holder);
                Answer::Redis(Reply::Nil)
            }
            Call::Release(list, holder) => {
                let own = self.redis.locks.get(list) == Some(holder);
                if own {
                    self.redis_before.push(self.redis.clone());
                    self.redis.locks.remove(list);
                }
                Answer::Redis(Reply::Bytes(if own { b"1" } else { b"0" }.to_vec()))
            }
            Call::Find(scope) => Answer::Found(self.resource_of(scope).cloned()),
            Call::InsertBasedOn(new, expected) => {
                Answer::Conditional(self.insert_based_on(new, expected, snapshot))
            }
            Call::InsertBasedOnUnchecked(new, state) => {
                self.push(new, Some(*state));
                Answer::Conditional(ConditionalInsertion::Inserted(*state))
            }
            Call::Insert(new) => Answer::Postgres(self.insert(new, snapshot)),
            Call::InsertAll(batch) => {
                let attempts = batch.iter().map(|new| self.attempt(new, None));
                Answer::Attempts(attempts.collect())
            }
            Call::InsertUnchecked(new) | Call::InsertUnawaited(new) => {
                self.push(new, None);
                Answer::Postgres(Insertion::Inserted)
            }
        }
    }

    /// `stores::postgres::Statements::insert`: constraints apply to all rows, everything else sees the snapshot.
    fn insert(&mut self, new: &NewResource, Snapshot(visible): Snapshot) -> Insertion {
        if self.attempt(new, None) == Attempt::Inserted {
            return Insertion::Inserted;
        }
        self.rows
            .iter()
            .take(visible)
            .find(|row| row.scope == new.scope)
            .map_or(Insertion::Conflict, |row| {
                Insertion::Existing(row.resource.clone())
            })
    }

    /// `stores::postgres::Statements::insert_based_on`, in the same way.
    fn insert_based_on(
        &mut self,
        new: &NewResource,
        expected: &Expected,
        Snapshot(visible): Snapshot,
    ) -> ConditionalInsertion {
        let list = List::from(&new.scope);
        let before = state(&list, self.rows.iter().take(visible));
        let is_met = expected.is_met_by(&before);
        let based_on = (*expected != Expected::Any).then_some(before);
        if is_met && self.attempt(new, based_on) == Attempt::Inserted {
            let visible = self.rows.iter().take(visible);
            let after = state(&list, visible.chain(self.rows.last()));
            return ConditionalInsertion::Inserted(after);
        }
        let mut visible = self.rows.iter().take(visible);
        match visible.find(|row| row.scope == new.scope) {
            Some(row) => ConditionalInsertion::Existing(row.resource.clone()),
            None if is_met => ConditionalInsertion::Conflict,
            None => ConditionalInsertion::Stale(before),
        }
    }

    /// Inserts unless a unique constraint forbids it. All of them are about one list: the
    /// primary key contains the customer.
    fn attempt(&mut self, new: &NewResource, based_on: Option<ListState>) -> Attempt {
        let list = List::from(&new.scope);
        let conflicts = self.rows.iter().any(|row| {
            let is_second = based_on.is_some() && row.based_on == based_on;
            row.scope == new.scope || row.is_in(&list) && (row.resource.id == new.id || is_second)
        });
        if conflicts {
            return Attempt::Undecided;
        }
        self.push(new, based_on);
        Attempt::Inserted
    }

    fn push(&mut self, new: &NewResource, based_on: Option<ListState>) {
        self.rows.push(Row {
            scope: new.scope.clone(),
            resource: StoredResource {
                id: new.id,
                fingerprint: new.fingerprint,
                document: new.document.clone(),
            },
            based_on,
        });
    }

    fn set(&mut self, scope: &KeyScope, record: &Record) {
        self.redis_before.push(self.redis.clone());
        self.redis.records.insert(scope.clone(), record.encode());
    }

    /// The database's history.
    pub fn history(&self) -> History {
        #[allow(clippy::expect_used, reason = "8 bytes are a history")]
        History::from_bytes(&self.failovers.to_be_bytes()).expect("a history")
    }

    /// Postgres fails over to a server that lacks the last commits: the newer half of the rows is lost where replication
    /// is asynchronous. Another history begins.
    pub fn fail_over(&mut self, loses_rows: bool) {
        self.failovers += 1;
        if loses_rows {
            self.rows.truncate(self.rows.len() / 2);
        }
    }

    /// Redis loses everything.
    pub fn flush(&mut self) {
        self.redis = Redis::default();
    }

    /// Redis loses a record.
    pub fn evict(&mut self, scope: &KeyScope) {
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

    /// The state of a list.
    pub fn list_state(&self, list: &List) -> ListState {
        state(list, self.rows.iter())
    }

    /// Redis goes back to its state before its last write.
    pub fn roll_back(&mut self) {
        if let Some(before) = self.redis_before.pop() {
            self.redis = before;
        }
    }

    /// Puts a record of a future version under a scope. Read as one of this version, it would be a completed record
    /// of a resource that does not exist.
    pub fn plant_future_record(&mut self, scope: &KeyScope, like: Option<Record>) {
        let Some(like) = like else { return };
        let id = self.draw_id();
        let mut bytes = Record {
            progress: Progress::Completed(Some(self.history())),
            id,
            ..like
        }
        .encode();
        if let Some(version) = bytes.first_mut() {
            *version = 3;
        }
        self.redis.records.insert(scope.clone(), bytes);
    }
}

/// Differs with the collection, the customer and each row of the list, as the real one does.
fn state<'r>(list: &List, rows: impl Iterator<Item = &'r Row>) -> ListState {
    let ids = rows.filter(|row| row.is_in(list));
    let ids = ids.map(|row| u128::from_be_bytes(*row.resource.id.as_bytes()));
    // 255 is no byte of UTF-8: it keeps the two names apart.
    let names = list.collection.bytes().chain([255]);
    let names = names.chain(list.customer.as_str().bytes()).map(u128::from);
    let mix = |sum: u128, part| sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(part + 1);
    let digest = names.chain(ids).fold(1, mix);
    #[allow(clippy::expect_used, reason = "16 bytes are a state")]
    ListState::from_bytes(&digest.to_be_bytes()).expect("a state")
}
