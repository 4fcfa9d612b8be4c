//! Group commit: requests of one instance that insert at about the same time share a statement.
//!
//! A statement for ten resources costs the host as much as a statement for one, and Postgres little more. It also needs
//! one connection instead of ten, and a host has few of them (Spin: 64).
//!
//! A request that may insert holds a [`Ticket`]. The first request that inserts is the *leader*. It waits, during a
//! short *batch window*, for ticket holders and for as many requests as the last batch had. Then it inserts for all
//! *waiters*, sorted by key, so that two statements cannot deadlock. Requests that arrive while the statement runs
//! share the next one. A request that is alone does not wait.
//!
//! Only *inserted* is believed. After a conflict, an error or a leader that died (a leader may die at any await), the
//! resource is [`Attempt::Undecided`]: its request asks again alone, on a connection of its own. A batch waits only
//! briefly for a locked row, so that row delays only its own requests. A batch that is slow keeps its requests: under
//! overload, a statement for each of them would multiply the load.
//!
//! One request wakes another one through [`Signals`], because a waker cannot wake another task of the component model.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use crate::error::DatabaseError;
use crate::ports::{Attempt, NewResource};
use crate::signals::Signals;

/// Inserts many resources at once.
#[allow(async_fn_in_trait, reason = "the callers are generic and single-threaded; none needs a Send bound")]
pub trait Batches {
    /// Inserts those resources that conflict with nothing, in one statement and one implicit transaction, and says
    /// of each whether it was inserted. After an error nothing is known.
    async fn insert_all(&self, batch: &[&NewResource]) -> Result<Vec<Attempt>, DatabaseError>;

    /// Returns when the batch window ends: the longest time that a leader waits for ticket holders.
    async fn batch_window(&self);
}

/// The requests of one instance that insert into one table.
pub struct Group<S: Signals> {
    signals: S,
    queue: RefCell<Queue<S>>,
}

struct Queue<S: Signals> {
    /// Whether there is a leader, or a request that was made one.
    led: bool,
    waiters: Vec<Waiter<S>>,
    /// How many tickets are held.
    tickets: usize,
    /// The size of the last batch: under load, as many requests come again as soon as they have a response.
    expected: usize,
    /// Wakes the leader that waits for the batch to fill.
    leader: Option<S::Sender>,
}

/// A waiting request, as the leader sees it.
struct Waiter<S: Signals> {
    new: NewResource,
    outcome: Rc<OutcomeCell>,
    /// Dropped when the outcome is set.
    _wake: S::Sender,
}

/// The outcome of a waiting request, once there is one.
#[derive(Default)]
struct OutcomeCell(Cell<Option<Outcome>>);

enum Outcome {
    Attempted(Attempt),
    /// The previous leader is done; this request is the leader now.
    Lead,
}

impl<S: Signals> Group<S> {
    /// An empty group.
    pub const fn new(signals: S) -> Self {
        Self {
            signals,
            queue: RefCell::new(Queue { led: false, waiters: Vec::new(), tickets: 0, expected: 1, leader: None }),
        }
    }

    /// Announces a request that may insert soon. The ticket is dropped when it inserts or when it turns out that it
    /// does not.
    pub fn ticket(self: &Rc<Self>) -> Ticket<S> {
        self.queue.borrow_mut().tickets += 1;
        Ticket(self.clone())
    }

    /// Inserts the resource together with those of other requests. Dropping the future leaves no request waiting, and
    /// leaves undecided whether the resource was inserted.
    pub async fn insert(&self, new: &NewResource, batches: &impl Batches) -> Attempt {
        if let Some(turn) = self.enqueue(new) {
            match turn.outcome().await {
                Some(Outcome::Attempted(attempt)) => return attempt,
                Some(Outcome::Lead) => {}
                // The leader died while the insertion was under way.
                None => return Attempt::Undecided,
            }
        }
        let _leadership = Leadership(self);
        self.fill_batch(batches).await;
        self.commit(new, batches).await
    }

