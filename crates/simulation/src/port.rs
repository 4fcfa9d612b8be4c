//! A request's connection to the simulated stores: it puts down what it asks and waits for the scheduler.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use orders::create::conditional::Expected;
use orders::customer::Customer;
use orders::error::{DatabaseUnavailable, ReservationsUnavailable};
use orders::group_commit::{Approach, Batches, Group, Signals};
use orders::idempotency::{Record, KeyScope};
use orders::order::ResourceId;
use orders::ports::{
    Attempt, ConditionalInsertion, ConditionalResources, Insertion, Lock, Locks, NewResource, ResourceIds,
    Resources, ResourcesByKey, Reservation, Reservations, StoredResource,
};
use orders::stores::redis::Reply;
use orders::stores::redis::locks::lock;

use crate::world::{Answer, Call, World};

/// The world, shared by a run's requests.
pub type SharedWorld = Rc<RefCell<World>>;

/// What the requests of one instance share.
pub type Instance = Rc<Group<SharedSignals>>;

/// Signals between them. The scheduler looks at everybody who waits after each step; that wakers are told
/// is for the unit tests of the group.
pub struct SharedSignals;

/// Ready once the other end is gone.
pub struct Gone(Weak<()>);

impl Future for Gone {
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
    type Receiver = Gone;

    fn signal(&self) -> (Rc<()>, Gone) {
        let sender = Rc::new(());
        let receiver = Gone(Rc::downgrade(&sender));
        (sender, receiver)
    }
}

#[derive(Debug, Default)]
struct Exchange {
    call: Option<Call>,
    answer: Option<Answer>,
}

/// What one request holds of the stores. The scheduler holds a clone.
#[derive(Clone)]
pub struct Port {
    world: SharedWorld,
    /// The instance that the request is in.
    pub instance: Instance,
    exchange: Rc<RefCell<Exchange>>,
    /// Whether its time to wait for others is over.
    impatient: Rc<Cell<bool>>,
    /// Whether it leads, and waits for others only as long as it likes.
    gathers: Rc<Cell<bool>>,
    approach: Rc<Cell<Option<Approach<SharedSignals>>>>,
}

impl Port {
    /// A port of one request.
    pub fn new(world: SharedWorld, instance: Instance) -> Self {
        Self {
            world,
            approach: Rc::new(Cell::new(Some(instance.approach()))),
            instance,
            exchange: Rc::default(),
            impatient: Rc::default(),
            gathers: Rc::default(),
        }
    }

    /// Whether it waits for others, but would go on without them.
    pub fn gathers(&self) -> bool {
        self.gathers.get()
    }

    /// The request will not insert along with others: nobody has to wait for it.
    pub fn stay_alone(&self) {
        drop(self.approach.take());
    }

    /// Ends the request's time to wait for others.
    pub fn lose_patience(&self) {
        self.impatient.set(true);
    }

    /// The insertion along with others, as long as there is patience.
    pub async fn insert_with_others(&self, order: &NewResource, batches: &impl Batches) -> Attempt {
        drop(self.approach.take());
        let mut insertion = pin!(self.instance.insert(order, batches));
        poll_fn(|cx| match insertion.as_mut().poll(cx) {
            Poll::Pending if self.impatient.take() => Poll::Ready(Attempt::Undecided),
            other => other,
        })
        .await
    }

    /// What the request asks for, once.
    pub fn take_call(&self) -> Option<Call> {
        self.exchange.borrow_mut().call.take()
    }

