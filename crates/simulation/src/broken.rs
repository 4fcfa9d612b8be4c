//! The protocol, broken as an engineer might break it: through wrappers around its ports, so that the
//! product's code is what runs. The simulation must catch every one.

use std::cell::{Cell, RefCell};

use orders::create::conditional::Expected;
use orders::customer::Customer;
use orders::error::{DatabaseUnavailable, ReservationsUnavailable};
use orders::group_commit::Batches;
use orders::idempotency::{Progress, Record, KeyScope};
use orders::order::{Draft, ResourceId};
use orders::ports::{
    Attempt, ConditionalInsertion, ConditionalResources, Insertion, Lock, Locks, NewResource, ResourceIds,
    Resources, ResourcesByKey, Reservation, Reservations, StoredResource,
};
use orders::reading::ListState;
use orders::stores::redis::Reply;

use crate::port::Port;
use crate::scenario::{Protocol, Running, ClientRequest, start};
use crate::world::Call;

/// A way to break it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Postgres without the unique constraint.
    NoUniqueConstraint,
    /// The record is finished before the insertion has committed.
    FinishedBeforeCommit,
    /// Another request's record is reason enough to refuse.
    RefusedOnRedissWord,
    /// Another's unfinished record is taken for a finished one.
    ReservedTakenForFinished,
    /// Whoever helps acknowledges the id it has drawn itself.
    OwnIdWhenHelping,
    /// The reservation overwrites what is there.
    OverwrittenWithoutLooking,
    /// The record is finished with one's own order, whoever's was found.
    FinishedWithOwnOrder,
    /// A record of an unknown version is read as if it were ours.
    UnknownVersionTrusted,
    /// No answer is taken for "not executed": whatever a second try finds must be one's own.
    TimeOutTakenForNotExecuted,
    /// Requests are not compared.
    FingerprintLeftOut,
    /// All customers share their keys.
    CustomerLeftOut,
    /// A conflict is taken for an insertion.
    ConflictTakenForInserted,
    /// An order that was found is called created.
    FoundTakenForCreated,
    /// The order is acknowledged before its insertion was answered.
    AcknowledgedBeforeCommit,
    /// A reservation is a lock: others have to wait for its expiry.
    ReservedMeansWait,
    /// A statement for several orders that succeeded is taken to have inserted all of them.
    BatchTakenForInserted,
    /// The answers to a statement for several orders are given to the wrong ones.
    BatchMixedUp,
    /// Whoever has the lock is taken to be alone: no constraint on what an order based_on.
    LockTrusted,
    /// The list's state is looked at in one statement, and the order inserted in the next.
    StateCheckedBefore,
}

/// All of them.
pub const ALL: [Break; 19] = [
    Break::NoUniqueConstraint,
    Break::FinishedBeforeCommit,
    Break::RefusedOnRedissWord,
    Break::ReservedTakenForFinished,
    Break::OwnIdWhenHelping,
    Break::OverwrittenWithoutLooking,
    Break::FinishedWithOwnOrder,
    Break::UnknownVersionTrusted,
    Break::TimeOutTakenForNotExecuted,
    Break::FingerprintLeftOut,
    Break::CustomerLeftOut,
    Break::ConflictTakenForInserted,
    Break::FoundTakenForCreated,
    Break::AcknowledgedBeforeCommit,
    Break::ReservedMeansWait,
    Break::BatchTakenForInserted,
    Break::BatchMixedUp,
    Break::LockTrusted,
    Break::StateCheckedBefore,
];

impl Protocol for Break {
    fn name(&self) -> &'static str {
        match self {
            Self::NoUniqueConstraint => "no unique constraint",
            Self::FinishedBeforeCommit => "finished before commit",
            Self::RefusedOnRedissWord => "422 on Redis's word",
            Self::ReservedTakenForFinished => "unfinished taken for finished",
            Self::OwnIdWhenHelping => "own order id when helping",
            Self::OverwrittenWithoutLooking => "record overwritten without looking",
            Self::FinishedWithOwnOrder => "finished with one's own order",
            Self::UnknownVersionTrusted => "unknown version trusted",
            Self::TimeOutTakenForNotExecuted => "time-out taken for not executed",
            Self::FingerprintLeftOut => "fingerprint left out",
            Self::CustomerLeftOut => "customer left out",
            Self::ConflictTakenForInserted => "conflict taken for inserted",
            Self::FoundTakenForCreated => "found taken for created",
            Self::AcknowledgedBeforeCommit => "acknowledged before commit",
            Self::ReservedMeansWait => "reserved means wait",
            Self::BatchTakenForInserted => "batch taken for inserted",
            Self::BatchMixedUp => "answers to a batch mixed up",
            Self::LockTrusted => "lock trusted",
            Self::StateCheckedBefore => "state checked before",
        }
    }

    fn start(&self, request: &ClientRequest, known: ListState, port: Port) -> Running {
        start(
            request,
            known,
            Broken {
                kind: *self,
                port,
                own: Cell::new(None),
                found: Cell::new(None),
                locked: Cell::new(false),
                order: RefCell::new(None),
            },
        )
    }
}

