//! The protocol against stores in memory, with what each case needs placed between its steps.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use futures::executor::block_on;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::customer::Customer;
use crate::error::ReservationsUnavailable;
use crate::idempotency::IdempotencyKey;

/// Both stores and the ids, with a count of what they were asked.
#[derive(Default)]
struct World {
    redis: RefCell<BTreeMap<Slot, Vec<u8>>>,
    redis_down: Cell<bool>,
    postgres: RefCell<BTreeMap<Slot, StoredOrder>>,
    postgres_down: Cell<bool>,
    /// Insertions still to fail with a conflict that leaves nothing behind.
    conflicts: Cell<u32>,
    drawn: Cell<u128>,
    reserves: Cell<u32>,
    finishes: Cell<u32>,
    inserts: RefCell<Vec<OrderId>>,
}

impl Reservations for World {
    async fn reserve(
        &self,
        slot: &Slot,
        record: &Record,
    ) -> Result<Reservation, ReservationsUnavailable> {
        self.reserves.set(self.reserves.get() + 1);
        if self.redis_down.get() {
            return Err(ReservationsUnavailable);
        }
        let mut redis = self.redis.borrow_mut();
        Ok(match redis.get(slot) {
            None => {
                redis.insert(slot.clone(), record.encode());
                Reservation::Acquired
            }
            Some(bytes) => {
                Record::decode(bytes).map_or(Reservation::Unintelligible, Reservation::Occupied)
            }
        })
    }

    async fn finish(&self, slot: &Slot, record: &Record) -> Result<(), ReservationsUnavailable> {
        self.finishes.set(self.finishes.get() + 1);
        self.redis
            .borrow_mut()
            .insert(slot.clone(), record.encode());
        Ok(())
    }
}

impl Orders for World {
    async fn insert_new(&self, order: &NewOrder) -> Attempt {
        match self.insert_unless_exists(order).await {
            Ok(Insertion::Inserted) => Attempt::Inserted,
            _ => Attempt::Undecided,
        }
    }

    async fn insert_unless_exists(&self, order: &NewOrder) -> Result<Insertion, OrdersUnavailable> {
        self.inserts.borrow_mut().push(order.order_id);
        if self.postgres_down.get() {
            return Err(OrdersUnavailable);
        }
        if self.conflicts.get() > 0 {
            self.conflicts.set(self.conflicts.get() - 1);
            return Ok(Insertion::Conflict);
        }
        let mut postgres = self.postgres.borrow_mut();
        if let Some(stored) = postgres.get(&order.slot) {
            return Ok(Insertion::Existing(stored.clone()));
        }
        if postgres.values().any(|o| o.order_id == order.order_id) {
            return Ok(Insertion::Conflict);
        }
        postgres.insert(
            order.slot.clone(),
            StoredOrder {
                order_id: order.order_id,
                fingerprint: order.fingerprint,
                draft: order.draft.clone(),
            },
        );
        Ok(Insertion::Inserted)
    }

    async fn find(
        &self,
        _: &Customer,
        _: OrderId,
    ) -> Result<Option<StoredOrder>, OrdersUnavailable> {
        Ok(None)
    }
}

impl OrderIds for World {
    fn draw(&self) -> OrderId {
        self.drawn.set(self.drawn.get() + 1);
        id(self.drawn.get())
    }
}

fn id(n: u128) -> OrderId {
    OrderId::from_uuid(Uuid::from_u128(n))
}

fn slot(key: &str) -> Slot {
    Slot {
        customer: Customer::anonymous(),
        key: IdempotencyKey::parse(key.as_bytes()).expect("a key"),
    }
}

fn request(key: &str, quantity: u64) -> CreateOrder {
    let draft = Draft::from_json(
        &json!({"currency": "EUR", "items": [{"sku": "A", "quantity": quantity, "unitPrice": 5}]}),
    )
    .expect("valid");
    let slot = slot(key);
    CreateOrder {
        fingerprint: Fingerprint::of(&slot, "POST", "/orders", &draft.canonical()),
        slot,
        draft,
    }
}

