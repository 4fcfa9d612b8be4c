//! Compares the simulated stores with the real ones: the same calls, generated from a seed, are executed by both, by
//! the real ones through the commands and statements that the component sends. The answers must be the same. Calls for
//! two collections, with the same customers, keys and ids, show that these never meet.

mod cells;
mod embedded;
mod feed;
mod native;
mod reading;
mod replication;

use std::collections::BTreeMap;

use exactly_once::condition::Expected;
use exactly_once::ports::{
    Attempt, ConditionalInsertion, FeedRows, Insertion, List, NewResource, Outlook, Page, PageRequest, StoredResource,
    Writers,
};
use exactly_once::{
    Customer, Document, Fingerprint, IdempotencyKey, KeyScope, ListState, Progress, Record, ResourceId,
};
use exactly_once_stores::redis::Reply;
use exactly_once_stores::sql::{self, Row, Statement, Statements};
use native::Stores;
use orders::ORDERS;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use simulation::world::{Answer, Call, World};
use uuid::Uuid;

const SEQUENCES: u64 = 20;
const CALLS: usize = 150;

fn collection(rng: &mut StdRng) -> &'static str {
    ["orders", "orders", "refunds"][rng.random_range(0..3)]
}

fn scope(rng: &mut StdRng, collection: &'static str) -> KeyScope {
    // Names that could collide: "a" + "b:c" and "a:b" + "c".
    let customers = ["somebody", "a", "a:b", "ä"];
    let keys = ["k", "b:c", "c", "K"];
    KeyScope {
        collection,
        customer: Customer::named(customers[rng.random_range(0..customers.len())]).unwrap(),
        key: IdempotencyKey::parse(keys[rng.random_range(0..keys.len())].as_bytes()).unwrap(),
    }
}

/// One of a few ids, so that they collide too.
fn resource_id(rng: &mut StdRng) -> ResourceId {
    let n: u128 = rng.random_range(1..=12);
    ResourceId::from_uuid(Uuid::from_u128((0x0197_0000_0000 + n) << 80 | 7 << 76 | 2 << 62 | n))
}

fn document(rng: &mut StdRng) -> Document {
    let notes = ["null", "\"\"", "\"a note, ñ, 📦, \\\" and \\\\\""];
    let text = format!(
        r#"{{"currency":"JPY","items":[{{"sku":"A \u00df","quantity":{},"unitPrice":{}}}],"note":{}}}"#,
        rng.random_range(1..=3),
        [0, 1250, i64::MAX / 10_000][rng.random_range(0..3)],
        notes[rng.random_range(0..notes.len())],
    );
    let json = exactly_once::json::parse(text.as_bytes()).unwrap();
    Document::of(&ORDERS.validate(&json).unwrap())
}

fn new_resource(rng: &mut StdRng, collection: &'static str) -> NewResource {
    let (scope, document) = (scope(rng, collection), document(rng));
    NewResource {
        fingerprint: Fingerprint::of(&scope, "POST", "/api/v1/orders", &document),
        id: resource_id(rng),
        scope,
        document,
    }
}

/// One to four resources of one collection for one statement, each with another id.
fn batch(rng: &mut StdRng) -> Vec<NewResource> {
    let collection = collection(rng);
    let mut batch: Vec<NewResource> = (0..rng.random_range(1..=4)).map(|_| new_resource(rng, collection)).collect();
    batch.sort_by_key(|new| new.id);
    batch.dedup_by_key(|new| new.id);
    batch
}

