//! The group on an executor that polls only tasks that were woken.

use std::cell::{Cell, RefCell};

use futures::channel::oneshot;
use futures::executor::{LocalPool, LocalSpawner};
use futures::task::LocalSpawnExt;

use super::*;
use crate::customer::Customer;
use crate::fingerprint::Fingerprint;
use crate::key::{IdempotencyKey, KeyScope};
use crate::resource::{Document, ResourceId};
use crate::signals::oneshots::Oneshots;

/// The answer to a statement.
type Answer = Result<Vec<Attempt>, DatabaseError>;

/// Statements that wait to be answered by the test.
#[derive(Default)]
struct Database {
    endless_window: Cell<bool>,
    statements: RefCell<Vec<(Vec<String>, oneshot::Sender<Answer>)>>,
}

impl Batches for Rc<Database> {
    async fn insert_all(&self, batch: &[&NewResource]) -> Answer {
        let (sender, receiver) = oneshot::channel();
        let keys = batch.iter().map(|new| new.scope.key.as_str().to_owned());
        self.statements.borrow_mut().push((keys.collect(), sender));
        receiver.await.unwrap_or(Err(DatabaseError::Unavailable))
    }

    async fn batch_window(&self) {
        if self.endless_window.get() {
            std::future::pending::<()>().await;
        }
    }
}

struct Setup {
    pool: LocalPool,
    group: Rc<Group<Oneshots>>,
    database: Rc<Database>,
}

/// A request that the test can drop.
struct Request {
    outcome: Rc<Cell<Option<Attempt>>>,
    task: Option<futures::future::RemoteHandle<()>>,
}

impl Setup {
    fn new() -> Self {
        Self { pool: LocalPool::new(), group: Rc::new(Group::new(Oneshots)), database: Rc::default() }
    }

    /// One in which the batch window never ends.
    fn with_endless_window() -> Self {
        let setup = Self::new();
        setup.database.endless_window.set(true);
        setup
    }

    fn request(&mut self, key: &str) -> Request {
        let (group, database, new) = (self.group.clone(), self.database.clone(), new(key));
        let outcome = Rc::new(Cell::new(None));
        let told = outcome.clone();
        let spawner: LocalSpawner = self.pool.spawner();
        let run = async move { told.set(Some(group.insert(&new, &database).await)) };
        let task = spawner.spawn_local_with_handle(run).expect("spawned");
        self.pool.run_until_stalled();
        Request { outcome, task: Some(task) }
    }

    /// The keys of the statements that are under way.
    fn under_way(&self) -> Vec<Vec<String>> {
        let statements = self.database.statements.borrow();
        statements.iter().map(|(keys, _)| keys.clone()).collect()
    }

    fn answer(&mut self, outcome: Answer) {
        let (_, sender) = self.database.statements.borrow_mut().remove(0);
        let _ = sender.send(outcome);
        self.pool.run_until_stalled();
    }

    fn give_up(&mut self, request: &mut Request) {
        request.task = None;
        self.pool.run_until_stalled();
    }
}

fn new(key: &str) -> NewResource {
    let scope = KeyScope {
        collection: "orders",
        customer: Customer::anonymous(),
        key: IdempotencyKey::parse(key.as_bytes()).expect("a key"),
    };
    let document = Document::from_text("{}");
    NewResource {
        id: ResourceId::from_uuid(uuid::Uuid::from_u128(1)),
        fingerprint: Fingerprint::of(&scope, "POST", "/", &document),
        document,
        scope,
    }
}

use Attempt::{Inserted, Undecided};

#[test]
fn requests_that_arrive_during_a_statement_share_the_next_in_key_order() {
    let mut setup = Setup::new();
    let first = setup.request("m");
    let (z, a) = (setup.request("z"), setup.request("a"));
    assert_eq!(setup.under_way(), [["m"]]);

    setup.answer(Ok(vec![Inserted]));
    assert_eq!(first.outcome.get(), Some(Inserted));
    assert_eq!(setup.under_way(), [["a", "z"]]);
    let late = setup.request("b");

    setup.answer(Ok(vec![Undecided, Inserted]));
    assert_eq!((a.outcome.get(), z.outcome.get()), (Some(Undecided), Some(Inserted)));
    setup.answer(Ok(vec![Inserted]));
    assert_eq!(late.outcome.get(), Some(Inserted));

    let alone = setup.request("c");
    setup.answer(Ok(vec![Inserted]));
    assert_eq!(alone.outcome.get(), Some(Inserted));
}

