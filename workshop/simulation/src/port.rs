//! A request's connection to the simulated stores: it leaves each call to the scheduler and waits for the answer.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use exactly_once::condition::Expected;
use exactly_once::error::{DatabaseUnavailable, ReservationsUnavailable};
use exactly_once::feed::{Cursor, Mark};
use exactly_once::group_commit::{Batches, Group, Ticket};
use exactly_once::history::{HistoryMonitor, OUTAGE};
use exactly_once::ports::{
    Attempt, ConditionalInsertion, ConditionalResources, Feed, FeedEntry, FeedRows, Histories, Insertion, List, Lock,
    Locks, NewResource, Outlook, Page, RecordLookup, Reservation, Reservations, ResourceIds, ResourceLists, Resources,
    ResourcesByKey, StoredResource, Writers,
};
use exactly_once::ports::{Probe, Probes};
use exactly_once::signals::Signals;
use exactly_once::single_flight::SingleFlight;
use exactly_once::{Customer, History, InHistory, KeyScope, KnownHistory, ListState, Record, ResourceId};
use exactly_once_stores::redis::locks::lock;
use exactly_once_stores::redis::{Reply, reservation};

use crate::kind::Kind;
use crate::world::{Answer, Call, World};

/// The world, shared by the requests of a run.
pub type SharedWorld = Rc<RefCell<World>>;

/// The requests of one instance that insert into one collection.
pub type SharedGroup = Rc<Group<SharedSignals>>;

/// What the requests of one instance share: a group per collection, and what they have heard of the database.
pub struct Instance {
    heard: Rc<Heard>,
    orders: SharedGroup,
    refunds: SharedGroup,
}

/// What the requests of one instance have heard of the database.
struct Heard {
    monitor: RefCell<HistoryMonitor>,
    asking: SingleFlight<SharedSignals>,
    /// When a statement failed last.
    failed: Cell<Option<Duration>>,
}

impl Instance {
    /// An instance without requests.
    pub fn new() -> Self {
        let group = || Rc::new(Group::new(SharedSignals));
        Self {
            heard: Rc::new(Heard {
                monitor: RefCell::default(),
                asking: SingleFlight::new(SharedSignals),
                failed: Cell::default(),
            }),
            orders: group(),
            refunds: group(),
        }
    }

    /// The last history that the database has named.
    pub fn last_history(&self, now: Duration) -> Option<History> {
        self.heard.monitor.borrow().known(now).last()
    }

    /// Whether a statement has failed since that time, or not long before.
    pub fn knew_of_outage(&self, since: Duration) -> bool {
        let failed = self.heard.failed.get();
        failed.is_some_and(|failed| failed + OUTAGE > since)
    }

    /// The group of a collection.
    pub fn group(&self, kind: Kind) -> &SharedGroup {
        match kind {
            Kind::Order => &self.orders,
            Kind::Refund => &self.refunds,
        }
    }
}

impl Default for Instance {
    fn default() -> Self {
        Self::new()
    }
}

/// Signals between requests. They wake no task: the scheduler polls all waiting requests after each step. The unit
/// tests of the group check that tasks are woken.
pub struct SharedSignals;

/// Ready once the sender is dropped.
pub struct SharedReceiver(Weak<()>);

impl Future for SharedReceiver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match self.0.strong_count() {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

impl Signals for SharedSignals {
    type Sender = Rc<()>;
    type Receiver = SharedReceiver;

    fn signal(&self) -> (Rc<()>, SharedReceiver) {
        let sender = Rc::new(());
        let receiver = SharedReceiver(Rc::downgrade(&sender));
        (sender, receiver)
    }
}

#[derive(Debug, Default)]
struct Exchange {
    call: Option<Call>,
    answer: Option<Answer>,
}

/// The stores, as one request uses them. Clones share their state; the scheduler holds one.
#[derive(Clone)]
pub struct Port {
    world: SharedWorld,
    kind: Kind,
    group: SharedGroup,
    heard: Rc<Heard>,
    exchange: Rc<RefCell<Exchange>>,
    /// When the last call was made.
    sent: Rc<Cell<Duration>>,
    /// Whether the time to wait for other requests is over.
    wait_over: Rc<Cell<bool>>,
    /// Whether the request is the leader and waits for the batch to fill.
    fills_batch: Rc<Cell<bool>>,
    /// Whether the request waits for another one's question for the history.
    awaits_history: Rc<Cell<bool>>,
    ticket: Rc<Cell<Option<Ticket<SharedSignals>>>>,
}

impl Port {
    /// The port of one request for a resource of this kind.
    pub fn new(world: SharedWorld, kind: Kind, instance: &Instance) -> Self {
        Self {
            world,
            kind,
            group: instance.group(kind).clone(),
            heard: instance.heard.clone(),
            exchange: Rc::default(),
            sent: Rc::default(),
            wait_over: Rc::default(),
            fills_batch: Rc::default(),
            awaits_history: Rc::default(),
            ticket: Rc::default(),
        }
    }