impl World {
    fn ask(&self, key: &str, quantity: u64) -> Result<Creation, CreateError> {
        self.ask_with(key, quantity, KeyReuse::Reject)
    }

    fn ask_with(
        &self,
        key: &str,
        quantity: u64,
        key_reuse: KeyReuse,
    ) -> Result<Creation, CreateError> {
        self.reserves.set(0);
        self.finishes.set(0);
        self.inserts.borrow_mut().clear();
        block_on(create_order(
            request(key, quantity),
            key_reuse,
            self,
            self,
            self,
        ))
    }

    /// Calls of (reserve, insert, finish) that the last request made.
    fn trips(&self) -> (u32, usize, u32) {
        (
            self.reserves.get(),
            self.inserts.borrow().len(),
            self.finishes.get(),
        )
    }

    fn record(&self, key: &str) -> Option<Record> {
        Record::decode(self.redis.borrow().get(&slot(key))?)
    }

    fn plant(&self, key: &str, quantity: u64, progress: Progress, order_id: OrderId) {
        let record = Record {
            progress,
            fingerprint: request(key, quantity).fingerprint,
            order_id,
        };
        self.redis.borrow_mut().insert(slot(key), record.encode());
    }
}

fn created(n: u128, quantity: u64) -> Result<Creation, CreateError> {
    Ok(Creation::Created(id(n), request("k", quantity).draft))
}

fn replayed(n: u128, quantity: u64) -> Result<Creation, CreateError> {
    Ok(Creation::Replayed(id(n), request("k", quantity).draft))
}

fn reused(n: u128) -> Result<Creation, CreateError> {
    Err(CreateError::KeyReused {
        order_id: id(n),
        differs: vec!["/items/0/quantity".into()],
    })
}

#[test]
fn a_creation_is_one_trip_to_each_store_and_the_first_retry_finishes_the_record() {
    let world = World::default();
    assert_eq!(world.ask("k", 1), created(1, 1));
    assert_eq!(world.trips(), (1, 1, 0));
    assert_eq!(
        world.record("k").map(|r| r.progress),
        Some(Progress::Reserved)
    );

    assert_eq!(world.ask("k", 1), replayed(1, 1));
    assert_eq!(world.trips(), (1, 1, 1));
    assert_eq!(
        world.record("k").map(|r| r.progress),
        Some(Progress::Finished)
    );

    assert_eq!(world.ask("k", 1), replayed(1, 1));
    assert_eq!(
        world.trips(),
        (1, 0, 0),
        "a finished order needs no Postgres"
    );
}

#[test]
fn an_interrupted_request_is_helped_along_with_its_own_id() {
    let world = World::default();
    world.plant("k", 1, Progress::Reserved, id(77));
    assert_eq!(world.ask("k", 1), created(77, 1));
    assert_eq!(world.ask("k", 1), replayed(77, 1));
    assert_eq!(world.trips(), (1, 0, 0));
}

#[test]
fn another_content_is_refused_with_what_differs() {
    let world = World::default();
    let _ = world.ask("k", 1);
    assert_eq!(world.ask("k", 2), reused(1));
    assert_eq!(
        world.ask("k", 2),
        reused(1),
        "also when the record is finished"
    );
    assert_eq!(world.ask("k", 1), replayed(1, 1));
    assert_eq!(world.postgres.borrow().len(), 1);
}

#[test]
fn another_content_gets_the_first_order_where_that_is_configured() {
    let world = World::default();
    let _ = world.ask("k", 1);
    assert_eq!(world.ask_with("k", 2, KeyReuse::Replay), replayed(1, 1));
}

#[test]
fn another_requests_record_alone_refuses_nobody() {
    for progress in [Progress::Reserved, Progress::Finished] {
        let world = World::default();
        world.plant("k", 1, progress, id(77));
        assert_eq!(world.ask("k", 2), created(1, 2), "with an id of its own");
        assert_eq!(world.record("k").map(|r| r.order_id), Some(id(1)));
        assert_eq!(world.ask("k", 1), reused(1));
    }
}

