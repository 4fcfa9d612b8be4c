//! Variants of the protocol with one plausible mistake each. Wrappers around its ports make the mistakes, so the code
//! that runs is that of the product. The simulation must catch every variant.

use std::cell::Cell;
use std::rc::Rc;

use exactly_once::condition::Expected;
use exactly_once::create::ReplayPolicy;
use exactly_once::error::{DatabaseUnavailable, ReservationsUnavailable};
use exactly_once::group_commit::Batches;
use exactly_once::ports::{
    Attempt, ConditionalInsertion, ConditionalResources, Feed, FeedRows, Histories, Insertion, List, Lock, Locks,
    NewResource, Outlook, Page, RecordLookup, Reservation, Reservations, ResourceIds, ResourceLists, Resources,
    ResourcesByKey, StoredResource, Writers,
};
use exactly_once::ports::{Probe, Probes};
use exactly_once::{
    Customer, Document, History, InHistory, KeyScope, KnownHistory, ListState, Progress, Record, ResourceId,
};
use exactly_once_stores::redis::{Reply, reservation};

use crate::client_request::ClientRequest;
use crate::kind::Kind;
use crate::port::Port;
use crate::scenario::{Protocol, Running, start};
use crate::world::Call;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Postgres has no unique constraint.
    NoUniqueConstraint,
    /// The record is completed before the insertion has committed.
    CompletedBeforeCommit,
    /// A request is rejected because of another request's record, without asking Postgres.
    RefusedByRecord,
    /// A record in progress is taken for a completed one.
    InProgressTakenForCompleted,
    /// A request that continues another one acknowledges the id that it has drawn itself.
    OwnIdOnContinuation,
    /// The reservation overwrites the existing record.
    ReservationOverwrites,
    /// The completed record has the request's own id and fingerprint, also when another resource was found.
    CompletedWithOwnRecord,
    /// A record of an unknown version is read as one of this version.
    UnknownVersionRead,
    /// A time-out is taken for "not executed": a resource that the second try finds is called created.
    TimeOutTakenForNotExecuted,
    /// Fingerprints are not compared.
    FingerprintIgnored,
    /// The key scope has no customer: all customers share their keys.
    CustomerNotInScope,
    /// The key scope has no collection: all collections share their keys.
    CollectionNotInScope,
    /// A conflict is taken for an insertion.
    ConflictTakenForInserted,
    /// A resource that was found is called created.
    ExistingTakenForCreated,
    /// The resource is acknowledged before its insertion was answered.
    AcknowledgedBeforeCommit,
    /// A record in progress is a lock: other requests have to wait until it expires.
    InProgressBlocks,
    /// A successful statement for several resources is taken to have inserted all of them.
    BatchTakenForInserted,
    /// The results of a statement for several resources are assigned to the wrong requests.
    BatchResultsMixedUp,
    /// The lock replaces the constraint on the state that a resource is based on.
    LockInsteadOfConstraint,
    /// The list's state is compared in one statement, and the resource inserted in the next.
    StateComparedBeforehand,
    /// A completed record of any history is believed.
    OldRecordsBelieved,
    /// A history that was heard is believed for ever.
    HistoryTrustedForever,
    /// A request that waited for another one's question believes its record, although that one died without an answer.
    UnansweredTakenForConfirmed,
    /// In an outage a record is believed, although the database has said that it is in another history.
    OtherHistoryBelievedInOutage,
    /// In an outage a record is believed, although that is not configured.
    BelievedInOutage,
    /// The completed record has the latest history, not that of the statement that read the row.
    CompletedInLatestHistory,
    /// A lost resource is created again with a new id.
    NewIdForLost,
    /// A record in progress gives its id to a request that arrives much later.
    OldIdReused,
    /// The list's state is that of a snapshot without the last commit, such as a standby's.
    OlderStateCompared,
    /// The tag in the answer is that of the list after the insertion, with the resources that others have added
    /// meanwhile.
    StateReadAfterInsertion,
    /// The list's state is compared before the key's resource is looked for.
    StateComparedBeforeKey,
    /// "Any state" means the state that the list is in when the request arrives.
    AnyTakenForCurrent,
    /// A request that lacks a condition is rejected, and its key is not looked up.
    RefusedWithoutLookup,
    /// A rejected request deletes any record of the key.
    WithdrawsAnyRecord,
}