    /// Whether the request is the leader and waits for the batch to fill, at most for the batch window.
    pub fn fills_batch(&self) -> bool {
        self.fills_batch.get()
    }

    /// Whether the request waits for another one's question for the history.
    pub fn awaits_history(&self) -> bool {
        self.awaits_history.get()
    }

    /// Ends the request's time to wait for others: a leader's batch window, or a waiter's deadline.
    pub fn end_wait(&self) {
        self.wait_over.set(true);
    }

    /// Inserts together with other requests, within the time to wait for them.
    pub async fn insert_in_group(&self, new: &NewResource, batches: &impl Batches) -> Attempt {
        drop(self.ticket.take());
        let attempt = self.until_wait_ends(self.group.insert(new, batches)).await;
        attempt.unwrap_or(Attempt::Undecided)
    }

    /// The output of a future that waits for other requests, or `None` when the time to wait for them is over.
    async fn until_wait_ends<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.wait_over.take() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// The call that the request waits for, once.
    pub fn take_call(&self) -> Option<Call> {
        self.exchange.borrow_mut().call.take()
    }

    /// Leaves the answer to the request's call, which finds it when it is polled.
    pub fn answer(&self, answer: Answer) {
        self.exchange.borrow_mut().answer = Some(answer);
    }

    /// Leaves a call to the scheduler, and waits for the answer.
    pub async fn call(&self, call: Call) -> Answer {
        self.sent.set(self.world.borrow().now());
        self.exchange.borrow_mut().call = Some(call);
        poll_fn(|_| match self.exchange.borrow_mut().answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        })
        .await
    }

    /// The reply to a reservation, before it is decoded.
    pub async fn reserve_raw(&self, scope: &KeyScope, record: &Record) -> Result<Reply, ReservationsUnavailable> {
        match self.call(Call::Reserve(scope.clone(), *record)).await {
            Answer::Redis(reply) => Ok(reply),
            _ => Err(ReservationsUnavailable),
        }
    }

    /// Makes a call that inserts on a condition.
    pub async fn call_conditional(&self, call: Call) -> Result<InHistory<ConditionalInsertion>, DatabaseUnavailable> {
        match self.call(call).await {
            Answer::Conditional(insertion) => Ok(self.heard(insertion)),
            _ => Err(self.failed()),
        }
    }

    /// Makes a call that inserts without a condition.
    pub async fn call_insert(&self, call: Call) -> Result<InHistory<Insertion>, DatabaseUnavailable> {
        drop(self.ticket.take());
        match self.call(call).await {
            Answer::Postgres(insertion) => Ok(self.heard(insertion)),
            _ => Err(self.failed()),
        }
    }

    /// The history that the database is in. Only for broken variants.
    pub fn history(&self) -> History {
        self.world.borrow().tables.history()
    }

    /// The state that a list is in. Only for broken variants.
    pub fn list_state(&self, list: &List) -> ListState {
        self.world.borrow().tables.list_state(list)
    }

    /// A statement was executed in this very step: its history is the database's.
    fn heard<T>(&self, value: T) -> InHistory<T> {
        let history = self.history();
        let mut monitor = self.heard.monitor.borrow_mut();
        monitor.heard(history, self.sent.get());
        InHistory { history, value }
    }

    fn failed(&self) -> DatabaseUnavailable {
        let now = self.world.borrow().now();
        let mut monitor = self.heard.monitor.borrow_mut();
        monitor.failed(self.sent.get(), now);
        self.heard.failed.set(Some(now));
        DatabaseUnavailable
    }

    fn list(&self, customer: &Customer) -> List {
        List {
            collection: self.kind.collection().name,
            customer: customer.clone(),
        }
    }
}

impl Reservations for Port {
    async fn reserve(&self, scope: &KeyScope, record: &Record) -> Result<Reservation, ReservationsUnavailable> {
        self.reserve_raw(scope, record).await.map(reservation)
    }

    async fn complete(&self, scope: &KeyScope, record: &Record) -> Result<(), ReservationsUnavailable> {
        match self.call(Call::Set(scope.clone(), *record)).await {
            Answer::Redis(_) => Ok(()),
            _ => Err(ReservationsUnavailable),
        }
    }

    async fn withdraw(&self, scope: &KeyScope, record: &Record) -> Result<(), ReservationsUnavailable> {
        match self.call(Call::Withdraw(scope.clone(), *record)).await {
            Answer::Redis(_) => Ok(()),
            _ => Err(ReservationsUnavailable),
        }
    }
}

impl Locks for Port {
    async fn acquire(&self, list: &List, holder: &ResourceId) -> Result<Lock, ReservationsUnavailable> {
        match self.call(Call::Acquire(list.clone(), *holder)).await {
            Answer::Redis(reply) => lock(reply).ok_or(ReservationsUnavailable),
            _ => Err(ReservationsUnavailable),
        }
    }

    async fn release(&self, list: &List, holder: &ResourceId) -> Result<(), ReservationsUnavailable> {
        match self.call(Call::Release(list.clone(), *holder)).await {
            Answer::Redis(_) => Ok(()),
            _ => Err(ReservationsUnavailable),
        }
    }
}

