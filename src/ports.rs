//! What the core needs from the world. Adapters implement these over Spin; a simulation can implement them
//! over memory. Every call ends within a deadline that is the implementation's to keep.

#![allow(
    async_fn_in_trait,
    reason = "the callers are generic and single-threaded; none needs a Send bound"
)]

use std::time::Duration;

use crate::create_order::conditional::Expected;
use crate::customer::Customer;
use crate::error::{OrdersUnavailable, ReservationsUnavailable};
use crate::idempotency::{Fingerprint, Record, Slot};
use crate::order::{Draft, OrderId};
use crate::reading::{ListState, Page};

/// Draws ids for new orders.
pub trait OrderIds {
    /// An id that was never drawn before: UUID version 7, of now.
    fn draw(&self) -> OrderId;
}

/// What a reservation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// The slot was empty; it now holds our record.
    Acquired,
    /// The slot holds this record, and still does.
    Occupied(Record),
    /// The slot holds something that is no record this version understands, and still does.
    Unintelligible,
}

/// The fast memory in front of the orders (Redis). It may lose, expire or refuse anything at any time;
/// nothing it says is proof, save a finished record for the very fingerprint that was asked for.
pub trait Reservations {
    /// Puts the record into the slot unless something is there (set-if-absent), in one trip.
    async fn reserve(
        &self,
        slot: &Slot,
        record: &Record,
    ) -> Result<Reservation, ReservationsUnavailable>;

    /// Puts the record into the slot whatever is there. Only for a record whose row was read: rows never
    /// change, so such a record is true whenever it lands.
    async fn finish(&self, slot: &Slot, record: &Record) -> Result<(), ReservationsUnavailable>;
}

/// An order to be inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOrder {
    /// The customer and key it is for.
    pub slot: Slot,
    /// Its id, if it comes to be.
    pub order_id: OrderId,
    /// What it was asked for with.
    pub fingerprint: Fingerprint,
    /// What was asked for.
    pub draft: Draft,
}

/// An order that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOrder {
    /// Its id.
    pub order_id: OrderId,
    /// What it was asked for with.
    pub fingerprint: Fingerprint,
    /// What was asked for.
    pub draft: Draft,
}

/// How an insertion ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// The order exists now, because of this call, and is committed.
    Inserted,
    /// The slot had an order before; this is it.
    Existing(StoredOrder),
    /// Something stood in the way that this statement's snapshot could not see: a concurrent insertion
    /// that committed meanwhile, or an id that is taken. Nothing was inserted; ask again.
    Conflict,
}

/// How an insertion ended that looked for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The order exists now, because of this call, and is committed.
    Inserted,
    /// It may exist or not, because of this call or another: [`Orders::insert_unless_exists`] tells.
    Undecided,
}

/// The orders (Postgres). `UNIQUE (customer_id, idempotency_key)` in it decides every race.
pub trait Orders {
    /// Inserts an order whose slot is most likely empty: cheaper than [`Self::insert_unless_exists`], which
    /// has to follow unless this has inserted it. It may share a statement with other requests' orders.
    async fn insert_new(&self, order: &NewOrder) -> Attempt;

    /// Inserts the order unless its slot has one, in one statement and one implicit transaction.
    async fn insert_unless_exists(&self, order: &NewOrder) -> Result<Insertion, OrdersUnavailable>;

    /// The customer's order of that id.
    async fn find(
        &self,
        customer: &Customer,
        order_id: OrderId,
    ) -> Result<Option<StoredOrder>, OrdersUnavailable>;
}

/// What came of asking for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// It is ours, until it is released or its lease is over.
    Acquired,
    /// It is somebody else's.
    Held {
        /// What is left of their lease.
        remaining: Duration,
    },
    /// Nobody was asked.
    NotNeeded,
}

/// One lock per customer (Redis), for conditional orders. It may be lost at any time, and proves nothing.
pub trait Locks {
    /// Takes the lock for a lease unless somebody has it, in one trip. `holder` is nobody else's name, and may
    /// ask again.
    async fn acquire(
        &self,
        customer: &Customer,
        holder: &OrderId,
    ) -> Result<Lock, ReservationsUnavailable>;

    /// Gives the lock up, if it is still the holder's, in one trip.
    async fn release(
        &self,
        customer: &Customer,
        holder: &OrderId,
    ) -> Result<(), ReservationsUnavailable>;
}

/// How a conditional insertion ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConditionalInsertion {
    /// The order exists now, because of this call, and is committed; the customer's list with it is in this
    /// state.
    Inserted(ListState),
    /// The slot had an order before; this is it.
    Existing(StoredOrder),
    /// The customer's list is in this state, which is none of those expected. Nothing was inserted.
    Stale(ListState),
    /// As [`Insertion::Conflict`]; the other may have followed the same state.
    Conflict,
}

/// Conditional orders (Postgres). `UNIQUE (customer_id, follows)` in it decides every race.
pub trait ConditionalOrders {
    /// Inserts the order as the one that follows the list's state, if that is an expected one and the slot is
    /// empty, in one statement and one implicit transaction. With [`Expected::Any`] it follows none.
    async fn insert_following(
        &self,
        order: &NewOrder,
        expected: &Expected,
    ) -> Result<ConditionalInsertion, OrdersUnavailable>;
}

/// Orders by the keys that they were asked for with (Postgres).
pub trait OrdersByKey {
    /// The order of a slot.
    async fn find_by_key(&self, slot: &Slot) -> Result<Option<StoredOrder>, OrdersUnavailable>;
}

/// Orders in numbers (Postgres). Apart from [`Orders`], which is all that creation needs.
pub trait OrderLists {
    /// Up to `limit` of the customer's orders, newest first: those older than `after`, if it is given.
    /// `None` when `after` is none of the customer's orders.
    async fn page(
        &self,
        customer: &Customer,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Option<Page>, OrdersUnavailable>;
}

/// What requests leave in the fast memory (Redis), without leaving anything.
pub trait Traces {
    /// The record in the slot, if there is one that this version understands.
    async fn look(&self, slot: &Slot) -> Result<Option<Record>, ReservationsUnavailable>;
}
