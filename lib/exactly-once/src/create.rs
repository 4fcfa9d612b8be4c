//! The protocol: reserve the key in Redis, insert in Postgres, and give every retry the one resource that exists.
//!
//! Redis is asked first because it is fast, and believed only where an error is impossible. Everything else is decided
//! by Postgres's unique constraint on (customer, key), in one statement. A request may die at any await: the next one
//! with the same key continues its work. The database may lose rows (a failover, a restore): a completed
//! record is believed only in the history that it was written in. Creation on a condition: [`conditional`].

pub mod conditional;

use crate::error::{CreateError, DatabaseError, ReservationsUnavailable};
use crate::fingerprint::Fingerprint;
use crate::history::{History, HistorySet, InHistory, KnownHistory};
use crate::json::differences;
use crate::key::KeyScope;
use crate::ports::{
    Attempt, Histories, Insertion, NewResource, Reservation, Reservations, ResourceIds, Resources, ResourcesByKey,
    StoredResource,
};
use crate::record::{Progress, Record};
use crate::resource::{Collection, Document, ResourceId};

/// The response to a used key with another document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyReuse {
    /// A rejection that names the differences of the documents.
    Reject,
    /// The first resource, for any document.
    Replay,
}

/// The response to a retry of a completed creation while Postgres does not respond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageReplay {
    /// The record's resource, unless the instance knows that the record belongs to another history. Choose it
    /// if a failover loses nothing: with one server, or with synchronous replication.
    FromRecord,
    /// None: the resource may be lost.
    Unavailable,
}

/// How the service responds to retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayPolicy {
    /// A retry with another document.
    pub key_reuse: KeyReuse,
    /// A retry while Postgres does not respond.
    pub outage: OutageReplay,
}

/// A valid request for a new resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest {
    scope: KeyScope,
    fingerprint: Fingerprint,
    document: Document,
}

impl CreateRequest {
    /// A request to create a resource of the scope's collection under its key.
    ///
    /// A condition is not part of the fingerprint: a retry may have another one.
    pub fn new(scope: KeyScope, collection: &Collection, document: Document) -> Self {
        Self { fingerprint: Fingerprint::of(&scope, "POST", collection.path, &document), scope, document }
    }
}

/// The resource that a key belongs to, and whether this request created it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Creation {
    /// This request inserted it. At most one request per key gets this result.
    Created(ResourceId),
    /// It existed before, with the document of the request. Rarely this request inserted it: the statement that it
    /// shared with others was committed after the request had stopped waiting for it. The row does not tell, because a
    /// retry that continues this request inserts the same id.
    Replayed(ResourceId),
    /// It existed before, with another document; only with [`KeyReuse::Replay`].
    Reused(StoredResource),
}

impl Creation {
    /// Its id.
    pub fn id(&self) -> ResourceId {
        match self {
            Self::Created(id) | Self::Replayed(id) => *id,
            Self::Reused(stored) => stored.id,
        }
    }
}

/// How often an insertion is tried. The second try sees the row that the first one only collided with. Only a
/// taken id needs a third, with a new id, which can collide with a concurrent request once more.
const INSERTION_TRIES: u32 = 4;

/// Creates the requested resource, or finds the one that the key already belongs to.
///
/// A creation is one call of `reserve` and one of `insert_new`. A replay of a completed creation is one call of
/// `reserve` where the record's history is known to be the database's, and otherwise one of `ask_history` more.
///
/// # Errors
/// [`CreateError::KeyReused`] only when Postgres holds another document for the key; [`CreateError::Unavailable`] when
/// Postgres could not be asked; [`CreateError::ValueRejected`] when it can never store the document, and
/// [`CreateError::Elsewhere`] when another one has the customer. Redis causes no error.
pub async fn create(
    request: CreateRequest,
    policy: ReplayPolicy,
    reservations: &impl Reservations,
    resources: &(impl Resources + Histories),
    ids: &impl ResourceIds,
) -> Result<Creation, CreateError> {
    resources.announce_insertion();
    let claim = claim(request, policy.outage, reservations, resources, ids).await;
    let (new, reservation) = match claim {
        Claim::Completed(id) => return Ok(Creation::Replayed(id)),
        Claim::Open { new, reservation } => (new, reservation),
    };
    if likely_new(&reservation) && resources.insert_new(&new).await == Attempt::Inserted {
        // The record stays in progress: most resources are never requested again, and the first retry completes it.
        return Ok(Creation::Created(new.id));
    }
    let own = Record { progress: Progress::InProgress, fingerprint: new.fingerprint, id: new.id };
    let scope = new.scope.clone();
    let settled = match insert(new, resources, ids).await {
        Ok(settled) => settled,
        Err(DatabaseError::Unavailable) => {
            return replay_in_outage(&reservation, &own.fingerprint, policy.outage, resources)
                .map(Creation::Replayed)
                .ok_or(CreateError::Unavailable);
        }
        Err(refusal @ (DatabaseError::ValueRejected | DatabaseError::Elsewhere)) => {
            withdraw(&scope, &own, &reservation, reservations).await;
            return Err(refusal.into());
        }
    };
    complete_record(&settled, &reservation, reservations).await;
    settled.value.creation(policy.key_reuse)
}

