//! Redis and Postgres, as far as the protocol can tell. `tests/stores` holds this against the real ones.

use std::collections::BTreeMap;

use orders::customer::Customer;
use orders::idempotency::{Progress, Record, Slot};
use orders::order::OrderId;
use orders::ports::{Attempt, Insertion, NewOrder, StoredOrder};
use orders::stores::redis::Reply;
use uuid::Uuid;

/// What a request asks of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Set-if-absent, returning what is there.
    Reserve(Slot, Record),
    /// Set.
    Set(Slot, Record),
    /// Insert unless the slot has an order.
    Insert(Box<NewOrder>),
    /// Insert those that nothing is in the way of; never empty.
    InsertAll(Vec<NewOrder>),
    /// Only for broken variants: insert, whatever the slot has.
    InsertUnchecked(Box<NewOrder>),
    /// Only for broken variants: send an insertion off and do not wait for it.
    InsertUnawaited(Box<NewOrder>),
}

impl Call {
    /// Whether Postgres gets it.
    pub fn is_insertion(&self) -> bool {
        !matches!(self, Self::Reserve(..) | Self::Set(..))
    }

    /// The order to insert, or the first of several.
    pub fn order(&self) -> Option<&NewOrder> {
        match self {
            Self::Reserve(..) | Self::Set(..) => None,
            Self::Insert(order) | Self::InsertUnchecked(order) | Self::InsertUnawaited(order) => {
                Some(order)
            }
            Self::InsertAll(orders) => orders.first(),
        }
    }

    /// The slot it is about, or the first of several.
    pub fn slot(&self) -> Option<&Slot> {
        match self {
            Self::Reserve(slot, _) | Self::Set(slot, _) => Some(slot),
            _ => self.order().map(|order| &order.slot),
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
    pub slot: Slot,
    /// The order.
    pub order: StoredOrder,
}

/// The stores' state.
#[derive(Clone, Debug, Default)]
pub struct World {
    redis: BTreeMap<Slot, Vec<u8>>,
    /// Redis before each of its writes, for going back.
    redis_before: Vec<BTreeMap<Slot, Vec<u8>>>,
    rows: Vec<Row>,
    drawn: u128,
    /// A finished record that a call has replaced by a reserved one.
    pub unfinished: Option<Slot>,
}

impl World {
    /// What Redis holds for a slot.
    pub fn record(&self, slot: &Slot) -> Option<&[u8]> {
        self.redis.get(slot).map(Vec::as_slice)
    }

    /// All that Redis holds.
    pub fn records(&self) -> impl Iterator<Item = (&Slot, &[u8])> {
        self.redis
            .iter()
            .map(|(slot, bytes)| (slot, bytes.as_slice()))
    }

    /// All rows, in the order of their commits.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The first order of a slot.
    pub fn order_of(&self, slot: &Slot) -> Option<&StoredOrder> {
        let row = self.rows.iter().find(|row| row.slot == *slot)?;
        Some(&row.order)
    }

    /// A customer's order by its id.
    pub fn find(&self, customer: &Customer, id: OrderId) -> Option<&StoredOrder> {
        let mine = |row: &&Row| row.slot.customer == *customer && row.order.order_id == id;
        Some(&self.rows.iter().find(mine)?.order)
    }

    /// An id that was never drawn before, of version 7 and of a time of its own.
    pub fn draw_id(&mut self) -> OrderId {
        self.drawn += 1;
        let (version, variant) = (7_u128 << 76, 2_u128 << 62);
        OrderId::from_uuid(Uuid::from_u128(
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
            Call::Reserve(slot, record) => {
                let found = self.redis.get(slot).cloned();
                if found.is_none() {
                    self.set(slot, record);
                }
                Answer::Redis(found.map_or(Reply::Nil, Reply::Bytes))
            }
            Call::Set(slot, record) => {
                let finished = |bytes: &[u8]| {
                    Record::decode(bytes).is_some_and(|r| r.progress == Progress::Finished)
                };
                if record.progress == Progress::Reserved && self.record(slot).is_some_and(finished)
                {
                    self.unfinished = Some(slot.clone());
                }
                self.set(slot, record);
                Answer::Redis(Reply::Bytes(b"OK".to_vec()))
            }
            Call::Insert(order) => Answer::Postgres(self.insert(order, snapshot)),
            Call::InsertAll(orders) => {
                let attempts = orders.iter().map(|order| self.attempt(order));
                Answer::Attempts(attempts.collect())
            }
            Call::InsertUnchecked(order) | Call::InsertUnawaited(order) => {
                self.push(order);
                Answer::Postgres(Insertion::Inserted)
            }
        }
    }

    /// The statement of `orders::stores::postgres`: constraints know all rows, the rest only the snapshot.
    fn insert(&mut self, order: &NewOrder, Snapshot(visible): Snapshot) -> Insertion {
        if self.attempt(order) == Attempt::Inserted {
            return Insertion::Inserted;
        }
        self.rows
            .iter()
            .take(visible)
            .find(|row| row.slot == order.slot)
            .map_or(Insertion::Conflict, |row| {
                Insertion::Existing(row.order.clone())
            })
    }

    fn attempt(&mut self, order: &NewOrder) -> Attempt {
        let conflicts = self
            .rows
            .iter()
            .any(|row| row.slot == order.slot || row.order.order_id == order.order_id);
        if conflicts {
            return Attempt::Undecided;
        }
        self.push(order);
        Attempt::Inserted
    }

    fn push(&mut self, order: &NewOrder) {
        self.rows.push(Row {
            slot: order.slot.clone(),
            order: StoredOrder {
                order_id: order.order_id,
                fingerprint: order.fingerprint,
                draft: order.draft.clone(),
            },
        });
    }

    fn set(&mut self, slot: &Slot, record: &Record) {
        self.redis_before.push(self.redis.clone());
        self.redis.insert(slot.clone(), record.encode());
    }

    /// Redis loses everything.
    pub fn flush(&mut self) {
        self.redis.clear();
    }

    /// Redis loses a key.
    pub fn evict(&mut self, slot: &Slot) {
        self.redis.remove(slot);
    }

    /// Redis goes back to before its last write.
    pub fn roll_back(&mut self) {
        if let Some(before) = self.redis_before.pop() {
            self.redis = before;
        }
    }

    /// Puts a record of a version from the future under a slot. Read as ours, it would claim that an order
    /// exists which does not.
    pub fn plant_future_record(&mut self, slot: &Slot, like: Option<Record>) {
        let Some(like) = like else { return };
        let id = self.draw_id();
        let mut bytes = Record {
            progress: Progress::Finished,
            order_id: id,
            ..like
        }
        .encode();
        if let Some(version) = bytes.first_mut() {
            *version = 2;
        }
        self.redis.insert(slot.clone(), bytes);
    }
}
