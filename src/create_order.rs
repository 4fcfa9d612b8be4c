//! The protocol: reserve in Redis, insert in Postgres, and give every retry the one order that exists.
//!
//! Redis is asked first because it is fast and believed only where being wrong is impossible. All else is
//! decided by Postgres's unique constraint on (customer, key), in one statement. The request may die at any
//! await; whatever it leaves behind, the next one with the same key carries on from there. Orders with a
//! condition on them: [`conditional`].

pub mod conditional;

use crate::error::{CreateError, OrdersUnavailable, ReservationsUnavailable};
use crate::idempotency::{Fingerprint, Progress, Record, Slot};
use crate::order::{Draft, OrderId};
use crate::ports::{
    Attempt, Insertion, NewOrder, OrderIds, Orders, Reservation, Reservations, StoredOrder,
};

/// What to do with a key that comes back with other content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyReuse {
    /// Refuse it and say where the requests differ.
    Reject,
    /// Answer with the first order, whatever is asked for now.
    Replay,
}

/// A valid request for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateOrder {
    /// The customer and key.
    pub slot: Slot,
    /// Everything the request is recognised by.
    pub fingerprint: Fingerprint,
    /// What is asked for.
    pub draft: Draft,
}

/// The order that the key stands for, and who brought it about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Creation {
    /// This request inserted it. At most one request per key is ever told so.
    Created(OrderId, Draft),
    /// It was there already.
    Replayed(OrderId, Draft),
}

/// How often an insertion is tried. The second try sees what the first only collided with, so only a
/// taken id needs a third, with a fresh id, which can collide with a concurrent request once more.
const INSERTION_TRIES: u32 = 4;

/// Creates the order that the request asks for, or finds the one that its key stands for already.
///
/// A creation is one call of `reserve` and one of `insert_new`. A replay of a finished order is one call of
/// `reserve`.
///
/// # Errors
/// [`CreateError::KeyReused`] only when Postgres holds another order for the key;
/// [`CreateError::Unavailable`] when Postgres could not be asked. Redis causes no error.
pub async fn create_order(
    request: CreateOrder,
    key_reuse: KeyReuse,
    reservations: &impl Reservations,
    orders: &impl Orders,
    ids: &impl OrderIds,
) -> Result<Creation, CreateError> {
    let (order, reservation) = match claim(request, reservations, ids).await {
        Claim::Finished(creation) => return Ok(creation),
        Claim::Open(order, reservation) => (order, reservation),
    };
    let settled =
        if likely_new(&reservation) && orders.insert_new(&order).await == Attempt::Inserted {
            Settled::Inserted(order)
        } else {
            settle(order, orders, ids).await?
        };
    remember(&settled, &reservation, reservations).await;
    settled.creation(key_reuse)
}

/// What Redis answers to a reservation.
type Reserved = Result<Reservation, ReservationsUnavailable>;

/// What a request finds in Redis.
enum Claim {
    /// Its order.
    Finished(Creation),
    /// Nothing final; the order has the id to insert it with.
    Open(NewOrder, Reserved),
}

async fn claim(
    request: CreateOrder,
    reservations: &impl Reservations,
    ids: &impl OrderIds,
) -> Claim {
    let CreateOrder {
        slot,
        fingerprint,
        draft,
    } = request;
    let own = Record {
        progress: Progress::Reserved,
        fingerprint,
        order_id: ids.draw(),
    };
    let reservation = reservations.reserve(&slot, &own).await;
    let order_id = match &reservation {
        Ok(Reservation::Occupied(record)) if record.fingerprint == fingerprint => {
            match record.progress {
                // The fingerprint covers customer, key and content, and a finished record is written only
                // from a row that was read: this is the stored order.
                Progress::Finished => {
                    return Claim::Finished(Creation::Replayed(record.order_id, draft));
                }
                // Someone is at it, or died on the way. Helping with their id makes us one request: if
                // they come back, they find this very order.
                Progress::Reserved => record.order_id,
            }
        }
        // Another request's record proves neither that its order exists nor that ours does not.
        Ok(Reservation::Acquired | Reservation::Occupied(_) | Reservation::Unintelligible)
        | Err(_) => own.order_id,
    };
    let order = NewOrder {
        slot,
        order_id,
        fingerprint,
        draft,
    };
    Claim::Open(order, reservation)
}