/// How often each kind of answer was seen.
#[derive(Default)]
struct Seen(BTreeMap<&'static str, u32>);

impl Seen {
    /// Every kind that must occur.
    const KINDS: &str = "inserted, existing, conflict, inserted in a batch, not inserted in a batch, held lock, page, \
                         unknown cursor, stale, inserted on a condition, existing despite a condition, \
                         conflict on a condition";

    fn count(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// Counts what an insertion without a condition returned.
    fn count_insertions(&mut self, answer: &Answer) {
        match answer {
            Answer::Postgres(Insertion::Inserted) => self.count("inserted"),
            Answer::Postgres(Insertion::Existing(_)) => self.count("existing"),
            Answer::Postgres(Insertion::Conflict) => self.count("conflict"),
            Answer::Attempts(attempts) => attempts.iter().for_each(|attempt| match attempt {
                Attempt::Inserted => self.count("inserted in a batch"),
                Attempt::Undecided => self.count("not inserted in a batch"),
            }),
            _ => {}
        }
    }

    /// Demands that every kind was seen, but for those that a store does not have.
    fn assert_none_was_rare(&self, without: &[&str]) {
        for kind in Self::KINDS.split(", ").filter(|kind| !without.contains(kind)) {
            assert!(self.0.get(kind) > Some(&10), "{kind} was rare: {:?}", self.0);
        }
    }
}

/// A real store, as the component uses it.
trait Real {
    /// Sends what the component sends for a call, and reads the answer as it does.
    async fn execute(&self, call: &Call) -> Answer;

    /// The statements of a collection.
    fn statements(&self, collection: &str) -> &Statements;

    /// Executes a statement.
    async fn rows(&self, statement: Statement<'_>) -> Vec<Row>;

    /// Removes a scope's record, or all.
    async fn forget(&self, _: Option<&KeyScope>) {
        panic!("this store has no records");
    }

    /// A resource of a list by its id.
    async fn find(&self, list: &List, id: ResourceId) -> Option<StoredResource> {
        let statement = self.statements(list.collection).find(&list.customer, id);
        sql::found(self.rows(statement).await.first()).unwrap()
    }

    /// A page of a list.
    async fn page(&self, list: &List, request: PageRequest) -> Option<Page> {
        let statement = self.statements(list.collection).page(&list.customer, request);
        sql::page(&self.rows(statement).await, request.limit).unwrap()
    }

    /// The state of a list.
    async fn state(&self, list: &List) -> ListState {
        self.page(list, PageRequest::newest(1)).await.unwrap().state
    }

    /// What follows a number in the feed of orders.
    async fn look(&self, after: i64, limit: usize, among: Option<&Writers>) -> Outlook {
        let statement = self.statements("orders").look(after, limit, among);
        sql::outlook(self.rows(statement).await.first()).unwrap()
    }

    /// The rows of the feed of orders up to a number.
    async fn read(&self, after: i64, last: i64, limit: usize) -> FeedRows {
        sql::feed_rows(&self.rows(self.statements("orders").read(after, last, limit)).await).unwrap()
    }
}

/// The kinds of calls that are made of a database; those of Redis follow.
const OF_DATABASE: u32 = 11;
const ALL: u32 = 20;

#[tokio::test]
async fn the_simulated_stores_answer_as_the_real_ones_do() {
    compare(Stores::fresh, ALL).await.assert_none_was_rare(&[]);
}

/// Makes the same calls of both, of so many kinds.
async fn compare<R: Real>(fresh: impl AsyncFn() -> R, kinds: u32) -> Seen {
    let mut seen = Seen::default();
    for seed in 0..SEQUENCES {
        let mut rng = StdRng::seed_from_u64(seed);
        let (store, mut world) = (fresh().await, World::default());
        for number in 0..CALLS {
            let collection = collection(&mut rng);
            let new = new_resource(&mut rng, collection);
            let list = List::from(&new.scope);
            let record = |progress| Record { progress, fingerprint: new.fingerprint, id: new.id };
            let call = match rng.random_range(0..kinds) {
                0..3 => Call::Insert(Box::new(new)),
                3 => Call::InsertAll(batch(&mut rng)),
                4 => Call::Find(new.scope),
                5 => {
                    let simulated = world.tables.row(&list, new.id).map(|row| row.resource.clone());
                    assert_eq!(simulated, store.find(&list, new.id).await, "{seed}.{number}");
                    continue;
                }
                6 => {
                    let after = rng.random_bool(0.5).then_some(new.id);
                    let from = rng.random_bool(0.2).then(|| new_resource(&mut rng, collection).id);
                    let request = PageRequest { limit: rng.random_range(1..=2), after, from };
                    let read = |page: Page| (page.resources, page.more);
                    let simulated = world.tables.page(&list, request).map(read);
                    let real = store.page(&list, request).await.map(read);
                    assert_eq!(simulated, real, "{seed}.{number}");
                    seen.count(real.map_or("unknown cursor", |_| "page"));
                    continue;
                }
                7..OF_DATABASE => {
                    insert_based_on(&mut world, &store, &mut rng, new, &mut seen).await;
                    continue;
                }
                11..14 => Call::Reserve(new.scope.clone(), record(Progress::InProgress)),
                14..16 => {
                    let completed = Progress::Completed(world.tables.history().unwrap());
                    Call::Set(new.scope.clone(), record(completed))
                }
                16 => Call::Acquire(new.scope),
                17 => Call::Release(new.scope),
                18 => Call::Withdraw(new.scope.clone(), record(Progress::InProgress)),
                _ if rng.random_bool(0.2) => {
                    world.flush();
                    store.forget(None).await;
                    continue;
                }
                _ => {
                    world.evict(&new.scope);
                    store.forget(Some(&new.scope)).await;
                    continue;
                }
            };
            let snapshot = world.tables.snapshot();
            let simulated = world.execute(&call, snapshot);
            let real = store.execute(&call).await;
            if let (Call::Acquire(..), Answer::Redis(Reply::Bytes(remaining))) = (&call, &real) {
                // The rest of a lease is not simulated.
                assert_ne!(simulated, Answer::Redis(Reply::Nil), "{seed}.{number}");
                assert!(remaining.len() == 5, "milliseconds of 60 s: {remaining:?}");
                seen.count("held lock");
                continue;
            }
            assert_eq!(simulated, real, "sequence {seed}, call {number}: {call:?}");
            seen.count_insertions(&real);
        }
        let snapshot = world.tables.snapshot();
        let simulated = world.execute(&Call::AskHistory, snapshot);
        assert_eq!(simulated, store.execute(&Call::AskHistory).await);
    }
    seen
}

/// A conditional insertion in both. The states of their lists differ, and so do the conditions: the state that each
/// list is in, that of the customer's other collection, any state, or no state.
async fn insert_based_on(world: &mut World, store: &impl Real, rng: &mut StdRng, new: NewResource, seen: &mut Seen) {
    let list = List::from(&new.scope);
    let other = List { collection: if list.collection == "orders" { "refunds" } else { "orders" }, ..list.clone() };
    let expected = match rng.random_range(0..6) {
        0 => [Expected::Any, Expected::Any],
        1 => [Expected::OneOf(Vec::new()), Expected::OneOf(Vec::new())],
        kind => {
            // In the embedded store, lists with one newest id are in one state.
            let is_foreign = kind == 2 && store.state(&other).await != store.state(&list).await;
            let list = if is_foreign { &other } else { &list };
            let states = [world.tables.list_state(list), store.state(list).await];
            states.map(|state| Expected::OneOf(vec![state]))
        }
    };
    let [simulated, real] = expected.map(|expected| Call::InsertBasedOn(Box::new(new.clone()), expected));
    let snapshot = world.tables.snapshot();
    let answers = [world.execute(&simulated, snapshot), store.execute(&real).await];
    compare_conditional(answers, (world.tables.list_state(&list), store.state(&list).await), seen);
}

/// The answers of the simulated and the real store to a conditional insertion. The states of their lists after it
/// differ, and the answers have them.
fn compare_conditional([simulated, real]: [Answer; 2], states: (ListState, ListState), seen: &mut Seen) {
    use ConditionalInsertion::{Existing, Inserted, Stale};
    match (simulated, real) {
        (Answer::Conditional(Inserted(simulated)), Answer::Conditional(Inserted(real))) => {
            assert_eq!((simulated, real), states);
            seen.count("inserted on a condition");
        }
        (Answer::Conditional(Stale(simulated)), Answer::Conditional(Stale(real))) => {
            assert_eq!((simulated, real), states);
            seen.count("stale");
        }
        (simulated, real) => {
            assert_eq!(simulated, real);
            let existing = matches!(real, Answer::Conditional(Existing(_)));
            seen.count(if existing { "existing despite a condition" } else { "conflict on a condition" });
        }
    }
}

/// The one thing that needs two connections: an insertion that waits until another one is committed or rolled back.
#[tokio::test]
async fn a_statement_sees_the_row_of_its_key_that_was_committed_while_it_waited() {
    for commits in [true, false] {
        let mut rng = StdRng::seed_from_u64(1);
        let first = new_resource(&mut rng, "orders");
        let mut second = new_resource(&mut rng, "orders");
        second.scope = first.scope.clone();
        second.id = ResourceId::from_uuid(Uuid::from_u128(99));

        let mut world = World::default();
        let snapshot = world.tables.snapshot();
        if commits {
            world.execute(&Call::Insert(Box::new(first.clone())), snapshot);
        }
        let call = Call::Insert(Box::new(second));
        let simulated = world.execute(&call, snapshot);

        let winner = Stores::fresh().await;
        let loser = winner.second_connection().await;
        winner.run_sql("BEGIN").await;
        winner.execute(&Call::Insert(Box::new(first))).await;
        let end = async {
            winner.wait_for_lock_waiter().await;
            winner.run_sql(if commits { "COMMIT" } else { "ROLLBACK" }).await;
        };
        let (real, ()) = tokio::join!(loser.execute(&call), end);
        // The simulation takes the row for one that was deleted meanwhile, which gives a conflict.
        let expected = if commits { Insertion::Conflict } else { Insertion::Inserted };
        assert_eq!(simulated, Answer::Postgres(expected));
        let existing = matches!(real, Answer::Postgres(Insertion::Existing(_)));
        assert_eq!((existing, real == Answer::Postgres(Insertion::Inserted)), (commits, !commits), "{real:?}");
    }
}
