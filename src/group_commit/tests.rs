//! The group on an executor that polls only who was woken.

use std::cell::{Cell, RefCell};

use futures::channel::oneshot;
use futures::executor::{LocalPool, LocalSpawner};
use futures::future::FutureExt;
use futures::task::LocalSpawnExt;

use super::*;
use crate::customer::Customer;
use crate::idempotency::{Fingerprint, IdempotencyKey, Slot};
use crate::order::{Draft, OrderId};

struct Oneshots;

impl Signals for Oneshots {
    type Sender = oneshot::Sender<()>;
    type Receiver = std::pin::Pin<Box<dyn Future<Output = ()>>>;

    fn signal(&self) -> (Self::Sender, Self::Receiver) {
        let (sender, receiver) = oneshot::channel();
        (sender, receiver.map(|_| ()).boxed_local())
    }
}

/// What a statement comes to.
type Outcome = Result<Vec<Attempt>, OrdersUnavailable>;

/// Statements that wait to be answered by the test.
#[derive(Default)]
struct Database {
    patient: Cell<bool>,
    statements: RefCell<Vec<(Vec<String>, oneshot::Sender<Outcome>)>>,
}

impl Batches for Rc<Database> {
    async fn insert_all(&self, orders: &[&NewOrder]) -> Outcome {
        let (sender, receiver) = oneshot::channel();
        let keys = orders.iter().map(|o| o.slot.key.as_str().to_owned());
        self.statements.borrow_mut().push((keys.collect(), sender));
        receiver.await.unwrap_or(Err(OrdersUnavailable))
    }

    async fn patience(&self) {
        if self.patient.get() {
            std::future::pending::<()>().await;
        }
    }
}

struct Setup {
    pool: LocalPool,
    group: Rc<Group<Oneshots>>,
    database: Rc<Database>,
}

/// A request that can be given up.
struct Request {
    outcome: Rc<Cell<Option<Attempt>>>,
    task: Option<futures::future::RemoteHandle<()>>,
}

impl Setup {
    fn new() -> Self {
        Self {
            pool: LocalPool::new(),
            group: Rc::new(Group::new(Oneshots)),
            database: Rc::default(),
        }
    }

    /// One in which leaders wait for as long as it takes.
    fn patient() -> Self {
        let setup = Self::new();
        setup.database.patient.set(true);
        setup
    }

    fn request(&mut self, key: &str) -> Request {
        let (group, database, order) = (self.group.clone(), self.database.clone(), order(key));
        let outcome = Rc::new(Cell::new(None));
        let told = outcome.clone();
        let spawner: LocalSpawner = self.pool.spawner();
        let run = async move { told.set(Some(group.insert(&order, &database).await)) };
        let task = spawner.spawn_local_with_handle(run).expect("spawned");
        self.pool.run_until_stalled();
        Request {
            outcome,
            task: Some(task),
        }
    }

    /// The keys of the statements that are under way.
    fn under_way(&self) -> Vec<Vec<String>> {
        let statements = self.database.statements.borrow();
        statements.iter().map(|(keys, _)| keys.clone()).collect()
    }

    fn answer(&mut self, outcome: Outcome) {
        let (_, sender) = self.database.statements.borrow_mut().remove(0);
        let _ = sender.send(outcome);
        self.pool.run_until_stalled();
    }

    fn give_up(&mut self, request: &mut Request) {
        request.task = None;
        self.pool.run_until_stalled();
    }
}

fn order(key: &str) -> NewOrder {
    let slot = Slot {
        customer: Customer::anonymous(),
        key: IdempotencyKey::parse(key.as_bytes()).expect("a key"),
    };
    let items = br#"[{"quantity":2,"sku":"A","unitPrice":5}]"#;
    NewOrder {
        order_id: OrderId::from_uuid(uuid::Uuid::from_u128(1)),
        fingerprint: Fingerprint::of(&slot, "POST", "/", ""),
        draft: Draft::from_stored("EUR".into(), items, None, 10).expect("readable"),
        slot,
    }
}

use Attempt::{Inserted, Undecided};