#[test]
fn a_failed_statement_decides_nothing() {
    let mut setup = Setup::new();
    let first = setup.request("m");
    let (second, third) = (setup.request("a"), setup.request("b"));
    setup.answer(Err(DatabaseError::Unavailable));
    setup.answer(Err(DatabaseError::Unavailable));
    for request in [first, second, third] {
        assert_eq!(request.outcome.get(), Some(Undecided));
    }
}

#[test]
fn when_a_leader_dies_its_batch_is_undecided_and_the_next_waiter_leads() {
    let mut setup = Setup::new();
    let mut leader = setup.request("m");
    let mut second = setup.request("a");
    let member = setup.request("b");
    setup.give_up(&mut leader);
    assert_eq!(setup.under_way().last().expect("a second"), &["a", "b"]);

    let waiting = setup.request("c");
    setup.give_up(&mut second);
    assert_eq!(member.outcome.get(), Some(Undecided));
    assert_eq!(setup.under_way().last().expect("a third"), &["c"]);
    setup.database.statements.borrow_mut().drain(..2);
    setup.answer(Ok(vec![Inserted]));
    assert_eq!(waiting.outcome.get(), Some(Inserted));
}

#[test]
fn a_waiter_that_gives_up_is_not_inserted_and_does_not_keep_the_lead() {
    let mut setup = Setup::new();
    let first = setup.request("m");
    let mut gone = setup.request("a");
    let mut chosen = setup.request("b");
    let last = setup.request("c");
    setup.give_up(&mut gone);

    // It was made the leader and gave up before it could lead: nothing is polled in between.
    let (_, sender) = setup.database.statements.borrow_mut().remove(0);
    let _ = sender.send(Ok(vec![Inserted]));
    setup.pool.try_run_one();
    chosen.task = None;
    setup.pool.run_until_stalled();
    assert_eq!(first.outcome.get(), Some(Inserted));
    assert_eq!(setup.under_way(), [["c"]]);
    setup.answer(Ok(vec![Inserted]));
    assert_eq!(last.outcome.get(), Some(Inserted));
}

#[test]
fn a_leader_waits_until_every_ticket_is_used_or_dropped() {
    let mut setup = Setup::with_endless_window();
    let (used, dropped) = (setup.group.ticket(), setup.group.ticket());
    let leader = setup.request("m");
    assert!(setup.under_way().is_empty());
    drop(used);
    let other = setup.request("a");
    assert!(setup.under_way().is_empty());
    drop(dropped);
    setup.pool.run_until_stalled();
    assert_eq!(setup.under_way(), [["a", "m"]]);
    setup.answer(Ok(vec![Inserted, Undecided]));
    assert_eq!((leader.outcome.get(), other.outcome.get()), (Some(Undecided), Some(Inserted)));
}

#[test]
fn a_leader_waits_no_longer_than_the_batch_window() {
    let mut setup = Setup::new();
    let slow = setup.group.ticket();
    let leader = setup.request("m");
    assert_eq!(setup.under_way(), [["m"]]);
    setup.answer(Ok(vec![Inserted]));
    assert_eq!(leader.outcome.get(), Some(Inserted));
    drop(slow);
}

#[test]
fn a_leader_that_dies_while_it_waits_hands_over() {
    let mut setup = Setup::with_endless_window();
    let ticket = setup.group.ticket();
    let mut leader = setup.request("m");
    let next = setup.request("a");
    setup.give_up(&mut leader);
    assert!(setup.under_way().is_empty());
    drop(ticket);
    setup.pool.run_until_stalled();
    assert_eq!(setup.under_way(), [["a"]]);
    setup.answer(Ok(vec![Inserted]));
    assert_eq!(next.outcome.get(), Some(Inserted));
}

#[test]
fn a_leader_waits_for_as_many_requests_as_last_time() {
    let mut setup = Setup::with_endless_window();
    let _first = setup.request("m");
    let _others = (setup.request("a"), setup.request("b"));
    setup.answer(Ok(vec![Inserted]));
    setup.answer(Ok(vec![Inserted; 2]));

    let again = setup.request("c");
    assert!(setup.under_way().is_empty());
    let _once_more = setup.request("d");
    assert_eq!(setup.under_way(), [["c", "d"]]);
    setup.answer(Ok(vec![Inserted; 2]));
    assert_eq!(again.outcome.get(), Some(Inserted));

    // They do not arrive any more: the leader waits for them once.
    setup.database.endless_window.set(false);
    let alone = setup.request("e");
    setup.answer(Ok(vec![Inserted]));
    assert_eq!(alone.outcome.get(), Some(Inserted));
    setup.database.endless_window.set(true);
    let _alone = setup.request("f");
    assert_eq!(setup.under_way(), [["f"]]);
}
