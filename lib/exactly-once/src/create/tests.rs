//! The protocol over stores in memory, with a fault placed between two steps where a case needs one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use futures::executor::block_on;
use uuid::Uuid;

use super::*;
use crate::customer::Customer;
use crate::error::ReservationsUnavailable;
use crate::history::HistoryMonitor;
use crate::key::IdempotencyKey;

/// Both stores and the ids, with a count of what they were asked.
#[derive(Default)]
struct World {
    redis: RefCell<BTreeMap<KeyScope, Vec<u8>>>,
    redis_down: Cell<bool>,
    postgres: RefCell<BTreeMap<KeyScope, StoredResource>>,
    postgres_down: Cell<bool>,
    /// Why Postgres refuses every insertion.
    refuses: Cell<Option<DatabaseError>>,
    /// Insertions still to fail with a conflict that leaves nothing behind.
    conflicts: Cell<u32>,
    drawn: Cell<u128>,
    reserves: Cell<u32>,
    completions: Cell<u32>,
    inserts: RefCell<Vec<ResourceId>>,
    /// The database's history, by a number.
    history: Cell<u8>,
    /// What the instance has heard of it.
    monitor: RefCell<HistoryMonitor>,
    /// How often the history was asked for.
    asked: Cell<u32>,
    outage: Cell<Option<OutageReplay>>,
}

impl Reservations for World {
    async fn reserve(&self, scope: &KeyScope, record: &Record) -> Result<Reservation, ReservationsUnavailable> {
        self.reserves.set(self.reserves.get() + 1);
        if self.redis_down.get() {
            return Err(ReservationsUnavailable);
        }
        let mut redis = self.redis.borrow_mut();
        Ok(match redis.get(scope) {
            None => {
                redis.insert(scope.clone(), record.encode());
                Reservation::Acquired
            }
            Some(bytes) => Record::decode(bytes).map_or(Reservation::Unintelligible, Reservation::Occupied),
        })
    }

    async fn complete(&self, scope: &KeyScope, record: &Record) -> Result<(), ReservationsUnavailable> {
        self.completions.set(self.completions.get() + 1);
        self.redis.borrow_mut().insert(scope.clone(), record.encode());
        Ok(())
    }

    async fn withdraw(&self, scope: &KeyScope, record: &Record) -> Result<(), ReservationsUnavailable> {
        let mut redis = self.redis.borrow_mut();
        if redis.get(scope) == Some(&record.encode()) {
            redis.remove(scope);
        }
        Ok(())
    }
}

impl Resources for World {
    async fn insert_new(&self, new: &NewResource) -> Attempt {
        match self.insert_row(new) {
            Ok(Insertion::Inserted) => Attempt::Inserted,
            _ => Attempt::Undecided,
        }
    }

    async fn insert_unless_exists(&self, new: &NewResource) -> Result<InHistory<Insertion>, DatabaseError> {
        let inserted = self.insert_row(new);
        let history = history(self.history.get());
        let mut monitor = self.monitor.borrow_mut();
        match inserted {
            Ok(_) => monitor.heard(history, NOW),
            Err(_) => monitor.failed(NOW, NOW),
        }
        inserted.map(|value| InHistory { history, value })
    }
}

impl Histories for World {
    fn known_history(&self) -> KnownHistory {
        self.monitor.borrow().known(NOW)
    }

    async fn ask_history(&self) -> KnownHistory {
        self.asked.set(self.asked.get() + 1);
        let mut monitor = self.monitor.borrow_mut();
        match self.postgres_down.get() {
            false => monitor.heard(history(self.history.get()), NOW),
            true => monitor.failed(NOW, NOW),
        }
        monitor.known(NOW)
    }
}

/// The time does not pass.
const NOW: Duration = Duration::ZERO;

fn history(number: u8) -> History {
    History::from_bytes(&[number; History::BYTES]).expect("as many bytes as one has")
}

impl World {
    fn insert_row(&self, new: &NewResource) -> Result<Insertion, DatabaseError> {
        self.inserts.borrow_mut().push(new.id);
        if self.postgres_down.get() {
            return Err(DatabaseError::Unavailable);
        }
        if let Some(refusal) = self.refuses.get() {
            return Err(refusal);
        }
        if self.conflicts.get() > 0 {
            self.conflicts.set(self.conflicts.get() - 1);
            return Ok(Insertion::Conflict);
        }
        let mut postgres = self.postgres.borrow_mut();
        if let Some(stored) = postgres.get(&new.scope) {
            return Ok(Insertion::Existing(stored.clone()));
        }
        if postgres.values().any(|stored| stored.id == new.id) {
            return Ok(Insertion::Conflict);
        }
        postgres.insert(
            new.scope.clone(),
            StoredResource { id: new.id, fingerprint: new.fingerprint, document: new.document.clone() },
        );
        Ok(Insertion::Inserted)
    }
}