/// With nothing in Redis the slot is most likely empty in Postgres as well. Without Redis nobody knows, but
/// new orders are more frequent than retries.
fn likely_new(reservation: &Reserved) -> bool {
    matches!(reservation, Ok(Reservation::Acquired) | Err(_))
}

/// Where Postgres left the slot.
enum Settled {
    Inserted(NewOrder),
    Existing {
        stored: StoredOrder,
        asked: NewOrder,
    },
}

impl Settled {
    fn slot(&self) -> &Slot {
        match self {
            Self::Inserted(order) | Self::Existing { asked: order, .. } => &order.slot,
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Inserted(order) => order.fingerprint,
            Self::Existing { stored, .. } => stored.fingerprint,
        }
    }

    fn order_id(&self) -> OrderId {
        match self {
            Self::Inserted(order) => order.order_id,
            Self::Existing { stored, .. } => stored.order_id,
        }
    }

    fn creation(self, key_reuse: KeyReuse) -> Result<Creation, CreateError> {
        let (stored, asked) = match self {
            Self::Inserted(order) => return Ok(Creation::Created(order.order_id, order.draft)),
            Self::Existing { stored, asked } => (stored, asked),
        };
        if stored.fingerprint == asked.fingerprint || key_reuse == KeyReuse::Replay {
            return Ok(Creation::Replayed(stored.order_id, stored.draft));
        }
        let differs = stored.draft.differences(&asked.draft);
        // The same order under a fingerprint of another algorithm is still the same order.
        if differs.is_empty() {
            return Ok(Creation::Replayed(stored.order_id, stored.draft));
        }
        Err(CreateError::KeyReused {
            order_id: stored.order_id,
            differs,
        })
    }
}

async fn settle(
    mut order: NewOrder,
    orders: &impl Orders,
    ids: &impl OrderIds,
) -> Result<Settled, OrdersUnavailable> {
    for tried in 1..=INSERTION_TRIES {
        match orders.insert_unless_exists(&order).await? {
            Insertion::Inserted => return Ok(Settled::Inserted(order)),
            Insertion::Existing(stored) => {
                return Ok(Settled::Existing {
                    stored,
                    asked: order,
                });
            }
            Insertion::Conflict => order.after_conflict(tried, ids),
        }
    }
    Err(OrdersUnavailable)
}

impl NewOrder {
    /// What is to be tried next. First time: most likely a concurrent request has won, which is visible from
    /// now on. Second time: the id belongs to another key's order, which takes a corrupted record; another id.
    fn after_conflict(&mut self, tried: u32, ids: &impl OrderIds) {
        if tried >= 2 {
            self.order_id = ids.draw();
        }
    }
}

/// Tells Redis the truth where that is worth a trip. A loss costs the next retry a trip to Postgres and
/// nothing else.
async fn remember(settled: &Settled, reservation: &Reserved, reservations: &impl Reservations) {
    let truth = Record {
        progress: Progress::Finished,
        fingerprint: settled.fingerprint(),
        order_id: settled.order_id(),
    };
    if worth_recording(reservation, settled, &truth) {
        let _ = reservations.finish(settled.slot(), &truth).await;
    }
}

/// Whether to spend a trip on finishing the record. Not for a first creation: most orders are never asked
/// for again, and the first retry does it. Not over what we do not understand: it may be a newer version's.
fn worth_recording(reservation: &Reserved, settled: &Settled, truth: &Record) -> bool {
    match reservation {
        Ok(Reservation::Acquired) => matches!(settled, Settled::Existing { .. }),
        Ok(Reservation::Occupied(record)) => record != truth,
        Ok(Reservation::Unintelligible) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests;