/// The resource of a key, if it is the one that an invalid request asks for. The request may be a retry of one that was
/// valid when the resource was created: limits and conditions change. `requested` is its document as it would be
/// stored, if it has one.
///
/// One call of `find_by_key`, and none for a request without a document.
///
/// # Errors
/// [`DatabaseError`] when Postgres could not be asked.
pub async fn find_requested(
    scope: &KeyScope,
    requested: Option<&Document>,
    key_reuse: KeyReuse,
    resources: &impl ResourcesByKey,
) -> Result<Option<StoredResource>, DatabaseError> {
    if requested.is_none() && key_reuse == KeyReuse::Reject {
        return Ok(None);
    }
    let found = resources.find_by_key(scope).await?.value;
    Ok(found.filter(|stored| {
        let is_requested = |document: &Document| are_equal(&stored.document, document);
        key_reuse == KeyReuse::Replay || requested.is_some_and(is_requested)
    }))
}

/// Whether two documents are equal. The texts of equal documents differ if Postgres or another program wrote one of
/// them.
fn are_equal(stored: &Document, requested: &Document) -> bool {
    stored == requested || differences(&stored.value(), &requested.value()).is_empty()
}

/// What Redis's response to a reservation means.
type Reserved = Result<Reservation, ReservationsUnavailable>;

/// The state of the key in Redis.
enum Claim {
    /// Its resource.
    Completed(ResourceId),
    /// Nothing final. `new` has the id to insert it with.
    Open { new: NewResource, reservation: Reserved },
}

async fn claim(
    request: CreateRequest,
    outage: OutageReplay,
    reservations: &impl Reservations,
    histories: &impl Histories,
    ids: &impl ResourceIds,
) -> Claim {
    let CreateRequest { scope, fingerprint, document } = request;
    let own = Record { progress: Progress::InProgress, fingerprint, id: ids.draw() };
    let reservation = reservations.reserve(&scope, &own).await;
    let id = match &reservation {
        Ok(Reservation::Occupied(record)) if record.fingerprint == fingerprint => {
            match record.progress {
                // The fingerprint covers customer, key and document, and a completed record is written only from a
                // row that was read: this is the stored resource.
                Progress::Completed(history) if is_believed(history, known_history(histories).await, outage) => {
                    return Claim::Completed(record.id);
                }
                // The row was read in another history and may be lost: the insertion finds it, or creates it again as
                // it was.
                Progress::Completed(_) => record.id,
                // Another request is under way, has died, or has created the resource, which a failover may have lost
                // since then. The record's id makes this request and that one the same, however old the record is: the
                // restored resource has the id of the lost one.
                Progress::InProgress => record.id,
            }
        }
        // Another request's record proves neither that its resource exists nor that this one does not.
        Ok(Reservation::Acquired | Reservation::Occupied(_) | Reservation::Unintelligible) | Err(_) => own.id,
    };
    Claim::Open { new: NewResource { scope, id, fingerprint, document }, reservation }
}

/// The known history; if it is unknown, the database is asked for it. The response serves all requests of the instance
/// for a while. A statement about one key would not serve the requests that are under way.
async fn known_history(histories: &impl Histories) -> KnownHistory {
    match histories.known_history() {
        KnownHistory::Unknown { .. } => histories.ask_history().await,
        known => known,
    }
}

/// Whether to replay from a completed record of that history without asking Postgres.
fn is_believed(history: History, known: KnownHistory, outage: OutageReplay) -> bool {
    match (known, outage) {
        (KnownHistory::Current(current), _) => current.contains(history),
        (KnownHistory::Unreachable { last }, OutageReplay::FromRecord) => !is_contradicted(history, last),
        (KnownHistory::Unreachable { .. } | KnownHistory::Unknown { .. }, _) => false,
    }
}

/// Whether the last known histories are others than the record's.
fn is_contradicted(history: History, last: HistorySet) -> bool {
    !last.is_empty() && !last.contains(history)
}