/// All of them.
pub const ALL: [Break; 34] = [
    Break::NoUniqueConstraint,
    Break::CompletedBeforeCommit,
    Break::RefusedByRecord,
    Break::InProgressTakenForCompleted,
    Break::OwnIdOnContinuation,
    Break::ReservationOverwrites,
    Break::CompletedWithOwnRecord,
    Break::UnknownVersionRead,
    Break::TimeOutTakenForNotExecuted,
    Break::FingerprintIgnored,
    Break::CustomerNotInScope,
    Break::CollectionNotInScope,
    Break::ConflictTakenForInserted,
    Break::ExistingTakenForCreated,
    Break::AcknowledgedBeforeCommit,
    Break::InProgressBlocks,
    Break::BatchTakenForInserted,
    Break::BatchResultsMixedUp,
    Break::LockInsteadOfConstraint,
    Break::StateComparedBeforehand,
    Break::OldRecordsBelieved,
    Break::HistoryTrustedForever,
    Break::UnansweredTakenForConfirmed,
    Break::OtherHistoryBelievedInOutage,
    Break::BelievedInOutage,
    Break::CompletedInLatestHistory,
    Break::NewIdForLost,
    Break::OldIdReused,
    Break::OlderStateCompared,
    Break::StateReadAfterInsertion,
    Break::StateComparedBeforeKey,
    Break::AnyTakenForCurrent,
    Break::RefusedWithoutLookup,
    Break::WithdrawsAnyRecord,
];

impl Protocol for Break {
    fn name(&self) -> &'static str {
        match self {
            Self::NoUniqueConstraint => "no unique constraint",
            Self::CompletedBeforeCommit => "completed before commit",
            Self::RefusedByRecord => "422 by Redis's record",
            Self::InProgressTakenForCompleted => "in progress taken for completed",
            Self::OwnIdOnContinuation => "own id on continuation",
            Self::ReservationOverwrites => "reservation overwrites",
            Self::CompletedWithOwnRecord => "completed with own record",
            Self::UnknownVersionRead => "unknown version read",
            Self::TimeOutTakenForNotExecuted => "time-out taken for not executed",
            Self::FingerprintIgnored => "fingerprint ignored",
            Self::CustomerNotInScope => "customer not in scope",
            Self::CollectionNotInScope => "collection not in scope",
            Self::ConflictTakenForInserted => "conflict taken for inserted",
            Self::ExistingTakenForCreated => "existing taken for created",
            Self::AcknowledgedBeforeCommit => "acknowledged before commit",
            Self::InProgressBlocks => "record in progress blocks",
            Self::BatchTakenForInserted => "batch taken for inserted",
            Self::BatchResultsMixedUp => "results of a batch mixed up",
            Self::LockInsteadOfConstraint => "lock instead of constraint",
            Self::StateComparedBeforehand => "state compared beforehand",
            Self::OldRecordsBelieved => "records of any history believed",
            Self::HistoryTrustedForever => "history trusted for ever",
            Self::UnansweredTakenForConfirmed => "unanswered taken for confirmed",
            Self::OtherHistoryBelievedInOutage => "other history believed in an outage",
            Self::BelievedInOutage => "record believed in an outage",
            Self::CompletedInLatestHistory => "completed in the latest history",
            Self::NewIdForLost => "new id for a lost resource",
            Self::OldIdReused => "old id reused",
            Self::OlderStateCompared => "older state compared",
            Self::StateReadAfterInsertion => "state read after the insertion",
            Self::StateComparedBeforeKey => "state compared before the key",
            Self::AnyTakenForCurrent => "any state taken for the current one",
            Self::RefusedWithoutLookup => "refused without a look-up",
            Self::WithdrawsAnyRecord => "withdraws any record",
        }
    }

    fn start(&self, request: &ClientRequest, policy: ReplayPolicy, known: ListState, port: Port) -> Running {
        let stores = Broken {
            kind: *self,
            port,
            seen: Rc::default(),
        };
        start(request, policy, known, stores)
    }
}

/// Stores that make one mistake. Clones share their state.
#[derive(Clone)]
struct Broken {
    kind: Break,
    port: Port,
    seen: Rc<Seen>,
}

/// The answers that a request has had so far.
#[derive(Default)]
struct Seen {
    /// The record that it tried to reserve with.
    own: Cell<Option<Record>>,
    /// The record that it found.
    found: Cell<Option<Record>>,
    /// Whether it has the lock.
    locked: Cell<bool>,
}

