//! Creates an order only if the customer's list is still in the state that the client knows (`If-Match`).
//!
//! A lock in Redis keeps those apart who would race for the same state, as long as it holds. It proves
//! nothing: Postgres compares the state in the statement that inserts, and lets one order follow a state.

use std::time::Duration;

use super::{Claim, CreateOrder, Creation, KeyReuse, Reserved, Settled};
use super::{INSERTION_TRIES, claim, likely_new, remember};
use crate::error::CreateError;
use crate::ports::{
    ConditionalInsertion, ConditionalOrders, Lock, Locks, NewOrder, OrderIds, OrdersByKey,
    Reservations,
};
use crate::reading::ListState;

/// What a request for an order has to bring along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// A key; a condition is heeded.
    Key,
    /// A condition; a key is heeded.
    Etag,
    /// Both.
    Both,
}

/// The states of the list that an order may be created on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever it is.
    Any,
    /// These, which may be none: then there will be no new order.
    OneOf(Vec<ListState>),
}

impl Expected {
    /// Whether an order may be created on that state.
    pub fn is_met_by(&self, state: &ListState) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(states) => states.contains(state),
        }
    }

    /// Whether others can take the state away.
    fn is_contended(&self) -> bool {
        matches!(self, Self::OneOf(states) if !states.is_empty())
    }
}

/// Creates the order if the list is in an expected state, or finds the one that its key stands for already,
/// whatever has become of the list since. Along with a new order comes the state that the list is in with it.
///
/// A creation is one call each of `reserve`, `acquire`, `insert_following` and `release`.
///
/// # Errors
/// [`CreateError::Stale`] and [`CreateError::KeyReused`] only on Postgres's word, [`CreateError::Locked`] on
/// Redis's; [`CreateError::Unavailable`] when Postgres could not be asked.
pub async fn create_conditionally(
    request: CreateOrder,
    expected: &Expected,
    key_reuse: KeyReuse,
    reservations: &impl Reservations,
    locks: &impl Locks,
    orders: &(impl ConditionalOrders + OrdersByKey),
    ids: &impl OrderIds,
) -> Result<(Creation, Option<ListState>), CreateError> {
    let (order, reservation) = match claim(request, reservations, ids).await {
        Claim::Finished(creation) => return Ok((creation, None)),
        Claim::Open(order, reservation) => (order, reservation),
    };
    let customer = order.slot.customer.clone();
    // Not the order's id, which it may share with the request that it helps.
    let holder = ids.draw();
    let lock = match expected.is_contended() {
        true => locks.acquire(&customer, &holder).await,
        false => Ok(Lock::NotNeeded),
    };
    let (settled, state) = match lock {
        Ok(Lock::Held { remaining }) => (find(order, &reservation, orders, remaining).await?, None),
        // Without Redis just as with it: the lock spares Postgres a race and decides nothing.
        lock => {
            let outcome = follow(order, expected, orders, ids).await;
            if lock == Ok(Lock::Acquired) {
                // Who cannot release it leaves it to its lease.
                let _ = locks.release(&customer, &holder).await;
            }
            outcome?
        }
    };
    remember(&settled, &reservation, reservations).await;
    Ok((settled.creation(key_reuse)?, state))
}

/// While somebody else has the lock: a retry need not wait for its own order.
async fn find(
    asked: NewOrder,
    reservation: &Reserved,
    orders: &impl OrdersByKey,
    remaining: Duration,
) -> Result<Settled, CreateError> {
    if !likely_new(reservation)
        && let Some(stored) = orders.find_by_key(&asked.slot).await?
    {
        return Ok(Settled::Existing { stored, asked });
    }
    Err(CreateError::Locked { remaining })
}

/// Inserts the order on an expected state; along with a new one comes the state that it has led to.
async fn follow(
    mut order: NewOrder,
    expected: &Expected,
    orders: &impl ConditionalOrders,
    ids: &impl OrderIds,
) -> Result<(Settled, Option<ListState>), CreateError> {
    for tried in 1..=INSERTION_TRIES {
        match orders.insert_following(&order, expected).await? {
            ConditionalInsertion::Inserted(state) => {
                return Ok((Settled::Inserted(order), Some(state)));
            }
            ConditionalInsertion::Existing(stored) => {
                let asked = order;
                return Ok((Settled::Existing { stored, asked }, None));
            }
            ConditionalInsertion::Stale(state) => return Err(CreateError::Stale(state)),
            ConditionalInsertion::Conflict => order.after_conflict(tried, ids),
        }
    }
    Err(CreateError::Unavailable)
}