/// Ports that misbehave in one way.
struct Broken {
    kind: Break,
    port: Port,
    /// The record that this request tried to reserve with.
    own: Cell<Option<Record>>,
    /// The record that it found.
    found: Cell<Option<Record>>,
    /// Whether it has the lock.
    locked: Cell<bool>,
    /// What it tried to insert.
    order: RefCell<Option<NewResource>>,
}

impl Broken {
    fn scope(&self, scope: &KeyScope) -> KeyScope {
        let mut scope = scope.clone();
        if self.kind == Break::CustomerLeftOut {
            scope.customer = Customer::anonymous();
        }
        scope
    }

    /// An insertion that claims what it finds.
    async fn claim(&self, order: &NewResource) -> Result<Insertion, DatabaseUnavailable> {
        match self.port.insert_unless_exists(order).await? {
            Insertion::Existing(_) => Ok(Insertion::Inserted),
            other => Ok(other),
        }
    }

    fn finished(record: Record) -> Record {
        Record {
            progress: Progress::Completed,
            ..record
        }
    }
}

impl Reservations for Broken {
    async fn reserve(
        &self,
        scope: &KeyScope,
        record: &Record,
    ) -> Result<Reservation, ReservationsUnavailable> {
        let scope = self.scope(scope);
        self.own.set(Some(*record));
        if self.kind == Break::OverwrittenWithoutLooking {
            self.port.complete(&scope, record).await?;
            return Ok(Reservation::Acquired);
        }
        let mut reply = self.port.reserve_raw(&scope, record).await?;
        if let (Break::UnknownVersionTrusted, Reply::Bytes(bytes)) = (self.kind, &mut reply)
            && let Some(version) = bytes.first_mut()
        {
            *version = 1;
        }
        let Reservation::Occupied(found) = reply.into() else {
            return Ok(Reservation::Acquired);
        };
        self.found.set(Some(found));
        Ok(Reservation::Occupied(match self.kind {
            Break::ReservedTakenForFinished => Self::finished(found),
            Break::FingerprintLeftOut => Record {
                fingerprint: record.fingerprint,
                ..found
            },
            _ => found,
        }))
    }

    async fn complete(&self, scope: &KeyScope, record: &Record) -> Result<(), ReservationsUnavailable> {
        let own = self.own.get().map(Self::finished);
        let record = match (self.kind, own) {
            (Break::FinishedWithOwnOrder, Some(own)) => own,
            _ => *record,
        };
        self.port.complete(&self.scope(scope), &record).await
    }
}

impl Batches for Broken {
    async fn insert_all(&self, orders: &[&NewResource]) -> Result<Vec<Attempt>, DatabaseUnavailable> {
        let mut attempts = self.port.insert_all(orders).await?;
        match self.kind {
            Break::BatchTakenForInserted => attempts.fill(Attempt::Inserted),
            _ => attempts.rotate_left(1),
        }
        Ok(attempts)
    }

    async fn patience(&self) {
        self.port.patience().await;
    }
}

impl Resources for Broken {
    async fn insert_new(&self, order: &NewResource) -> Attempt {
        if let Break::BatchTakenForInserted | Break::BatchMixedUp = self.kind {
            return self.port.insert_with_others(order, self).await;
        }
        // All other breaks are in the insertion that looks.
        match self.insert_unless_exists(order).await {
            Ok(Insertion::Inserted) => Attempt::Inserted,
            _ => Attempt::Undecided,
        }
    }

