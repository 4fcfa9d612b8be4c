//! The traits that the protocol needs of the stores. The stores' crate implements them over the commands and statements
//! that it sends. Every call ends within a deadline that the implementation keeps.

#![allow(async_fn_in_trait, reason = "the callers are generic and single-threaded; none needs a Send bound")]

use std::time::Duration;

use crate::condition::Expected;
use crate::customer::Customer;
use crate::error::{DatabaseError, ReservationsUnavailable};
use crate::feed::{Cursor, Mark};
use crate::fingerprint::Fingerprint;
use crate::history::{InHistory, KnownHistory};
use crate::key::KeyScope;
use crate::list_state::ListState;
use crate::record::{Progress, Record};
use crate::resource::{Document, ResourceId};

/// Draws ids for new resources.
pub trait ResourceIds {
    /// A new id: UUID version 7 with the current time.
    fn draw(&self) -> ResourceId;
}

/// The result of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// The scope was empty; it now holds the request's record.
    Acquired,
    /// The scope holds this record; it was not changed.
    Occupied(Record),
    /// The scope holds a value that this release cannot read; it was not changed.
    Unintelligible,
}

/// The records of key scopes (Redis). A record may be lost, expire or be rejected at any time. It proves nothing,
/// except a completed record with the request's own fingerprint in the history in which it was written.
pub trait Reservations {
    /// Stores the record unless the scope holds one (set-if-absent), in one round trip.
    async fn reserve(&self, scope: &KeyScope, record: &Record) -> Result<Reservation, ReservationsUnavailable>;

    /// Stores the record and overwrites any other. The record's row must have been read, and its history returned by
    /// the same statement. Rows never change, so such a record is true whenever it is written.
    async fn complete(&self, scope: &KeyScope, record: &Record) -> Result<(), ReservationsUnavailable>;

    /// Deletes the record if the scope still holds exactly this one. For a rejected request: nothing is in progress any
    /// more.
    async fn withdraw(&self, scope: &KeyScope, record: &Record) -> Result<(), ReservationsUnavailable>;
}

/// Reads records (Redis) without writing one.
pub trait RecordLookup {
    /// The record of the scope, if it holds one that this release can read.
    async fn find_record(&self, scope: &KeyScope) -> Result<Option<Record>, ReservationsUnavailable>;
}

/// A resource to be inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewResource {
    /// The collection, customer and key that it is for.
    pub scope: KeyScope,
    /// The id that it will have.
    pub id: ResourceId,
    /// The fingerprint of the request.
    pub fingerprint: Fingerprint,
    /// The document to store.
    pub document: Document,
}

impl NewResource {
    /// The record of a creation that has begun.
    pub(crate) fn in_progress(&self) -> Record {
        Record { progress: Progress::InProgress, fingerprint: self.fingerprint, id: self.id }
    }
}

/// A resource that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResource {
    /// Its id.
    pub id: ResourceId,
    /// The fingerprint of the request that created it.
    pub fingerprint: Fingerprint,
    /// Its document.
    pub document: Document,
}

/// The result of an insertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// The resource exists now because of this call, and is committed.
    Inserted,
    /// The scope had this resource before.
    Existing(StoredResource),
    /// Nothing was inserted because of a row that the statement's snapshot could not see: a concurrent insertion
    /// that committed meanwhile, or an id that is taken. Ask again.
    Conflict,
}

/// The result of an insertion that does not read the existing row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The resource exists now because of this call, and is committed.
    Inserted,
    /// The resource may exist or not, because of this call or another one. [`Resources::insert_unless_exists`] finds
    /// out.
    Undecided,
}

/// What an instance knows of the database's history (Postgres). It learns from every statement that returns a history.
pub trait Histories {
    /// What is known now.
    fn known_history(&self) -> KnownHistory;

    /// Asks the database, with one statement for all requests of the instance that ask at the same time, and returns
    /// what is known then. The statement waits for no other transaction. Without a response the history stays unknown.
    async fn ask_history(&self) -> KnownHistory;
}

/// The resources (Postgres). `UNIQUE (customer_id, idempotency_key)` decides every race.
pub trait Resources {
    /// Announces that [`Self::insert_new`] may follow soon: other requests may wait for it to share a statement.
    fn announce_insertion(&self) {}

    /// Inserts a resource whose scope is most likely empty. It may share a statement with other requests, which makes
    /// it cheaper than [`Self::insert_unless_exists`]. That must follow unless the result is [`Attempt::Inserted`].
    async fn insert_new(&self, new: &NewResource) -> Attempt;

    /// Inserts the resource unless its scope has one, in one statement and one implicit transaction.
    async fn insert_unless_exists(&self, new: &NewResource) -> Result<InHistory<Insertion>, DatabaseError>;
}

/// The result of an attempt to take a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// The request's key holds it until a request with this key releases it or its lease ends.
    Acquired,
    /// Another key holds it.
    Held {
        /// The rest of its lease.
        remaining: Duration,
    },
    /// No lock was requested.
    NotNeeded,
}

/// One lock per list (Redis), for conditional creation. It may be lost at any time, and proves nothing.
pub trait Locks {
    /// Takes the lock of the scope's list for a lease unless a request with another key holds it, in one round trip.
    async fn acquire(&self, scope: &KeyScope) -> Result<Lock, ReservationsUnavailable>;

    /// Releases the lock if the key still has it, in one round trip.
    async fn release(&self, scope: &KeyScope) -> Result<(), ReservationsUnavailable>;
}