#[test]
fn without_redis_the_answers_are_the_same() {
    let world = World::default();
    world.redis_down.set(true);
    assert_eq!(world.ask("k", 1), created(1, 1));
    assert_eq!(world.ask("k", 1), replayed(1, 1));
    assert_eq!(world.ask("k", 2), reused(1));
    assert_eq!(
        world.trips(),
        (1, 2, 0),
        "the insertion that looks comes second; Redis is not asked again"
    );
}

#[test]
fn nonsense_in_redis_is_neither_believed_nor_touched() {
    let world = World::default();
    let mut future = Record {
        progress: Progress::Finished,
        fingerprint: request("k", 1).fingerprint,
        order_id: id(77),
    }
    .encode();
    future[0] = 9;
    for nonsense in [b"garbage".to_vec(), Vec::new(), future] {
        world.redis.borrow_mut().insert(slot("k"), nonsense.clone());
        world.postgres.borrow_mut().clear();
        world.drawn.set(0);
        assert_eq!(world.ask("k", 1), created(1, 1));
        assert_eq!(world.ask("k", 1), replayed(1, 1));
        assert_eq!(world.redis.borrow().get(&slot("k")), Some(&nonsense));
    }
}

#[test]
fn after_redis_lost_everything_the_order_is_found_and_remembered_again() {
    let world = World::default();
    let _ = world.ask("k", 1);
    world.redis.borrow_mut().clear();
    assert_eq!(world.ask("k", 1), replayed(1, 1));
    assert_eq!(world.record("k").map(|r| r.order_id), Some(id(1)));
    assert_eq!(world.ask("k", 1), replayed(1, 1));
    assert_eq!(world.trips(), (1, 0, 0));
}

#[test]
fn losing_the_race_unseen_is_asked_again_with_the_same_id() {
    let world = World::default();
    world.conflicts.set(1);
    assert_eq!(world.ask("k", 1), created(1, 1));
    assert_eq!(*world.inserts.borrow(), [id(1), id(1)]);
}

#[test]
fn a_record_with_another_orders_id_does_not_stick() {
    let world = World::default();
    let _ = world.ask("other", 1);
    world.plant("k", 1, Progress::Reserved, id(1));
    let Ok(Creation::Created(fresh, _)) = world.ask("k", 1) else {
        panic!("not created");
    };
    assert_ne!(fresh, id(1));
    assert_eq!(world.postgres.borrow().len(), 2);
}

#[test]
fn conflicts_without_end_are_given_up() {
    let world = World::default();
    world.conflicts.set(u32::MAX);
    assert_eq!(world.ask("k", 1), Err(CreateError::Unavailable));
    assert_eq!(world.trips().1, 1 + 4);
}

#[test]
fn without_postgres_nothing_is_promised_and_a_retry_succeeds() {
    let world = World::default();
    world.postgres_down.set(true);
    assert_eq!(world.ask("k", 1), Err(CreateError::Unavailable));
    assert_eq!(
        world.record("k").map(|r| r.progress),
        Some(Progress::Reserved)
    );
    world.postgres_down.set(false);
    assert_eq!(world.ask("k", 1), created(1, 1));
}

#[test]
fn the_same_order_under_an_older_fingerprint_is_the_same_order() {
    let world = World::default();
    let _ = world.ask("k", 1);
    if let Some(stored) = world.postgres.borrow_mut().get_mut(&slot("k")) {
        stored.fingerprint = request("k", 9).fingerprint;
    }
    world.redis.borrow_mut().clear();
    assert_eq!(world.ask("k", 1), replayed(1, 1));
}

#[test]
fn customers_do_not_share_keys() {
    let world = World::default();
    let _ = world.ask("k", 1);
    let mut theirs = request("k", 1);
    theirs.slot.customer = Customer::named("somebody else").expect("a name");
    theirs.fingerprint =
        Fingerprint::of(&theirs.slot, "POST", "/orders", &theirs.draft.canonical());
    let outcome = block_on(create_order(
        theirs,
        KeyReuse::Reject,
        &world,
        &world,
        &world,
    ));
    assert!(matches!(outcome, Ok(Creation::Created(..))));
}
