//! A request's connection to the simulated stores: it puts down what it asks and waits for the scheduler.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use orders::customer::Customer;
use orders::error::{OrdersUnavailable, ReservationsUnavailable};
use orders::idempotency::{Record, Slot};
use orders::order::OrderId;
use orders::ports::{
    Insertion, NewOrder, OrderIds, Orders, Reservation, Reservations, StoredOrder,
};
use orders::stores::redis::Reply;

use crate::world::{Answer, Call, World};

/// The world, shared by a run's requests.
pub type SharedWorld = Rc<RefCell<World>>;

#[derive(Debug, Default)]
struct Exchange {
    call: Option<Call>,
    answer: Option<Answer>,
}

/// What one request holds of the stores. The scheduler holds a clone.
#[derive(Clone, Debug)]
pub struct Port {
    world: SharedWorld,
    exchange: Rc<RefCell<Exchange>>,
}

impl Port {
    /// A port of one request.
    pub fn new(world: SharedWorld) -> Self {
        Self {
            world,
            exchange: Rc::default(),
        }
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
        slot: &Slot,
        record: &Record,
    ) -> Result<Reply, ReservationsUnavailable> {
        match self.ask(Call::Reserve(slot.clone(), *record)).await {
            Answer::Redis(reply) => Ok(reply),
            Answer::Postgres(_) | Answer::Nothing => Err(ReservationsUnavailable),
        }
    }

    /// An insertion of some kind.
    pub async fn insert(&self, call: Call) -> Result<Insertion, OrdersUnavailable> {
        match self.ask(call).await {
            Answer::Postgres(insertion) => Ok(insertion),
            Answer::Redis(_) | Answer::Nothing => Err(OrdersUnavailable),
        }
    }
}

impl Reservations for Port {
    async fn reserve(
        &self,
        slot: &Slot,
        record: &Record,
    ) -> Result<Reservation, ReservationsUnavailable> {
        self.reserve_raw(slot, record).await.map(Reservation::from)
    }

    async fn finish(&self, slot: &Slot, record: &Record) -> Result<(), ReservationsUnavailable> {
        match self.ask(Call::Set(slot.clone(), *record)).await {
            Answer::Redis(_) => Ok(()),
            Answer::Postgres(_) | Answer::Nothing => Err(ReservationsUnavailable),
        }
    }
}

impl Orders for Port {
    async fn insert_unless_exists(&self, order: &NewOrder) -> Result<Insertion, OrdersUnavailable> {
        self.insert(Call::Insert(Box::new(order.clone()))).await
    }

    async fn find(
        &self,
        customer: &Customer,
        order_id: OrderId,
    ) -> Result<Option<StoredOrder>, OrdersUnavailable> {
        Ok(self.world.borrow().find(customer, order_id).cloned())
    }
}

impl OrderIds for Port {
    fn draw(&self) -> OrderId {
        self.world.borrow_mut().draw_id()
    }
}
