//! Redis and Postgres, as far as the protocol can tell. `tests/stores` holds this against the real ones.

use std::collections::BTreeMap;

use orders::create::conditional::Expected;
use orders::customer::Customer;
use orders::idempotency::{Progress, Record, KeyScope};
use orders::order::ResourceId;
use orders::ports::{Attempt, ConditionalInsertion, Insertion, NewResource, StoredResource};
use orders::reading::ListState;
use orders::stores::redis::Reply;
use uuid::Uuid;

/// What a request asks of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Set-if-absent, returning what is there.
    Reserve(KeyScope, Record),
    /// Set.
    Set(KeyScope, Record),
    /// Insert unless the scope has an order.
    Insert(Box<NewResource>),
    /// Insert those that nothing is in the way of; never empty.
    InsertAll(Vec<NewResource>),
    /// Take a customer's lock if nobody has it.
    Acquire(Customer, ResourceId),
    /// Give it up, if it is the holder's.
    Release(Customer, ResourceId),
    /// Look for the order of a scope.
    Find(KeyScope),
    /// Insert on an expected state unless the scope has an order.
    Follow(Box<NewResource>, Expected),
    /// Only for broken variants: insert as the one that based_on a state, whoever else does.
    InsertBasedOnUnchecked(Box<NewResource>, ListState),
    /// Only for broken variants: insert, whatever the scope has.
    InsertUnchecked(Box<NewResource>),
    /// Only for broken variants: send an insertion off and do not wait for it.
    InsertUnawaited(Box<NewResource>),
}

impl Call {
    /// Whether Postgres gets it.
    pub fn is_postgres(&self) -> bool {
        self.order().is_some() || matches!(self, Self::Find(_))
    }

    /// The order to insert, or the first of several.
    pub fn order(&self) -> Option<&NewResource> {
        match self {
            Self::Reserve(..)
            | Self::Set(..)
            | Self::Acquire(..)
            | Self::Release(..)
            | Self::Find(_) => None,
            Self::Follow(order, _) | Self::InsertBasedOnUnchecked(order, _) => Some(order),
            Self::Insert(order) | Self::InsertUnchecked(order) | Self::InsertUnawaited(order) => {
                Some(order)
            }
            Self::InsertAll(orders) => orders.first(),
        }
    }

    /// The scope it is about, or the first of several.
    pub fn scope(&self) -> Option<&KeyScope> {
        match self {
            Self::Reserve(scope, _) | Self::Set(scope, _) | Self::Find(scope) => Some(scope),
            _ => self.order().map(|order| &order.scope),
        }
    }
}

/// What a store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a call of Redis.
    Redis(Reply),
    /// To a call of Postgres.
    Postgres(Insertion),
    /// To an insertion on a condition.
    Conditional(ConditionalInsertion),
    /// To a search.
    Found(Option<StoredResource>),
    /// To an insertion of several.
    Attempts(Vec<Attempt>),
    /// None, as far as the request can tell.
    Nothing,
}

/// The rows that a statement can see: how many there were when it began. Rows are only ever added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot(usize);

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose it is and under which key.
    pub scope: KeyScope,
    /// The order.
    pub order: StoredResource,
    /// The state that it was created on, if that was a condition.
    pub based_on: Option<ListState>,
}

/// What Redis holds.
#[derive(Clone, Debug, Default)]
struct Redis {
    records: BTreeMap<KeyScope, Vec<u8>>,
    locks: BTreeMap<Customer, ResourceId>,
}

/// The stores' state.
#[derive(Clone, Debug, Default)]
pub struct World {
    redis: Redis,
    /// Redis before each of its writes, for going back.
    redis_before: Vec<Redis>,
    rows: Vec<Row>,
    drawn: u128,
    /// A finished record that a call has replaced by a reserved one.
    pub unfinished: Option<KeyScope>,
}

impl World {
    /// What Redis holds for a scope.
    pub fn record(&self, scope: &KeyScope) -> Option<&[u8]> {
        self.redis.records.get(scope).map(Vec::as_slice)
    }

    /// All that Redis holds.
    pub fn records(&self) -> impl Iterator<Item = (&KeyScope, &[u8])> {
        self.redis
            .records
            .iter()
            .map(|(scope, bytes)| (scope, bytes.as_slice()))
    }

    /// All rows, in the order of their commits.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The first order of a scope.
    pub fn order_of(&self, scope: &KeyScope) -> Option<&StoredResource> {
        let row = self.rows.iter().find(|row| row.scope == *scope)?;
        Some(&row.order)
    }

    /// A customer's order by its id.
    pub fn find(&self, customer: &Customer, id: ResourceId) -> Option<&StoredResource> {
        let mine = |row: &&Row| row.scope.customer == *customer && row.order.order_id == id;
        Some(&self.rows.iter().find(mine)?.order)
    }

    /// An id that was never drawn before, of version 7 and of a time of its own.
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