    /// Joins the waiters, or `None` if there is no leader: then the caller is the leader.
    fn enqueue(&self, new: &NewResource) -> Option<Turn<'_, S>> {
        let mut queue = self.queue.borrow_mut();
        if !queue.led {
            queue.led = true;
            return None;
        }
        let (wake, receiver) = self.signals.signal();
        let outcome = Rc::new(OutcomeCell::default());
        queue.waiters.push(Waiter { new: new.clone(), outcome: outcome.clone(), _wake: wake });
        queue.wake_leader_if_full();
        Some(Turn { group: self, outcome, receiver: Some(receiver) })
    }

    /// Waits for ticket holders and for as many requests as the last batch had, for at most the batch window.
    async fn fill_batch(&self, batches: &impl Batches) {
        if self.queue.borrow().is_full() {
            return;
        }
        let (wake, receiver) = self.signals.signal();
        self.queue.borrow_mut().leader = Some(wake);
        let (mut full, mut window) = (pin!(receiver), pin!(batches.batch_window()));
        poll_fn(|cx| match full.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => window.as_mut().poll(cx),
        })
        .await;
    }

    /// Inserts the leader's resource and those of all waiters, and tells them the outcome.
    async fn commit(&self, new: &NewResource, batches: &impl Batches) -> Attempt {
        let members = std::mem::take(&mut self.queue.borrow_mut().waiters);
        // Sorted: two statements that insert the same keys in different orders could deadlock. A batch is short, and
        // the standard library's sort would be 9 KB of the component.
        let mut batch: Vec<&NewResource> = Vec::with_capacity(members.len() + 1);
        for new in members.iter().map(|member| &member.new).chain([new]) {
            let place = batch.partition_point(|other| other.scope <= new.scope);
            batch.insert(place, new);
        }
        self.queue.borrow_mut().expected = batch.len();
        let Ok(attempts) = batches.insert_all(&batch).await else {
            return Attempt::Undecided;
        };
        let attempt_of = |new: &NewResource| {
            let position = batch.iter().position(|other| std::ptr::eq(*other, new));
            let attempt = position.and_then(|position| attempts.get(position).copied());
            attempt.unwrap_or(Attempt::Undecided)
        };
        for member in &members {
            let attempt = attempt_of(&member.new);
            member.outcome.0.set(Some(Outcome::Attempted(attempt)));
        }
        attempt_of(new)
    }

    /// Makes the first waiter the leader.
    fn hand_over(&self) {
        let mut queue = self.queue.borrow_mut();
        if queue.waiters.is_empty() {
            queue.led = false;
        } else {
            let next = queue.waiters.remove(0);
            next.outcome.0.set(Some(Outcome::Lead));
        }
    }
}

impl<S: Signals> Queue<S> {
    /// Whether a leader has no request to wait for.
    fn is_full(&self) -> bool {
        self.tickets == 0 && self.waiters.len() + 1 >= self.expected
    }

    fn wake_leader_if_full(&mut self) {
        if self.is_full() {
            self.leader = None;
        }
    }
}

/// Held by a request that may insert soon.
pub struct Ticket<S: Signals>(Rc<Group<S>>);

impl<S: Signals> Drop for Ticket<S> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.borrow_mut();
        queue.tickets -= 1;
        queue.wake_leader_if_full();
    }
}

/// Held by the leader. The next waiter becomes the leader when this is dropped, however the leader ends.
struct Leadership<'g, S: Signals>(&'g Group<S>);

impl<S: Signals> Drop for Leadership<'_, S> {
    fn drop(&mut self) {
        self.0.hand_over();
    }
}

/// A waiting request, as it sees itself.
struct Turn<'g, S: Signals> {
    group: &'g Group<S>,
    outcome: Rc<OutcomeCell>,
    receiver: Option<S::Receiver>,
}

impl<S: Signals> Turn<'_, S> {
    async fn outcome(mut self) -> Option<Outcome> {
        if let Some(receiver) = self.receiver.take() {
            receiver.await;
        }
        self.outcome.0.take()
    }
}

impl<S: Signals> Drop for Turn<'_, S> {
    /// The request gave up, died, or has its outcome.
    fn drop(&mut self) {
        if let Some(Outcome::Lead) = self.outcome.0.take() {
            self.group.hand_over();
        } else {
            let mut queue = self.group.queue.borrow_mut();
            queue.waiters.retain(|waiter| !Rc::ptr_eq(&waiter.outcome, &self.outcome));
        }
    }
}

#[cfg(test)]
mod tests;