impl Broken {
    fn scope(&self, scope: &KeyScope) -> KeyScope {
        let mut scope = scope.clone();
        match self.kind {
            Break::CustomerNotInScope => scope.customer = Customer::anonymous(),
            Break::CollectionNotInScope => scope.collection = Kind::Order.collection().name,
            _ => {}
        }
        scope
    }

    /// An insertion that calls a found resource created.
    async fn insert_or_claim(&self, new: &NewResource) -> Result<InHistory<Insertion>, DatabaseUnavailable> {
        let inserted = self.port.insert_unless_exists(new).await?;
        Ok(inserted.map(|inserted| match inserted {
            Insertion::Existing(_) => Insertion::Inserted,
            other => other,
        }))
    }

    /// The resource, with another id where that is the mistake.
    fn with_id(&self, new: &NewResource) -> NewResource {
        let (own, found) = (self.seen.own.get(), self.seen.found.get());
        let id = match (self.kind, own.zip(found)) {
            (Break::NewIdForLost, Some((own, found))) if found.progress != Progress::InProgress => own.id,
            (Break::OldIdReused, Some((_, found))) if found.fingerprint == new.fingerprint => found.id,
            _ => new.id,
        };
        NewResource { id, ..new.clone() }
    }

    /// The history of the record that the request has found.
    fn found_history(&self) -> Option<History> {
        match self.seen.found.get()?.progress {
            Progress::Completed(history) => Some(history),
            Progress::InProgress => None,
        }
    }

    /// The known history of the database, with the variant's mistake.
    fn mistaken(&self, known: KnownHistory) -> KnownHistory {
        match (self.kind, known) {
            (Break::OldRecordsBelieved, _) | (Break::BelievedInOutage, KnownHistory::Unreachable { .. }) => {
                self.found_history().map_or(known, KnownHistory::Current)
            }
            (Break::HistoryTrustedForever, known) => known.last().map_or(known, KnownHistory::Current),
            (Break::OtherHistoryBelievedInOutage, KnownHistory::Unreachable { .. }) => {
                KnownHistory::Unreachable { last: None }
            }
            _ => known,
        }
    }

    /// The record, completed in the history that the database is in.
    fn completed(&self, record: Record) -> Record {
        Record {
            progress: Progress::Completed(self.port.history()),
            ..record
        }
    }
}

impl Reservations for Broken {
    async fn reserve(&self, scope: &KeyScope, record: &Record) -> Result<Reservation, ReservationsUnavailable> {
        let scope = self.scope(scope);
        self.seen.own.set(Some(*record));
        if self.kind == Break::ReservationOverwrites {
            self.port.complete(&scope, record).await?;
            return Ok(Reservation::Acquired);
        }
        let mut reply = self.port.reserve_raw(&scope, record).await?;
        if let (Break::UnknownVersionRead, Reply::Bytes(bytes)) = (self.kind, &mut reply)
            && let Some(version) = bytes.first_mut()
        {
            *version = if *version == 3 { 2 } else { *version };
        }
        let found = match reservation(reply) {
            Reservation::Occupied(found) => found,
            other => return Ok(other),
        };
        self.seen.found.set(Some(found));
        Ok(Reservation::Occupied(match self.kind {
            Break::InProgressTakenForCompleted => self.completed(found),
            Break::FingerprintIgnored => Record {
                fingerprint: record.fingerprint,
                ..found
            },
            _ => found,
        }))
    }

    async fn complete(&self, scope: &KeyScope, record: &Record) -> Result<(), ReservationsUnavailable> {
        let own = self.seen.own.get().map(|own| self.completed(own));
        let record = match (self.kind, own) {
            (Break::CompletedWithOwnRecord, Some(own)) => own,
            (Break::CompletedInLatestHistory, _) => self.completed(*record),
            _ => *record,
        };
        self.port.complete(&self.scope(scope), &record).await
    }

    async fn withdraw(&self, scope: &KeyScope, record: &Record) -> Result<(), ReservationsUnavailable> {
        if self.kind == Break::WithdrawsAnyRecord {
            let _ = self.port.call(Call::Delete(scope.clone())).await;
            return Ok(());
        }
        self.port.withdraw(&self.scope(scope), record).await
    }
}

impl Batches for Broken {
    async fn insert_all(&self, batch: &[&NewResource]) -> Result<Vec<Attempt>, DatabaseUnavailable> {
        let mut attempts = self.port.insert_all(batch).await?;
        match self.kind {
            Break::BatchTakenForInserted => attempts.fill(Attempt::Inserted),
            _ => attempts.rotate_left(1),
        }
        Ok(attempts)
    }