impl ResourceIds for World {
    fn draw(&self) -> ResourceId {
        self.drawn.set(self.drawn.get() + 1);
        id(self.drawn.get())
    }
}

fn id(n: u128) -> ResourceId {
    ResourceId::from_uuid(Uuid::from_u128(n))
}

fn scope(key: &str) -> KeyScope {
    KeyScope {
        collection: "counters",
        customer: Customer::anonymous(),
        key: IdempotencyKey::parse(key.as_bytes()).expect("a key"),
    }
}

const COUNTERS: Collection = Collection { name: "counters", one: "counter", path: "/counters" };

fn counter(n: u64) -> Document {
    Document::from_text(format!(r#"{{"n":{n}}}"#))
}

fn request(key: &str, n: u64) -> CreateRequest {
    CreateRequest::new(scope(key), &COUNTERS, counter(n))
}

impl World {
    fn ask(&self, key: &str, n: u64) -> Result<Creation, CreateError> {
        self.ask_with(key, n, KeyReuse::Reject)
    }

    fn ask_with(&self, key: &str, n: u64, key_reuse: KeyReuse) -> Result<Creation, CreateError> {
        self.reserves.set(0);
        self.completions.set(0);
        self.inserts.borrow_mut().clear();
        let policy = ReplayPolicy { key_reuse, outage: self.outage.get().unwrap_or(OutageReplay::FromRecord) };
        block_on(create(request(key, n), policy, self, self, self))
    }

    /// Calls of (reserve, insert, complete) that the last request made.
    fn trips(&self) -> (u32, usize, u32) {
        (self.reserves.get(), self.inserts.borrow().len(), self.completions.get())
    }

    fn record(&self, key: &str) -> Option<Record> {
        Record::decode(self.redis.borrow().get(&scope(key))?)
    }

    fn plant(&self, key: &str, n: u64, progress: Progress, id: ResourceId) {
        let record = Record { progress, fingerprint: request(key, n).fingerprint, id };
        self.redis.borrow_mut().insert(scope(key), record.encode());
    }
}

fn created(drawn: u128) -> Result<Creation, CreateError> {
    Ok(Creation::Created(id(drawn)))
}

fn replayed(drawn: u128) -> Result<Creation, CreateError> {
    Ok(Creation::Replayed(id(drawn)))
}

fn reused(n: u128) -> Result<Creation, CreateError> {
    Err(CreateError::KeyReused { id: id(n), differs: vec!["/n".into()] })
}

#[test]
fn a_creation_is_one_trip_to_each_store_and_the_first_retry_completes_the_record() {
    let world = World::default();
    assert_eq!(world.ask("k", 1), created(1));
    assert_eq!(world.trips(), (1, 1, 0));
    assert_eq!(world.record("k").map(|r| r.progress), Some(Progress::InProgress));

    assert_eq!(world.ask("k", 1), replayed(1));
    assert_eq!(world.trips(), (1, 1, 1));
    assert_eq!(world.record("k").map(|r| r.progress), Some(Progress::Completed(history(0))));

    assert_eq!(world.ask("k", 1), replayed(1));
    assert_eq!(world.trips(), (1, 0, 0), "a completed creation needs no Postgres");
}

#[test]
fn an_interrupted_creation_is_continued_with_its_id() {
    let world = World::default();
    world.plant("k", 1, Progress::InProgress, id(77));
    assert_eq!(world.ask("k", 1), created(77));
    assert_eq!(world.ask("k", 1), replayed(77));
    assert_eq!(world.trips(), (1, 0, 0));
}

#[test]
fn a_lost_resource_comes_back_with_its_id_however_old_its_record_is() {
    let world = World::default();
    world.plant("k", 1, Progress::InProgress, id(77));
    // The next id that the world draws is a day younger.
    world.drawn.set(86_400_000 << 80);
    assert_eq!(world.ask("k", 1), created(77));
}

#[test]
fn another_document_is_refused_with_what_differs() {
    let world = World::default();
    let _ = world.ask("k", 1);
    assert_eq!(world.ask("k", 2), reused(1));
    assert_eq!(world.ask("k", 2), reused(1), "also when the record is completed");
    assert_eq!(world.ask("k", 1), replayed(1));
    assert_eq!(world.postgres.borrow().len(), 1);
}

#[test]
fn another_document_gets_the_first_resource_where_that_is_configured() {
    let world = World::default();
    let _ = world.ask("k", 1);
    let first = world.postgres.borrow()[&scope("k")].clone();
    assert_eq!(world.ask_with("k", 2, KeyReuse::Replay), Ok(Creation::Reused(first)));
}

#[test]
fn another_requests_record_alone_refuses_no_request() {
    for progress in [Progress::InProgress, Progress::Completed(history(0))] {
        let world = World::default();
        world.plant("k", 1, progress, id(77));
        assert_eq!(world.ask("k", 2), created(1), "with its own id");
        assert_eq!(world.record("k").map(|r| r.id), Some(id(1)));
        assert_eq!(world.ask("k", 1), reused(1));
    }
}

#[test]
fn without_redis_the_answers_are_the_same() {
    let world = World::default();
    world.redis_down.set(true);
    assert_eq!(world.ask("k", 1), created(1));
    assert_eq!(world.ask("k", 1), replayed(1));
    assert_eq!(world.ask("k", 2), reused(1));
    assert_eq!(world.trips(), (1, 2, 0), "the insertion that reads the row comes second; Redis is not asked again");
}

#[test]
fn nonsense_in_redis_is_neither_believed_nor_changed() {
    let world = World::default();
    let mut future =
        Record { progress: Progress::Completed(history(0)), fingerprint: request("k", 1).fingerprint, id: id(77) }
            .encode();
    future[0] = 9;
    for unreadable in [b"garbage".to_vec(), Vec::new(), future] {
        world.redis.borrow_mut().insert(scope("k"), unreadable.clone());
        world.postgres.borrow_mut().clear();
        world.drawn.set(0);
        assert_eq!(world.ask("k", 1), created(1));
        assert_eq!(world.ask("k", 1), replayed(1));
        assert_eq!(world.redis.borrow().get(&scope("k")), Some(&unreadable));
    }
}

#[test]
fn after_redis_lost_everything_the_resource_is_found_and_recorded_again() {
    let world = World::default();
    let _ = world.ask("k", 1);
    world.redis.borrow_mut().clear();
    assert_eq!(world.ask("k", 1), replayed(1));
    assert_eq!(world.record("k").map(|r| r.id), Some(id(1)));
    assert_eq!(world.ask("k", 1), replayed(1));
    assert_eq!(world.trips(), (1, 0, 0));
}

#[test]
fn an_invisible_conflict_is_retried_with_the_same_id() {
    let world = World::default();
    world.conflicts.set(1);
    assert_eq!(world.ask("k", 1), created(1));
    assert_eq!(*world.inserts.borrow(), [id(1), id(1)]);
}

#[test]
fn a_record_with_another_resources_id_gets_a_new_id() {
    let world = World::default();
    let _ = world.ask("other", 1);
    world.plant("k", 1, Progress::InProgress, id(1));
    let Ok(Creation::Created(fresh)) = world.ask("k", 1) else {
        panic!("not created");
    };
    assert_ne!(fresh, id(1));
    assert_eq!(world.postgres.borrow().len(), 2);
}

#[test]
fn endless_conflicts_end_in_unavailable() {
    let world = World::default();
    world.conflicts.set(u32::MAX);
    assert_eq!(world.ask("k", 1), Err(CreateError::Unavailable));
    assert_eq!(world.trips().1, 1 + 4);
}

#[test]
fn what_postgres_refuses_leaves_no_record() {
    for refusal in [DatabaseError::ValueRejected, DatabaseError::Elsewhere] {
        let world = World::default();
        world.refuses.set(Some(refusal));
        assert_eq!(world.ask("k", 1), Err(refusal.into()));
        assert!(world.record("k").is_none());
        world.refuses.set(None);
        assert!(matches!(world.ask("k", 2), Ok(Creation::Created(_))));
    }
}

#[test]
fn without_postgres_nothing_is_acknowledged_and_a_retry_succeeds() {
    let world = World::default();
    world.postgres_down.set(true);
    assert_eq!(world.ask("k", 1), Err(CreateError::Unavailable));
    assert_eq!(world.record("k").map(|r| r.progress), Some(Progress::InProgress));
    world.postgres_down.set(false);
    assert_eq!(world.ask("k", 1), created(1));
}

#[test]
fn the_same_document_under_an_older_fingerprint_is_a_replay() {
    let world = World::default();
    let _ = world.ask("k", 1);
    if let Some(stored) = world.postgres.borrow_mut().get_mut(&scope("k")) {
        stored.fingerprint = request("k", 9).fingerprint;
    }
    world.redis.borrow_mut().clear();
    assert_eq!(world.ask("k", 1), replayed(1));
}

#[test]
fn customers_do_not_share_keys() {
    let world = World::default();
    let _ = world.ask("k", 1);
    let mut theirs = scope("k");
    theirs.customer = Customer::named("somebody else").expect("a name");
    let theirs = CreateRequest::new(theirs, &COUNTERS, counter(1));
    let policy = ReplayPolicy { key_reuse: KeyReuse::Reject, outage: OutageReplay::FromRecord };
    let outcome = block_on(create(theirs, policy, &world, &world, &world));
    assert!(matches!(outcome, Ok(Creation::Created(..))));
}

#[test]
fn an_unreadable_document_is_replayed_to_its_own_request_only() {
    let world = World::default();
    let _ = world.ask("k", 1);
    if let Some(stored) = world.postgres.borrow_mut().get_mut(&scope("k")) {
        stored.document = Document::from_text("{\"other\":1}");
    }
    world.redis.borrow_mut().clear();
    assert_eq!(world.ask("k", 1), replayed(1), "the request has the content");
    assert_eq!(
        world.ask_with("k", 2, KeyReuse::Replay).map(|creation| creation.id()),
        Ok(id(1)),
        "whoever shows it finds out that it is not readable"
    );
}

impl World {
    /// The database lost its rows: another history begins, and the instance will hear of it.
    fn fail_over(&self) {
        self.postgres.borrow_mut().clear();
        self.history.set(self.history.get() + 1);
        self.monitor.take();
    }
}

#[test]
fn a_lost_resource_is_created_again_with_its_id_and_no_phantom_is_replayed() {
    let world = World::default();
    let _ = world.ask("k", 1);
    assert_eq!(world.ask("k", 1), replayed(1));
    world.fail_over();
    assert_eq!(world.ask("k", 1), created(1), "with its old id");
    assert_eq!(world.trips(), (1, 1, 1));
    assert_eq!(world.ask("k", 1), replayed(1));
    assert_eq!(world.trips(), (1, 0, 0), "the record is of the new history");
}

#[test]
fn an_instance_that_has_heard_nothing_confirms_once() {
    let world = World::default();
    let _ = world.ask("k", 1);
    let _ = world.ask("k", 1);
    world.monitor.take();
    for _ in 0..2 {
        assert_eq!(world.ask("k", 1), replayed(1));
        assert_eq!(world.trips(), (1, 0, 0), "the record is right as it is");
        assert_eq!(world.asked.get(), 1);
    }
}

#[test]
fn records_of_two_servers_behind_one_address_are_believed_once_both_are_heard_in_turns() {
    let world = World::default();
    let on = |server, key| {
        world.history.set(server);
        assert!(world.ask(key, 1).is_ok());
        world.trips()
    };
    for _ in 0..3 {
        on(1, "a");
        on(2, "b");
    }
    assert_eq!([on(1, "a"), on(2, "b"), on(1, "a")], [(1, 0, 0); 3], "one trip for each replay");
}

#[test]
fn in_an_outage_a_record_is_believed_only_where_that_is_configured() {
    let unavailable = || Err(CreateError::Unavailable);
    for (outage, expected) in [(OutageReplay::FromRecord, replayed(1)), (OutageReplay::Unavailable, unavailable())] {
        let world = World::default();
        world.outage.set(Some(outage));
        world.plant("k", 1, Progress::Completed(history(0)), id(1));
        world.postgres_down.set(true);
        let inserts = usize::from(outage == OutageReplay::Unavailable);
        for when in ["the question fails", "after a failure"] {
            assert_eq!(world.ask("k", 1), expected, "{when}");
            assert_eq!(world.trips(), (1, inserts, 0));
            assert_eq!(world.asked.get(), 1);
        }
        assert_eq!(world.ask("k", 2), unavailable(), "another document");
        world.plant("new", 1, Progress::InProgress, id(2));
        assert_eq!(world.ask("new", 1), unavailable(), "it may not exist");
    }
}

#[test]
fn in_an_outage_a_record_of_another_history_is_not_believed() {
    let world = World::default();
    let _ = world.ask("k", 1);
    let _ = world.ask("k", 1);
    world.fail_over();
    let _ = world.ask("other", 1);
    let _ = world.ask("other", 1);
    world.postgres_down.set(true);
    for _ in 0..2 {
        assert_eq!(world.ask("k", 1), Err(CreateError::Unavailable));
    }
    assert_eq!(world.ask("other", 1), replayed(3));
}
