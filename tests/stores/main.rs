//! Compares the simulated stores with the real ones: the same calls, generated from a seed, are executed by both, by
//! the real ones through the commands and statements that the component sends. The answers must be the same.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod collections;
mod embedded;
mod feed;
mod native;
mod reading;
mod replication;

use std::collections::BTreeMap;

use exactly_once::condition::Expected;
use exactly_once::ports::{Attempt, ConditionalInsertion, Insertion, List, NewResource};
use exactly_once::{
    Customer, Document, Fingerprint, IdempotencyKey, KeyScope, ListState, Progress, Record, ResourceId,
};
use exactly_once_stores::redis::Reply;
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

fn record(new: &NewResource, progress: Progress) -> Record {
    Record { progress, fingerprint: new.fingerprint, id: new.id }
}

/// How often each kind of answer was seen.
#[derive(Default)]
struct Seen(BTreeMap<&'static str, u32>);

impl Seen {
    /// Every kind that must occur.
    const KINDS: [&'static str; 12] = [
        "inserted",
        "existing",
        "conflict",
        "inserted in a batch",
        "not inserted in a batch",
        "held lock",
        "inserted on a condition",
        "existing despite a condition",
        "stale",
        "conflict on a condition",
        "page",
        "unknown cursor",
    ];

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
        for kind in Self::KINDS.iter().filter(|kind| !without.contains(kind)) {
            assert!(self.0.get(kind) > Some(&10), "{kind} was rare: {:?}", self.0);
        }
    }
}

#[tokio::test]
async fn the_simulated_stores_answer_as_the_real_ones_do() {
    let mut seen = Seen::default();
    for seed in 0..SEQUENCES {
        let mut rng = StdRng::seed_from_u64(seed);
        let stores = Stores::fresh().await;
        let mut world = World::default();
        for number in 0..CALLS {
            let collection = collection(&mut rng);
            let new = new_resource(&mut rng, collection);
            let list = List::from(&new.scope);
            let call = match rng.random_range(0..18) {
                0..3 => Call::Reserve(new.scope.clone(), record(&new, Progress::InProgress)),
                3..5 => {
                    Call::Set(new.scope.clone(), record(&new, Progress::Completed(world.tables.history().unwrap())))
                }
                5..7 => Call::Insert(Box::new(new)),
                7 => Call::InsertAll(batch(&mut rng)),
                8..11 => {
                    insert_based_on(&mut world, &stores, &mut rng, new, &mut seen).await;
                    continue;
                }
                11 => Call::Acquire(new.scope),
                12 => Call::Release(new.scope),
                13 => Call::Find(new.scope),
                17 => Call::Withdraw(new.scope.clone(), record(&new, Progress::InProgress)),
                14 => {
                    let real = stores.find(&list, new.id).await;
                    assert_eq!(
                        world.tables.row(&list, new.id).map(|row| row.resource.clone()),
                        real,
                        "{seed}.{number}"
                    );
                    continue;
                }
                15 => {
                    let after = rng.random_bool(0.5).then_some(new.id);
                    let limit = rng.random_range(1..=2);
                    let read = |page: exactly_once::ports::Page| (page.resources, page.more);
                    let simulated = world.tables.page(&list, after, limit).map(read);
                    let real = stores.page(&list, after, limit).await.map(read);
                    assert_eq!(simulated, real, "{seed}.{number}");
                    let kind = real.map_or("unknown cursor", |_| "page");
                    seen.count(kind);
                    continue;
                }
                _ if rng.random_bool(0.2) => {
                    world.flush();
                    stores.flush().await;
                    continue;
                }
                _ => {
                    world.evict(&new.scope);
                    stores.evict(&new.scope).await;
                    continue;
                }
            };
            let snapshot = world.tables.snapshot();
            let simulated = world.execute(&call, snapshot);
            let real = stores.execute(&call).await;
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
        assert_eq!(simulated, stores.execute(&Call::AskHistory).await);
    }
    seen.assert_none_was_rare(&[]);
}

/// A conditional insertion in both.
async fn insert_based_on(world: &mut World, stores: &Stores, rng: &mut StdRng, new: NewResource, seen: &mut Seen) {
    let list = List::from(&new.scope);
    let state = async || stores.page(&list, None, 1).await.unwrap().state;
    let [simulated, real] = conditional_calls(rng, &new, [world.tables.list_state(&list), state().await]);
    let snapshot = world.tables.snapshot();
    let answers = [world.execute(&simulated, snapshot), stores.execute(&real).await];
    let states = (world.tables.list_state(&list), state().await);
    compare_conditional(answers, states, seen);
}

/// The call of a conditional insertion for each of two stores. The states of their lists differ, and so do the
/// conditions: the state that each list is in, any state, or no state.
fn conditional_calls(rng: &mut StdRng, new: &NewResource, states: [ListState; 2]) -> [Call; 2] {
    let expected = match rng.random_range(0..4) {
        0 => [Expected::Any, Expected::Any],
        1 => [Expected::OneOf(Vec::new()), Expected::OneOf(Vec::new())],
        _ => states.map(|state| Expected::OneOf(vec![state])),
    };
    expected.map(|expected| Call::InsertBasedOn(Box::new(new.clone()), expected))
}

/// The answers of the simulated and the real store to a conditional insertion. The states of their lists after it
/// differ, and the answers have them.
fn compare_conditional([simulated, real]: [Answer; 2], states: (ListState, ListState), seen: &mut Seen) {
    match (simulated, real) {
        (
            Answer::Conditional(ConditionalInsertion::Inserted(simulated)),
            Answer::Conditional(ConditionalInsertion::Inserted(real)),
        ) => {
            assert_eq!((simulated, real), states);
            seen.count("inserted on a condition");
        }
        (
            Answer::Conditional(ConditionalInsertion::Stale(simulated)),
            Answer::Conditional(ConditionalInsertion::Stale(real)),
        ) => {
            assert_eq!((simulated, real), states);
            seen.count("stale");
        }
        (simulated, real) => {
            assert_eq!(simulated, real);
            let existing = matches!(real, Answer::Conditional(ConditionalInsertion::Existing(_)));
            seen.count(match existing {
                true => "existing despite a condition",
                false => "conflict on a condition",
            });
        }
    }
}

/// The one thing that needs two connections: an insertion that waits until another one is committed or rolled back.
#[tokio::test]
async fn a_statement_does_not_see_what_was_committed_while_it_waited() {
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
        assert_eq!(simulated, real);
        let expected = if commits { Insertion::Conflict } else { Insertion::Inserted };
        assert_eq!(real, Answer::Postgres(expected));
    }
}