impl ConditionalResources for Port {
    async fn insert_based_on(
        &self,
        new: &NewResource,
        expected: &Expected,
    ) -> Result<InHistory<ConditionalInsertion>, DatabaseUnavailable> {
        let call = Call::InsertBasedOn(Box::new(new.clone()), expected.clone());
        self.call_conditional(call).await
    }
}

impl ResourcesByKey for Port {
    async fn find_by_key(&self, scope: &KeyScope) -> Result<InHistory<Option<StoredResource>>, DatabaseUnavailable> {
        match self.call(Call::Find(scope.clone())).await {
            Answer::Found(found) => Ok(self.heard(found)),
            _ => Err(self.failed()),
        }
    }
}

impl Batches for Port {
    async fn insert_all(&self, batch: &[&NewResource]) -> Result<Vec<Attempt>, DatabaseUnavailable> {
        self.fills_batch.set(false);
        let batch = batch.iter().map(|new| (*new).clone()).collect();
        match self.call(Call::InsertAll(batch)).await {
            Answer::Attempts(attempts) => Ok(attempts),
            _ => Err(DatabaseUnavailable),
        }
    }

    async fn batch_window(&self) {
        self.fills_batch.set(true);
        poll_fn(|_| match self.wait_over.take() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}

impl Resources for Port {
    fn announce_insertion(&self) {
        self.ticket.set(Some(self.group.ticket()));
    }

    async fn insert_new(&self, new: &NewResource) -> Attempt {
        self.insert_in_group(new, self).await
    }

    async fn insert_unless_exists(&self, new: &NewResource) -> Result<InHistory<Insertion>, DatabaseUnavailable> {
        self.call_insert(Call::Insert(Box::new(new.clone()))).await
    }
}

impl Histories for Port {
    fn known_history(&self) -> KnownHistory {
        let now = self.world.borrow().now();
        self.heard.monitor.borrow().known(now)
    }

    async fn ask_history(&self) -> KnownHistory {
        self.awaits_history.set(true);
        let joined = self.until_wait_ends(self.heard.asking.join()).await;
        self.awaits_history.set(false);
        if let Some(Some(_flight)) = joined {
            match self.call(Call::AskHistory).await {
                Answer::History => drop(self.heard(())),
                _ => drop(self.failed()),
            }
        }
        self.known_history()
    }
}

impl ResourceIds for Port {
    fn draw(&self) -> ResourceId {
        self.world.borrow_mut().draw_id()
    }
}

/// At once and without faults: no creation reads a record in this way.
impl RecordLookup for Port {
    async fn find_record(&self, scope: &KeyScope) -> Result<Option<Record>, ReservationsUnavailable> {
        Ok(self.world.borrow().record(scope).and_then(Record::decode))
    }
}

/// At once and without faults: no creation reads a list.
impl ResourceLists for Port {
    async fn find(&self, customer: &Customer, id: ResourceId) -> Result<Option<StoredResource>, DatabaseUnavailable> {
        let world = self.world.borrow();
        let row = world.tables.row(&self.list(customer), id);
        Ok(row.map(|row| row.resource.clone()))
    }

    async fn page(
        &self,
        customer: &Customer,
        after: Option<ResourceId>,
        limit: usize,
    ) -> Result<Option<Page>, DatabaseUnavailable> {
        let list = self.list(customer);
        Ok(self.world.borrow().tables.page(&list, after, limit))
    }
}

/// At once and without faults: no creation reads the feed. A row's number is its place in the order of the commits.
impl Feed for Port {
    async fn look(&self, after: i64, limit: usize, _: Option<&Writers>) -> Result<Outlook, DatabaseUnavailable> {
        let rows = self.read(after, i64::MAX, limit).await?;
        Ok(Outlook {
            mark: rows.mark,
            last: rows.entries.last().map(|entry| entry.cursor.seq),
            writers: Writers::default(),
        })
    }

    async fn read(&self, after: i64, last: i64, limit: usize) -> Result<FeedRows, DatabaseUnavailable> {
        let world = self.world.borrow();
        let mark = Mark::from_bytes(world.tables.history().as_bytes()).ok_or(DatabaseUnavailable)?;
        let collection = self.kind.collection().name;
        let rows = (1..).zip(world.tables.rows());
        let rows = rows.filter(|(_, row)| row.scope.collection == collection);
        let entries = rows.map(|(seq, row)| FeedEntry {
            cursor: Cursor { mark, seq },
            customer: row.scope.customer.as_str().to_owned(),
            id: row.resource.id,
            document: row.resource.document.clone(),
        });
        let entries = entries.filter(|entry| (after + 1..=last).contains(&entry.cursor.seq));
        Ok(FeedRows {
            mark,
            entries: entries.take(limit).collect(),
        })
    }
}

impl Probes for Port {
    async fn probe(&self) -> Probe {
        Probe {
            up: true,
            latency_ms: 0.0,
        }
    }
}