    async fn batch_window(&self) {
        self.port.batch_window().await;
    }
}

impl Resources for Broken {
    fn announce_insertion(&self) {
        self.port.announce_insertion();
    }

    async fn insert_new(&self, new: &NewResource) -> Attempt {
        if let Break::BatchTakenForInserted | Break::BatchResultsMixedUp = self.kind {
            return self.port.insert_in_group(new, self).await;
        }
        // The mistakes of all other variants are in the insertion that returns the existing resource.
        match self.insert_unless_exists(new).await {
            Ok(InHistory {
                value: Insertion::Inserted,
                ..
            }) => Attempt::Inserted,
            _ => Attempt::Undecided,
        }
    }

    async fn insert_unless_exists(&self, new: &NewResource) -> Result<InHistory<Insertion>, DatabaseUnavailable> {
        let mut new = self.with_id(new);
        new.scope = self.scope(&new.scope);
        let own_id = self.seen.own.get().map_or(new.id, |own| own.id);
        let found = self.seen.found.get();
        let boxed = || Box::new(new.clone());
        match self.kind {
            Break::NoUniqueConstraint => self.port.call_insert(Call::InsertUnchecked(boxed())).await,
            Break::AcknowledgedBeforeCommit => self.port.call_insert(Call::InsertUnawaited(boxed())).await,
            Break::CompletedBeforeCommit => {
                let record = Record {
                    progress: Progress::Completed(self.port.history()),
                    fingerprint: new.fingerprint,
                    id: new.id,
                };
                let _ = self.port.complete(&new.scope, &record).await;
                self.port.insert_unless_exists(&new).await
            }
            Break::RefusedByRecord => match found {
                Some(found) if found.fingerprint != new.fingerprint => {
                    let refused = Insertion::Existing(StoredResource {
                        id: found.id,
                        fingerprint: found.fingerprint,
                        document: other_document(),
                    });
                    Ok(InHistory {
                        history: self.port.history(),
                        value: refused,
                    })
                }
                _ => self.port.insert_unless_exists(&new).await,
            },
            Break::InProgressBlocks => match found {
                Some(found) if found.progress == Progress::InProgress => Err(DatabaseUnavailable),
                _ => self.port.insert_unless_exists(&new).await,
            },
            Break::OwnIdOnContinuation => {
                new.id = own_id;
                let inserted = self.port.insert_unless_exists(&new).await?;
                Ok(inserted.map(|inserted| match inserted {
                    Insertion::Existing(stored) => Insertion::Existing(StoredResource { id: own_id, ..stored }),
                    other => other,
                }))
            }
            Break::TimeOutTakenForNotExecuted => match self.port.insert_unless_exists(&new).await {
                Err(DatabaseUnavailable) => self.insert_or_claim(&new).await,
                answered => answered,
            },
            Break::ExistingTakenForCreated => self.insert_or_claim(&new).await,
            Break::ConflictTakenForInserted => {
                let inserted = self.port.insert_unless_exists(&new).await?;
                Ok(inserted.map(|inserted| match inserted {
                    Insertion::Conflict => Insertion::Inserted,
                    other => other,
                }))
            }
            Break::FingerprintIgnored => {
                let inserted = self.port.insert_unless_exists(&new).await?;
                Ok(inserted.map(|inserted| match inserted {
                    Insertion::Existing(stored) => Insertion::Existing(StoredResource {
                        fingerprint: new.fingerprint,
                        ..stored
                    }),
                    other => other,
                }))
            }
            _ => self.port.insert_unless_exists(&new).await,
        }
    }
}

impl Locks for Broken {
    async fn acquire(&self, list: &List, holder: &ResourceId) -> Result<Lock, ReservationsUnavailable> {
        let lock = self.port.acquire(list, holder).await;
        self.seen.locked.set(lock == Ok(Lock::Acquired));
        lock
    }

    async fn release(&self, list: &List, holder: &ResourceId) -> Result<(), ReservationsUnavailable> {
        self.port.release(list, holder).await
    }
}

