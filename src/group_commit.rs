//! Group commit: requests of one instance that want to insert at about the same time share a statement. It
//! costs Postgres and the host little more than a single insertion, and the instance needs one connection
//! for all of them. Whoever comes first leads, and waits for those who are on their way; whoever comes while
//! a statement is under way shares the next. A leader may die at any await.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use crate::error::OrdersUnavailable;
use crate::ports::{Attempt, NewOrder};

/// Inserts many orders at once.
#[allow(
    async_fn_in_trait,
    reason = "the callers are generic and single-threaded; none needs a Send bound"
)]
pub trait Batches {
    /// Inserts those orders that nothing stands in the way of, in one statement and one implicit
    /// transaction, and says of each whether it was inserted. On an error nothing is known.
    async fn insert_all(&self, orders: &[&NewOrder]) -> Result<Vec<Attempt>, OrdersUnavailable>;

    /// Returns when a leader has waited long enough for those on their way: what a slow one of them may cost
    /// the others.
    async fn patience(&self);
}

/// Makes pairs of a sender and a receiver; the receiver is ready as soon as the sender is dropped. How one
/// request can wake another is the host's affair.
pub trait Signals {
    /// Wakes by being dropped.
    type Sender;
    /// Waits.
    type Receiver: Future<Output = ()>;

    /// A new pair.
    fn signal(&self) -> (Self::Sender, Self::Receiver);
}

/// The requests of one instance that want to insert.
pub struct Group<S: Signals> {
    signals: S,
    queue: RefCell<Queue<S>>,
}

struct Queue<S: Signals> {
    /// Whether somebody leads, or was told to.
    led: bool,
    waiting: Vec<Waiting<S>>,
    /// How many are on their way.
    approaching: usize,
    /// How many the last statement was for: under load, as many come again as soon as they are answered.
    expected: usize,
    /// Wakes the leader who waits for them.
    gathering: Option<S::Sender>,
}

/// A request that waits, as others see it.
struct Waiting<S: Signals> {
    order: NewOrder,
    seat: Rc<Seat>,
    /// Dropped when the seat has its word.
    _wake: S::Sender,
}

/// Where a waiting request finds what became of it.
#[derive(Default)]
struct Seat(Cell<Option<Word>>);

enum Word {
    Attempted(Attempt),
    /// The last leader is through; this request leads now.
    Lead,
}

impl<S: Signals> Group<S> {
    /// An empty one.
    pub const fn new(signals: S) -> Self {
        Self {
            signals,
            queue: RefCell::new(Queue {
                led: false,
                waiting: Vec::new(),
                approaching: 0,
                expected: 1,
                gathering: None,
            }),
        }
    }

    /// Tells that someone is on their way, until they are here or it turns out that they do not come: either
    /// drops the result.
    pub fn approach(self: &Rc<Self>) -> Approach<S> {
        self.queue.borrow_mut().approaching += 1;
        Approach(self.clone())
    }

    /// Inserts the order along with those of others. Dropping this half-way leaves nobody waiting, and
    /// undecided whether the order was inserted.
    pub async fn insert(&self, order: &NewOrder, batches: &impl Batches) -> Attempt {
        if let Some(place) = self.queue_up(order) {
            match place.word().await {
                Some(Word::Attempted(attempt)) => return attempt,
                Some(Word::Lead) => {}
                // The leader died with our order under way.
                None => return Attempt::Undecided,
            }
        }
        let _lead = Lead(self);
        self.gather(batches).await;
        self.commit(order, batches).await
    }

    /// A place among the waiting, or `None` if there is nobody to wait for: then the caller leads.
    fn queue_up(&self, order: &NewOrder) -> Option<Place<'_, S>> {
        let mut queue = self.queue.borrow_mut();
        if !queue.led {
            queue.led = true;
            return None;
        }
        let (wake, receiver) = self.signals.signal();
        let seat = Rc::new(Seat::default());
        queue.waiting.push(Waiting {
            order: order.clone(),
            seat: seat.clone(),
            _wake: wake,
        });
        queue.wake_if_complete();
        Some(Place {
            group: self,
            seat,
            receiver: Some(receiver),
        })
    }

    /// Waits for those on their way and those who can be expected, within reason.
    async fn gather(&self, batches: &impl Batches) {
        if self.queue.borrow().is_complete() {
            return;
        }
        let (wake, receiver) = self.signals.signal();
        self.queue.borrow_mut().gathering = Some(wake);
        let (mut all_here, mut patience) = (pin!(receiver), pin!(batches.patience()));
        poll_fn(|cx| match all_here.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => patience.as_mut().poll(cx),
        })
        .await;
    }

    /// Inserts the leader's order and those of all who wait, and tells them.
    async fn commit(&self, order: &NewOrder, batches: &impl Batches) -> Attempt {
        let members = std::mem::take(&mut self.queue.borrow_mut().waiting);
        let mut orders: Vec<&NewOrder> = members.iter().map(|member| &member.order).collect();
        orders.push(order);
        // Two statements that insert the same keys in different orders could wait for each other.
        orders.sort_by_key(|order| &order.slot);
        self.queue.borrow_mut().expected = orders.len();
        let Ok(attempts) = batches.insert_all(&orders).await else {
            return Attempt::Undecided;
        };
        let of = |order: &NewOrder| {
            let position = orders.iter().position(|other| std::ptr::eq(*other, order));
            let attempt = position.and_then(|position| attempts.get(position).copied());
            attempt.unwrap_or(Attempt::Undecided)
        };
        for member in &members {
            member.seat.0.set(Some(Word::Attempted(of(&member.order))));
        }
        of(order)
    }

    /// Makes the first who waits the leader.
    fn hand_over(&self) {
        let mut queue = self.queue.borrow_mut();
        if queue.waiting.is_empty() {
            queue.led = false;
        } else {
            let next = queue.waiting.remove(0);
            next.seat.0.set(Some(Word::Lead));
        }
    }
}

impl<S: Signals> Queue<S> {
    /// Whether a leader need not wait for anybody.
    fn is_complete(&self) -> bool {
        self.approaching == 0 && self.waiting.len() + 1 >= self.expected
    }

    fn wake_if_complete(&mut self) {
        if self.is_complete() {
            self.gathering = None;
        }
    }
}

/// Someone on their way.
pub struct Approach<S: Signals>(Rc<Group<S>>);

impl<S: Signals> Drop for Approach<S> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.borrow_mut();
        queue.approaching -= 1;
        queue.wake_if_complete();
    }
}

/// The lead, which goes on to the next when this is dropped, however the leader ends.
struct Lead<'g, S: Signals>(&'g Group<S>);

impl<S: Signals> Drop for Lead<'_, S> {
    fn drop(&mut self) {
        self.0.hand_over();
    }
}

/// A place among the waiting, as its owner sees it.
struct Place<'g, S: Signals> {
    group: &'g Group<S>,
    seat: Rc<Seat>,
    receiver: Option<S::Receiver>,
}

impl<S: Signals> Place<'_, S> {
    async fn word(mut self) -> Option<Word> {
        if let Some(receiver) = self.receiver.take() {
            receiver.await;
        }
        self.seat.0.take()
    }
}

impl<S: Signals> Drop for Place<'_, S> {
    /// The owner gave up, or died, or has its word.
    fn drop(&mut self) {
        if let Some(Word::Lead) = self.seat.0.take() {
            self.group.hand_over();
        } else {
            let mut queue = self.group.queue.borrow_mut();
            queue
                .waiting
                .retain(|waiting| !Rc::ptr_eq(&waiting.seat, &self.seat));
        }
    }
}

#[cfg(test)]
mod tests;