#[test]
fn whoever_comes_while_a_statement_is_under_way_shares_the_next_in_the_order_of_keys() {
    let mut setup = Setup::new();
    let first = setup.request("m");
    let (z, a) = (setup.request("z"), setup.request("a"));
    assert_eq!(setup.under_way(), [["m"]]);

    setup.answer(Ok(vec![Inserted]));
    assert_eq!(first.outcome.get(), Some(Inserted));
    assert_eq!(setup.under_way(), [["a", "z"]]);
    let late = setup.request("b");

    setup.answer(Ok(vec![Undecided, Inserted]));
    assert_eq!(
        (a.outcome.get(), z.outcome.get()),
        (Some(Undecided), Some(Inserted))
    );
    setup.answer(Ok(vec![Inserted]));
    assert_eq!(late.outcome.get(), Some(Inserted));

    let alone = setup.request("c");
    setup.answer(Ok(vec![Inserted]));
    assert_eq!(alone.outcome.get(), Some(Inserted));
}

#[test]
fn a_statement_that_fails_decides_nothing_for_anybody() {
    let mut setup = Setup::new();
    let first = setup.request("m");
    let (second, third) = (setup.request("a"), setup.request("b"));
    setup.answer(Err(OrdersUnavailable));
    setup.answer(Err(OrdersUnavailable));
    for request in [first, second, third] {
        assert_eq!(request.outcome.get(), Some(Undecided));
    }
}

#[test]
fn a_leader_that_dies_leaves_its_members_undecided_and_the_lead_to_the_next() {
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
fn who_gives_up_waiting_is_not_inserted_and_does_not_keep_the_lead() {
    let mut setup = Setup::new();
    let first = setup.request("m");
    let mut gone = setup.request("a");
    let mut chosen = setup.request("b");
    let last = setup.request("c");
    setup.give_up(&mut gone);

    // Told to lead, and gone before it could: nothing is polled in between.
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
fn a_leader_waits_for_those_on_their_way_whether_they_come_or_not() {
    let mut setup = Setup::patient();
    let (coming, not_coming) = (setup.group.approach(), setup.group.approach());
    let leader = setup.request("m");
    assert!(setup.under_way().is_empty());
    drop(coming);
    let other = setup.request("a");
    assert!(setup.under_way().is_empty());
    drop(not_coming);
    setup.pool.run_until_stalled();
    assert_eq!(setup.under_way(), [["a", "m"]]);
    setup.answer(Ok(vec![Inserted, Undecided]));
    assert_eq!(
        (leader.outcome.get(), other.outcome.get()),
        (Some(Undecided), Some(Inserted))
    );
}

#[test]
fn a_leader_does_not_wait_for_ever() {
    let mut setup = Setup::new();
    let slow = setup.group.approach();
    let leader = setup.request("m");
    assert_eq!(setup.under_way(), [["m"]]);
    setup.answer(Ok(vec![Inserted]));
    assert_eq!(leader.outcome.get(), Some(Inserted));
    drop(slow);
}

#[test]
fn a_leader_that_dies_while_it_waits_hands_over() {
    let mut setup = Setup::patient();
    let on_the_way = setup.group.approach();
    let mut leader = setup.request("m");
    let next = setup.request("a");
    setup.give_up(&mut leader);
    assert!(setup.under_way().is_empty());
    drop(on_the_way);
    setup.pool.run_until_stalled();
    assert_eq!(setup.under_way(), [["a"]]);
    setup.answer(Ok(vec![Inserted]));
    assert_eq!(next.outcome.get(), Some(Inserted));
}

#[test]
fn a_leader_waits_for_as_many_as_came_last_time() {
    let mut setup = Setup::patient();
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

    // They do not come any more: once, that is waited for.
    setup.database.patient.set(false);
    let alone = setup.request("e");
    setup.answer(Ok(vec![Inserted]));
    assert_eq!(alone.outcome.get(), Some(Inserted));
    setup.database.patient.set(true);
    let _alone = setup.request("f");
    assert_eq!(setup.under_way(), [["f"]]);
}