impl ConditionalResources for Broken {
    async fn insert_based_on(
        &self,
        new: &NewResource,
        expected: &Expected,
    ) -> Result<InHistory<ConditionalInsertion>, DatabaseUnavailable> {
        let new = &self.with_id(new);
        let list = List::from(&new.scope);
        let state = || self.port.list_state(&list);
        match self.kind {
            Break::LockInsteadOfConstraint if self.seen.locked.get() => {}
            Break::StateComparedBeforehand => {}
            Break::OlderStateCompared => {
                let call = Call::InsertBasedOnOld(Box::new(new.clone()), expected.clone());
                return self.port.call_conditional(call).await;
            }
            Break::StateReadAfterInsertion => {
                let inserted = self.port.insert_based_on(new, expected).await?;
                return Ok(inserted.map(|inserted| match inserted {
                    ConditionalInsertion::Inserted(_) => ConditionalInsertion::Inserted(state()),
                    other => other,
                }));
            }
            Break::StateComparedBeforeKey => {
                let inserted = self.port.insert_based_on(new, expected).await?;
                return Ok(inserted.map(|inserted| match inserted {
                    ConditionalInsertion::Existing(_) if !expected.is_met_by(&state()) => {
                        ConditionalInsertion::Stale(state())
                    }
                    other => other,
                }));
            }
            Break::AnyTakenForCurrent if *expected == Expected::Any => {
                let current = Expected::OneOf(vec![state()]);
                return self.port.insert_based_on(new, &current).await;
            }
            _ => return self.port.insert_based_on(new, expected).await,
        }
        // No state is expected: this inserts nothing and returns the state.
        let nothing = Expected::OneOf(Vec::new());
        let compared = self.port.insert_based_on(new, &nothing).await?;
        let state = match &compared.value {
            ConditionalInsertion::Stale(state) if expected.is_met_by(state) => *state,
            _ => return Ok(compared),
        };
        if self.kind == Break::LockInsteadOfConstraint {
            let call = Call::InsertBasedOnUnchecked(Box::new(new.clone()), state);
            return self.port.call_conditional(call).await;
        }
        let inserted = self.port.insert_unless_exists(new).await?;
        Ok(inserted.map(|inserted| match inserted {
            Insertion::Inserted => ConditionalInsertion::Inserted(state),
            Insertion::Existing(stored) => ConditionalInsertion::Existing(stored),
            Insertion::Conflict => ConditionalInsertion::Conflict,
        }))
    }
}

impl ResourcesByKey for Broken {
    async fn find_by_key(&self, scope: &KeyScope) -> Result<InHistory<Option<StoredResource>>, DatabaseUnavailable> {
        let found = self.port.find_by_key(scope).await?;
        Ok(found.map(|found| found.filter(|_| self.kind != Break::RefusedWithoutLookup)))
    }
}

impl Histories for Broken {
    fn known_history(&self) -> KnownHistory {
        self.mistaken(self.port.known_history())
    }

    async fn ask_history(&self) -> KnownHistory {
        let known = self.port.ask_history().await;
        match (self.kind, known) {
            (Break::UnansweredTakenForConfirmed, KnownHistory::Unknown { .. }) => {
                self.found_history().map_or(known, KnownHistory::Current)
            }
            _ => self.mistaken(known),
        }
    }
}

impl ResourceIds for Broken {
    fn draw(&self) -> ResourceId {
        self.port.draw()
    }
}

impl RecordLookup for Broken {
    async fn find_record(&self, scope: &KeyScope) -> Result<Option<Record>, ReservationsUnavailable> {
        self.port.find_record(scope).await
    }
}

impl ResourceLists for Broken {
    async fn find(&self, customer: &Customer, id: ResourceId) -> Result<Option<StoredResource>, DatabaseUnavailable> {
        self.port.find(customer, id).await
    }

    async fn page(
        &self,
        customer: &Customer,
        after: Option<ResourceId>,
        limit: usize,
    ) -> Result<Option<Page>, DatabaseUnavailable> {
        self.port.page(customer, after, limit).await
    }
}

impl Feed for Broken {
    async fn look(&self, after: i64, limit: usize, among: Option<&Writers>) -> Result<Outlook, DatabaseUnavailable> {
        self.port.look(after, limit, among).await
    }

    async fn read(&self, after: i64, last: i64, limit: usize) -> Result<FeedRows, DatabaseUnavailable> {
        self.port.read(after, last, limit).await
    }
}

impl Probes for Broken {
    async fn probe(&self) -> Probe {
        self.port.probe().await
    }
}

/// A document that differs from those of all client requests.
fn other_document() -> Document {
    Document::from_text(r#"{"currency":"EUR","items":[{"quantity":99,"sku":"Z","unitPrice":1}],"note":null}"#)
}