    async fn insert_unless_exists(&self, order: &NewResource) -> Result<Insertion, DatabaseUnavailable> {
        let mut order = order.clone();
        order.scope = self.scope(&order.scope);
        self.order.replace(Some(order.clone()));
        let own_id = self.own.get().map_or(order.order_id, |own| own.order_id);
        let boxed = || Box::new(order.clone());
        match self.kind {
            Break::NoUniqueConstraint => self.port.insert(Call::InsertUnchecked(boxed())).await,
            Break::AcknowledgedBeforeCommit => {
                self.port.insert(Call::InsertUnawaited(boxed())).await
            }
            Break::FinishedBeforeCommit => {
                let record = Record {
                    progress: Progress::Completed,
                    fingerprint: order.fingerprint,
                    order_id: order.order_id,
                };
                let _ = self.port.complete(&order.scope, &record).await;
                self.port.insert_unless_exists(&order).await
            }
            Break::RefusedOnRedissWord => match self.found.get() {
                Some(found) if found.fingerprint != order.fingerprint => {
                    Ok(Insertion::Existing(StoredResource {
                        order_id: found.order_id,
                        fingerprint: found.fingerprint,
                        draft: another_draft(),
                    }))
                }
                _ => self.port.insert_unless_exists(&order).await,
            },
            Break::ReservedMeansWait => match self.found.get() {
                Some(found) if found.progress == Progress::InProgress => Err(DatabaseUnavailable),
                _ => self.port.insert_unless_exists(&order).await,
            },
            Break::OwnIdWhenHelping => {
                order.order_id = own_id;
                Ok(match self.port.insert_unless_exists(&order).await? {
                    Insertion::Existing(stored) => Insertion::Existing(StoredResource {
                        order_id: own_id,
                        ..stored
                    }),
                    other => other,
                })
            }
            Break::TimeOutTakenForNotExecuted => {
                match self.port.insert_unless_exists(&order).await {
                    Err(DatabaseUnavailable) => self.claim(&order).await,
                    answered => answered,
                }
            }
            Break::FoundTakenForCreated => self.claim(&order).await,
            Break::ConflictTakenForInserted => {
                Ok(match self.port.insert_unless_exists(&order).await? {
                    Insertion::Conflict => Insertion::Inserted,
                    other => other,
                })
            }
            Break::FingerprintLeftOut => Ok(match self.port.insert_unless_exists(&order).await? {
                Insertion::Existing(stored) => Insertion::Existing(StoredResource {
                    fingerprint: order.fingerprint,
                    ..stored
                }),
                other => other,
            }),
            _ => self.port.insert_unless_exists(&order).await,
        }
    }

    async fn find(
        &self,
        customer: &Customer,
        order_id: ResourceId,
    ) -> Result<Option<StoredResource>, DatabaseUnavailable> {
        self.port.find(customer, order_id).await
    }
}

impl Locks for Broken {
    async fn acquire(
        &self,
        customer: &Customer,
        holder: &ResourceId,
    ) -> Result<Lock, ReservationsUnavailable> {
        let lock = self.port.acquire(customer, holder).await;
        self.locked.set(lock == Ok(Lock::Acquired));
        lock
    }

    async fn release(
        &self,
        customer: &Customer,
        holder: &ResourceId,
    ) -> Result<(), ReservationsUnavailable> {
        self.port.release(customer, holder).await
    }
}

impl ConditionalResources for Broken {
    async fn insert_based_on(
        &self,
        order: &NewResource,
        expected: &Expected,
    ) -> Result<ConditionalInsertion, DatabaseUnavailable> {
        let breaks = match self.kind {
            Break::LockTrusted => self.locked.get(),
            Break::StateCheckedBefore => true,
            _ => false,
        };
        if !breaks {
            return self.port.insert_based_on(order, expected).await;
        }
        // Nothing is met by none of none: this only looks.
        let nothing = Expected::OneOf(Vec::new());
        let state = match self.port.insert_based_on(order, &nothing).await? {
            ConditionalInsertion::Stale(state) if expected.is_met_by(&state) => state,
            found => return Ok(found),
        };
        if self.kind == Break::LockTrusted {
            let order = Box::new(order.clone());
            return self.port.follow(Call::InsertBasedOnUnchecked(order, state)).await;
        }
        Ok(match self.port.insert_unless_exists(order).await? {
            Insertion::Inserted => ConditionalInsertion::Inserted(state),
            Insertion::Existing(stored) => ConditionalInsertion::Existing(stored),
            Insertion::Conflict => ConditionalInsertion::Conflict,
        })
    }
}

impl ResourcesByKey for Broken {
    async fn find_by_key(&self, scope: &KeyScope) -> Result<Option<StoredResource>, DatabaseUnavailable> {
        self.port.find_by_key(scope).await
    }
}

impl ResourceIds for Broken {
    fn draw(&self) -> ResourceId {
        self.port.draw()
    }
}

/// An order that differs from all that clients request for.
#[allow(clippy::expect_used, reason = "a valid order")]
fn another_draft() -> Draft {
    let items = br#"[{"quantity":99,"sku":"Z","unitPrice":1}]"#;
    Draft::from_stored("EUR".to_owned(), items, None, 99).expect("a valid order")
}