    /// Executes a call, at once and entirely.
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
                let finished = |bytes: &[u8]| {
                    Record::decode(bytes).is_some_and(|r| r.progress == Progress::Completed)
                };
                if record.progress == Progress::InProgress && self.record(scope).is_some_and(finished)
                {
                    self.unfinished = Some(scope.clone());
                }
                self.set(scope, record);
                Answer::Redis(Reply::Bytes(b"OK".to_vec()))
            }
            Call::Acquire(customer, holder) => {
                let held = self.redis.locks.get(customer);
                if held.is_some_and(|other| other != holder) {
                    return Answer::Redis(Reply::Bytes(b"5000".to_vec()));
                }
                self.redis_before.push(self.redis.clone());
                self.redis.locks.insert(customer.clone(), *holder);
                Answer::Redis(Reply::Nil)
            }
            Call::Release(customer, holder) => {
                let own = self.redis.locks.get(customer) == Some(holder);
                if own {
                    self.redis_before.push(self.redis.clone());
                    self.redis.locks.remove(customer);
                }
                Answer::Redis(Reply::Bytes(if own { b"1" } else { b"0" }.to_vec()))
            }
            Call::Find(scope) => Answer::Found(self.order_of(scope).cloned()),
            Call::Follow(order, expected) => {
                Answer::Conditional(self.follow(order, expected, snapshot))
            }
            Call::InsertBasedOnUnchecked(order, state) => {
                self.push(order, Some(*state));
                Answer::Conditional(ConditionalInsertion::Inserted(*state))
            }
            Call::Insert(order) => Answer::Postgres(self.insert(order, snapshot)),
            Call::InsertAll(orders) => {
                let attempts = orders.iter().map(|order| self.attempt(order));
                Answer::Attempts(attempts.collect())
            }
            Call::InsertUnchecked(order) | Call::InsertUnawaited(order) => {
                self.push(order, None);
                Answer::Postgres(Insertion::Inserted)
            }
        }
    }

    /// The statement of `orders::stores::postgres`: constraints know all rows, the rest only the snapshot.
    fn insert(&mut self, order: &NewResource, Snapshot(visible): Snapshot) -> Insertion {
        if self.attempt(order) == Attempt::Inserted {
            return Insertion::Inserted;
        }
        self.rows
            .iter()
            .take(visible)
            .find(|row| row.scope == order.scope)
            .map_or(Insertion::Conflict, |row| {
                Insertion::Existing(row.order.clone())
            })
    }

    /// The statement of `orders::stores::postgres::conditional`, in the same way.
    fn follow(
        &mut self,
        order: &NewResource,
        expected: &Expected,
        Snapshot(visible): Snapshot,
    ) -> ConditionalInsertion {
        let seen = state(&order.scope.customer, self.rows.iter().take(visible));
        let is_met = expected.is_met_by(&seen);
        let based_on = (*expected != Expected::Any).then_some(seen);
        if is_met && self.attempt_following(order, based_on) == Attempt::Inserted {
            let visible = self.rows.iter().take(visible);
            let after = state(&order.scope.customer, visible.chain(self.rows.last()));
            return ConditionalInsertion::Inserted(after);
        }
        let mut visible = self.rows.iter().take(visible);
        match visible.find(|row| row.scope == order.scope) {
            Some(row) => ConditionalInsertion::Existing(row.order.clone()),
            None if is_met => ConditionalInsertion::Conflict,
            None => ConditionalInsertion::Stale(seen),
        }
    }

    fn attempt(&mut self, order: &NewResource) -> Attempt {
        self.attempt_following(order, None)
    }

    fn attempt_following(&mut self, order: &NewResource, based_on: Option<ListState>) -> Attempt {
        let conflicts = self.rows.iter().any(|row| {
            let is_second = row.scope.customer == order.scope.customer && row.based_on == based_on;
            row.scope == order.scope
                || row.order.order_id == order.order_id
                || (based_on.is_some() && is_second)
        });
        if conflicts {
            return Attempt::Undecided;
        }
        self.push(order, based_on);
        Attempt::Inserted
    }

    fn push(&mut self, order: &NewResource, based_on: Option<ListState>) {
        self.rows.push(Row {
            scope: order.scope.clone(),
            order: StoredResource {
                order_id: order.order_id,
                fingerprint: order.fingerprint,
                draft: order.draft.clone(),
            },
            based_on,
        });
    }

    fn set(&mut self, scope: &KeyScope, record: &Record) {
        self.redis_before.push(self.redis.clone());
        self.redis.records.insert(scope.clone(), record.encode());
    }

    /// Redis loses everything.
    pub fn flush(&mut self) {
        self.redis = Redis::default();
    }

    /// Redis loses a key.
    pub fn evict(&mut self, scope: &KeyScope) {
        self.redis.records.remove(scope);
    }

    /// A customer's lock is lost, or its lease is over.
    pub fn evict_lock(&mut self, customer: &Customer) {
        self.redis.locks.remove(customer);
    }

    /// The leases of all locks are over.
    pub fn expire_locks(&mut self) {
        self.redis.locks.clear();
    }

    /// The state of a customer's list.
    pub fn list_state(&self, customer: &Customer) -> ListState {
        state(customer, self.rows.iter())
    }

    /// Redis goes back to before its last write.
    pub fn roll_back(&mut self) {
        if let Some(before) = self.redis_before.pop() {
            self.redis = before;
        }
    }

    /// Puts a record of a version from the future under a scope. Read as ours, it would claim that an order
    /// exists which does not.
    pub fn plant_future_record(&mut self, scope: &KeyScope, like: Option<Record>) {
        let Some(like) = like else { return };
        let id = self.draw_id();
        let mut bytes = Record {
            progress: Progress::Completed,
            order_id: id,
            ..like
        }
        .encode();
        if let Some(version) = bytes.first_mut() {
            *version = 2;
        }
        self.redis.records.insert(scope.clone(), bytes);
    }
}

/// Differs with the customer and with each of its rows, as the real one does.
fn state<'r>(customer: &Customer, rows: impl Iterator<Item = &'r Row>) -> ListState {
    let mine = rows.filter(|row| row.scope.customer == *customer);
    let ids = mine.map(|row| u128::from_be_bytes(*row.order.order_id.as_bytes()));
    let name = customer.as_str().bytes().map(u128::from);
    let mix = |sum: u128, part| sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(part + 1);
    let digest = name.chain(ids).fold(1, mix);
    #[allow(clippy::expect_used, reason = "16 bytes are a state")]
    ListState::from_bytes(&digest.to_be_bytes()).expect("a state")
}