/// A customer's resources in one collection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct List {
    /// The name of the collection.
    pub collection: &'static str,
    /// The customer.
    pub customer: Customer,
}

impl From<&KeyScope> for List {
    fn from(scope: &KeyScope) -> Self {
        Self { collection: scope.collection, customer: scope.customer.clone() }
    }
}

/// The result of a conditional insertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConditionalInsertion {
    /// The resource exists now because of this call, and is committed. The customer's list is now in this state.
    Inserted(ListState),
    /// The scope had this resource before.
    Existing(StoredResource),
    /// The customer's list is in this state, which the request does not expect. Nothing was inserted.
    Stale(ListState),
    /// As [`Insertion::Conflict`]; the concurrent insertion may be based on the same state.
    Conflict,
}

/// Conditional insertion (Postgres). `UNIQUE (customer_id, based_on)` decides every race.
pub trait ConditionalResources {
    /// Inserts the resource, based on the list's state, if that is an expected one and the scope is empty, in one
    /// statement and one implicit transaction. With [`Expected::Any`] it is based on no state.
    async fn insert_based_on(
        &self,
        new: &NewResource,
        expected: &Expected,
    ) -> Result<InHistory<ConditionalInsertion>, DatabaseError>;
}

/// Resources by their keys (Postgres).
pub trait ResourcesByKey {
    /// The resource of a scope.
    async fn find_by_key(&self, scope: &KeyScope) -> Result<InHistory<Option<StoredResource>>, DatabaseError>;
}

/// Some of a customer's resources, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The state of the whole list, not of this page, in the same snapshot.
    pub state: ListState,
    /// The resources.
    pub resources: Vec<StoredResource>,
    /// Whether there are older ones.
    pub more: bool,
}

/// Which of a customer's resources a page has: the newest ones that fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// How many at most.
    pub limit: usize,
    /// Only resources older than this one, which belongs to the customer.
    pub after: Option<ResourceId>,
    /// Only resources whose ids, which begin with the time of the request, are not below this one.
    pub from: Option<ResourceId>,
}

impl PageRequest {
    /// The newest resources.
    pub fn newest(limit: usize) -> Self {
        Self { limit, after: None, from: None }
    }
}

/// Resources as customers read them (Postgres). Creation does not need it.
pub trait ResourceLists {
    /// The customer's resource with that id.
    async fn find(&self, customer: &Customer, id: ResourceId) -> Result<Option<StoredResource>, DatabaseError>;

    /// The customer's resources of a page, newest first. `None` when `after` is not one of the customer's resources.
    async fn page(&self, customer: &Customer, page: PageRequest) -> Result<Option<Page>, DatabaseError>;
}

/// A monotonic clock.
pub trait Clock {
    /// The time since a fixed moment.
    fn now(&self) -> Duration;

    /// What the clock by which a request measures its waits shows now, when the other one shows that time. In the
    /// simulation each request has its own.
    fn waited(&self, now: Duration) -> Duration {
        now
    }

    /// Returns after that time.
    async fn sleep(&self, time: Duration);
}

/// The transactions that may have drawn a sequence number and have not ended. Opaque names; empty without such
/// transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writers(pub String);

/// What follows a sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// The mark that this number has now.
    pub mark: Mark,
    /// The greatest number of the next page; `None` when there are no greater numbers.
    pub last: Option<i64>,
    /// The transactions that may have drawn a number up to that one and have not ended. The database looks for them
    /// after the snapshot in which the number is visible.
    pub writers: Writers,
}

/// A resource in the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEntry {
    /// The position after it.
    pub cursor: Cursor,
    /// The name of the customer.
    pub customer: String,
    /// Its id.
    pub id: ResourceId,
    /// Its document.
    pub document: Document,
}

/// Resources that follow a sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedRows {
    /// The mark that this number has now.
    pub mark: Mark,
    /// The resources, in the order of their numbers.
    pub entries: Vec<FeedEntry>,
}

/// The resources of all customers, by their sequence numbers (Postgres). Numbers are drawn in ascending order, and
/// never twice under one mark. A transaction must be among the writers before it draws a number, and until its end is
/// visible to every statement that begins later.
pub trait Feed {
    /// What follows a sequence number: a page of up to `limit` resources. The writers are only those that may be
    /// `among` these, if they are given.
    async fn look(&self, after: i64, limit: usize, among: Option<&Writers>) -> Result<Outlook, DatabaseError>;

    /// The first of the resources with a number above `after` and up to `last`: at least one, if there is one, and at
    /// most `limit`.
    async fn read(&self, after: i64, last: i64, limit: usize) -> Result<FeedRows, DatabaseError>;
}

/// What a probe found out about a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It does what requests need.
    Up,
    /// It does not respond. That passes by itself, and affects every instance.
    Unreachable,
    /// It responds, and rejects what requests need: an operator must act.
    Unfit,
}

/// The result of probing a store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// What it found out.
    pub condition: Condition,
    /// The time until its response or until the deadline, in milliseconds.
    pub latency_ms: f64,
}

impl Probe {
    /// Whether the store does what requests need.
    pub fn is_up(&self) -> bool {
        self.condition == Condition::Up
    }

    /// The result of a probe that was sent and has ended at these times.
    pub fn since(sent: Duration, ended: Duration, condition: Condition) -> Self {
        Self { condition, latency_ms: ended.saturating_sub(sent).as_secs_f64() * 1000.0 }
    }
}

/// A store that can be probed.
pub trait Probes {
    /// Asks the store whether it does what requests need.
    async fn probe(&self) -> Probe;
}