/// The id in a completed record of the request, for a replay that Postgres has not confirmed.
fn replay_in_outage(
    reservation: &Reserved,
    fingerprint: &Fingerprint,
    outage: OutageReplay,
    histories: &impl Histories,
) -> Option<ResourceId> {
    let (Ok(Reservation::Occupied(record)), OutageReplay::FromRecord) = (reservation, outage) else {
        return None;
    };
    let Progress::Completed(history) = record.progress else {
        return None;
    };
    // Another request may have learned another history meanwhile.
    let last = histories.known_history().last();
    (record.fingerprint == *fingerprint && !is_contradicted(history, last)).then_some(record.id)
}

/// Whether the scope is most likely empty in Postgres. Without a response from Redis it is unknown, but new resources
/// are more frequent than retries.
fn likely_new(reservation: &Reserved) -> bool {
    matches!(reservation, Ok(Reservation::Acquired) | Err(_))
}

/// Postgres's decision.
enum Settled {
    Inserted(NewResource),
    Existing { stored: StoredResource, requested: NewResource },
}

impl Settled {
    fn scope(&self) -> &KeyScope {
        match self {
            Self::Inserted(new) | Self::Existing { requested: new, .. } => &new.scope,
        }
    }

    fn completed_record(&self, history: History) -> Record {
        let (fingerprint, id) = match self {
            Self::Inserted(new) => (new.fingerprint, new.id),
            Self::Existing { stored, .. } => (stored.fingerprint, stored.id),
        };
        Record { progress: Progress::Completed(history), fingerprint, id }
    }

    fn creation(self, key_reuse: KeyReuse) -> Result<Creation, CreateError> {
        let (stored, requested) = match self {
            Self::Inserted(new) => return Ok(Creation::Created(new.id)),
            Self::Existing { stored, requested } => (stored, requested),
        };
        // An equal fingerprint is an equal document; and the same document under a fingerprint of another algorithm is
        // still the same document.
        if stored.fingerprint == requested.fingerprint || are_equal(&stored.document, &requested.document) {
            return Ok(Creation::Replayed(stored.id));
        }
        if key_reuse == KeyReuse::Replay {
            return Ok(Creation::Reused(stored));
        }
        Err(CreateError::KeyReused {
            id: stored.id,
            differs: differences(&stored.document.value(), &requested.document.value()),
        })
    }
}

async fn insert(
    mut new: NewResource,
    resources: &impl Resources,
    ids: &impl ResourceIds,
) -> Result<InHistory<Settled>, DatabaseError> {
    for tried in 1..=INSERTION_TRIES {
        let InHistory { history, value } = resources.insert_unless_exists(&new).await?;
        let value = match value {
            Insertion::Inserted => Settled::Inserted(new),
            Insertion::Existing(stored) => Settled::Existing { stored, requested: new },
            Insertion::Conflict => {
                prepare_retry(&mut new, tried, ids);
                continue;
            }
        };
        return Ok(InHistory { history, value });
    }
    Err(DatabaseError::Unavailable)
}

/// Prepares the next try after a conflict. After the first conflict, a concurrent request has most likely inserted the
/// row, which is visible from now on. After the second, the id belongs to a resource of another key, because of a
/// corrupted record: a new id is needed.
fn prepare_retry(new: &mut NewResource, tried: u32, ids: &impl ResourceIds) {
    if tried >= 2 {
        new.id = ids.draw();
    }
}

/// Removes the record of a rejected request that reserved the key: nothing is in progress any more. If this fails, the
/// key's state stays "in progress" until the record expires.
async fn withdraw(scope: &KeyScope, own: &Record, reservation: &Reserved, reservations: &impl Reservations) {
    if *reservation == Ok(Reservation::Acquired) {
        let _ = reservations.withdraw(scope, own).await;
    }
}

/// Writes the completed record if that is worth a round trip. A lost write only costs the next retry a round trip to
/// Postgres.
async fn complete_record(
    InHistory { history, value: settled }: &InHistory<Settled>,
    reservation: &Reserved,
    reservations: &impl Reservations,
) {
    let record = settled.completed_record(*history);
    if worth_completing(reservation, settled, &record) {
        let _ = reservations.complete(settled.scope(), &record).await;
    }
}

/// Whether to spend a round trip on the completed record. Not for a first creation: most are never retried, and the
/// first retry does it. Not over a record that this release cannot read: it may be a newer release's.
fn worth_completing(reservation: &Reserved, settled: &Settled, record: &Record) -> bool {
    match reservation {
        Ok(Reservation::Acquired) => matches!(settled, Settled::Existing { .. }),
        Ok(Reservation::Occupied(found)) => found != record,
        Ok(Reservation::Unintelligible) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests;