    /// Gives the request its answer, to be found when it is polled.
    pub fn answer(&self, answer: Answer) {
        self.exchange.borrow_mut().answer = Some(answer);
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&self, call: Call) -> Answer {
        self.exchange.borrow_mut().call = Some(call);
        poll_fn(|_| match self.exchange.borrow_mut().answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        })
        .await
    }

    /// A reservation's answer before anybody has read it.
    pub async fn reserve_raw(
        &self,
        scope: &KeyScope,
        record: &Record,
    ) -> Result<Reply, ReservationsUnavailable> {
        match self.ask(Call::Reserve(scope.clone(), *record)).await {
            Answer::Redis(reply) => Ok(reply),
            _ => Err(ReservationsUnavailable),
        }
    }

    /// An insertion on a condition, of some kind.
    pub async fn follow(&self, call: Call) -> Result<ConditionalInsertion, DatabaseUnavailable> {
        match self.ask(call).await {
            Answer::Conditional(insertion) => Ok(insertion),
            _ => Err(DatabaseUnavailable),
        }
    }

    /// An insertion of some kind.
    pub async fn insert(&self, call: Call) -> Result<Insertion, DatabaseUnavailable> {
        drop(self.approach.take());
        match self.ask(call).await {
            Answer::Postgres(insertion) => Ok(insertion),
            _ => Err(DatabaseUnavailable),
        }
    }
}

impl Reservations for Port {
    async fn reserve(
        &self,
        scope: &KeyScope,
        record: &Record,
    ) -> Result<Reservation, ReservationsUnavailable> {
        self.reserve_raw(scope, record).await.map(Reservation::from)
    }

    async fn complete(&self, scope: &KeyScope, record: &Record) -> Result<(), ReservationsUnavailable> {
        match self.ask(Call::Set(scope.clone(), *record)).await {
            Answer::Redis(_) => Ok(()),
            _ => Err(ReservationsUnavailable),
        }
    }
}

impl Locks for Port {
    async fn acquire(
        &self,
        customer: &Customer,
        holder: &ResourceId,
    ) -> Result<Lock, ReservationsUnavailable> {
        match self.ask(Call::Acquire(customer.clone(), *holder)).await {
            Answer::Redis(reply) => lock(reply).ok_or(ReservationsUnavailable),
            _ => Err(ReservationsUnavailable),
        }
    }

    async fn release(
        &self,
        customer: &Customer,
        holder: &ResourceId,
    ) -> Result<(), ReservationsUnavailable> {
        match self.ask(Call::Release(customer.clone(), *holder)).await {
            Answer::Redis(_) => Ok(()),
            _ => Err(ReservationsUnavailable),
        }
    }
}

impl ConditionalResources for Port {
    async fn insert_based_on(
        &self,
        order: &NewResource,
        expected: &Expected,
    ) -> Result<ConditionalInsertion, DatabaseUnavailable> {
        let order = Box::new(order.clone());
        self.follow(Call::Follow(order, expected.clone())).await
    }
}

impl ResourcesByKey for Port {
    async fn find_by_key(&self, scope: &KeyScope) -> Result<Option<StoredResource>, DatabaseUnavailable> {
        match self.ask(Call::Find(scope.clone())).await {
            Answer::Found(found) => Ok(found),
            _ => Err(DatabaseUnavailable),
        }
    }
}

impl Batches for Port {
    async fn insert_all(&self, orders: &[&NewResource]) -> Result<Vec<Attempt>, DatabaseUnavailable> {
        self.gathers.set(false);
        let orders = orders.iter().map(|order| (*order).clone()).collect();
        match self.ask(Call::InsertAll(orders)).await {
            Answer::Attempts(attempts) => Ok(attempts),
            _ => Err(DatabaseUnavailable),
        }
    }

    async fn patience(&self) {
        self.gathers.set(true);
        poll_fn(|_| match self.impatient.take() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}

impl Resources for Port {
    async fn insert_new(&self, order: &NewResource) -> Attempt {
        self.insert_with_others(order, self).await
    }

    async fn insert_unless_exists(&self, order: &NewResource) -> Result<Insertion, DatabaseUnavailable> {
        self.insert(Call::Insert(Box::new(order.clone()))).await
    }

    async fn find(
        &self,
        customer: &Customer,
        order_id: ResourceId,
    ) -> Result<Option<StoredResource>, DatabaseUnavailable> {
        Ok(self.world.borrow().find(customer, order_id).cloned())
    }
}

impl ResourceIds for Port {
    fn draw(&self) -> ResourceId {
        self.world.borrow_mut().draw_id()
    }
}
