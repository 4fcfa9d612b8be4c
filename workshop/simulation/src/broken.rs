//! Variants of the protocol with one plausible mistake each. Wrappers around its ports and its platform make the
//! mistakes, so the code that runs is that of the product. The simulation must catch every variant.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use exactly_once::breaker::State;
use exactly_once::condition::Expected;
use exactly_once::error::{DatabaseError, ReservationsUnavailable};
use exactly_once::ports::{
    Attempt, Clock, ConditionalInsertion, ConditionalResources, Feed, FeedRows, Histories, Insertion, List, Lock,
    Locks, NewResource, Outlook, Page, PageRequest, Probe, Probes, RecordLookup, Reservation, Reservations,
    ResourceLists, Resources, ResourcesByKey, StoredResource, Writers,
};
use exactly_once::{
    Customer, Document, History, HistorySet, InHistory, KeyScope, KnownHistory, ListState, Progress, Record, ResourceId,
};
use exactly_once_http::settings::Settings;
use exactly_once_http::{Host, Problem};
use exactly_once_stores::redis::Reply;
use exactly_once_stores::{Database, Redis};

use crate::host::SimulatedHost;
use crate::kind::Kind;
use crate::platform::Simulated;
use crate::texts::texts;
use crate::world::{Answer, Call};

texts! {
    /// A mistake.
    Break {
        NoUniqueConstraint = "Postgres has no unique constraint",
        CompletedBeforeCommit = "The record is completed before the insertion has committed",
        RefusedByRecord = "A request is rejected because of another request's record, without asking Postgres",
        InProgressTakenForCompleted = "A record in progress is taken for a completed one",
        OwnIdOnContinuation = "A request that continues another one acknowledges the id that it has drawn itself",
        ReservationOverwrites = "The reservation overwrites the existing record",
        CompletedWithOwnRecord =
            "The completed record has the request's own id and fingerprint, also when another resource was found",
        UnknownVersionRead = "A record of an unknown version is read as one of this version",
        TimeOutTakenForNotExecuted =
            "A time-out is taken for \"not executed\": a resource that the second try finds is called created",
        FingerprintIgnored = "Fingerprints are not compared",
        CustomerNotInScope = "The key scope has no customer: all customers share their keys",
        CollectionNotInScope = "The key scope has no collection: all collections share their keys",
        ConflictTakenForInserted = "A conflict is taken for an insertion",
        ExistingTakenForCreated = "A resource that was found is called created",
        AcknowledgedBeforeCommit = "The resource is acknowledged before its insertion was answered",
        InProgressBlocks = "A record in progress is a lock: other requests have to wait until it expires",
        BatchTakenForInserted = "A successful statement for several resources is taken to have inserted all of them",
        BatchResultsMixedUp = "The results of a statement for several resources are assigned to the wrong requests",
        LockInsteadOfConstraint = "The lock replaces the constraint on the state that a resource is based on",
        StateComparedBeforehand = "The list's state is compared in one statement, the resource inserted in the next",
        OldRecordsBelieved = "A completed record of any history is believed",
        HistoryTrustedForever = "A history that was heard is believed for ever",
        UnansweredTakenForConfirmed =
            "A request that has waited for another one's question believes its record, although there was no answer",
        OtherHistoryBelievedInOutage =
            "In an outage a record is believed, although the database has said that it is in another history",
        BelievedInOutage = "In an outage a record is believed, although that is not configured",
        CompletedInLatestHistory =
            "The completed record has the latest history, not that of the statement that read the row",
        NewIdForLost = "A lost resource is created again with a new id",
        OldRecordTakenForDied = "A record in progress that is old is taken for that of a request that died",
        ExistingNotReplicated = "A resource that is found is acknowledged before a standby has it",
        TimelineTakenForHistory = "The number of the server's timeline is taken for its history",
        OlderStateCompared = "The list's state is that of a snapshot without the last commit, such as a standby's",
        StateReadAfterInsertion = "The tag in the answer is that of the list later, with what others have added",
        StateComparedBeforeKey = "The list's state is compared before the key's resource is looked for",
        AnyTakenForCurrent = "\"Any state\" means the state that the list is in when the request arrives",
        RefusedWithoutLookup = "A request that lacks a condition is rejected, and its key is not looked up",
        WithdrawsAnyRecord = "A rejected request deletes any record of the key",
        BreakerNeverCloses = "The breaker does not close again",
        OpenBreakerTakenForNew = "While the breaker is open, a resource that was found is called created",
        ConnectionUsedAgain =
            "A connection is used again although its statement was abandoned: the next one gets that one's answer",
        WatchNotHandedOver = "The watch for late requests ends with the request that started it, and none replaces it",
        RepetitionTakenForFirst = "A resource that a repetition finds is called created if it has the request's id",
    }
}

/// The mistakes that are made beneath the ports.
impl Break {
    /// The call that is sent instead of this one.
    pub fn call(self, call: Call) -> Call {
        match (self, call) {
            (Self::NoUniqueConstraint, Call::Insert(new)) => Call::InsertUnchecked(new),
            (Self::AcknowledgedBeforeCommit, Call::Insert(new)) => Call::InsertUnawaited(new),
            (Self::OlderStateCompared, Call::InsertBasedOn(new, expected)) => Call::InsertBasedOnOld(new, expected),
            (Self::LockInsteadOfConstraint, Call::InsertBasedOn(new, Expected::OneOf(states))) => {
                match states.first() {
                    Some(state) => Call::InsertBasedOnUnchecked(new, *state),
                    None => Call::InsertBasedOn(new, Expected::OneOf(states)),
                }
            }
            (Self::WithdrawsAnyRecord, Call::Withdraw(scope, _)) => Call::Delete(scope),
            (_, call) => call,
        }
    }

    /// The answer that the component gets instead of this one.
    pub fn answer(self, mut answer: Answer) -> Answer {
        match (self, &mut answer) {
            (Self::BatchTakenForInserted, Answer::Attempts(attempts)) => attempts.fill(Attempt::Inserted),
            (Self::BatchResultsMixedUp, Answer::Attempts(attempts)) => attempts.rotate_left(1),
            (Self::UnknownVersionRead, Answer::Redis(Reply::Bytes(bytes))) => match bytes.first_mut() {
                Some(version) if *version == 2 => *version = 1,
                _ => {}
            },
            _ => {}
        }
        answer
    }
}

/// A host whose stores make a mistake.
pub(crate) struct BrokenHost {
    host: SimulatedHost,
    kind: Break,
    seen: Seen,
}

/// What the stores have answered to the request so far.
#[derive(Default)]
struct Seen {
    /// The record that it tried to reserve with.
    own: Cell<Option<Record>>,
    /// The record that it found.
    found: Cell<Option<Record>>,
    /// Whether it has the lock.
    locked: Cell<bool>,
}

impl BrokenHost {
    /// The host, with that mistake.
    pub fn new(host: SimulatedHost, kind: Break) -> Self {
        host.platform().set_mistake(Some(kind));
        {
            let tables = &mut host.platform().shared().world.borrow_mut().tables;
            tables.skips_standbys = kind == Break::ExistingNotReplicated;
            tables.takes_timeline = kind == Break::TimelineTakenForHistory;
        }
        let seen = Seen::default();
        Self { host, kind, seen }
    }

    fn stores<'h>(&'h self, settings: &'h Settings) -> Broken<'h> {
        Broken {
            host: &self.host,
            kind: self.kind,
            seen: &self.seen,
            redis: self.host.redis(settings),
            database: self.host.postgres(settings),
        }
    }
}

impl Clock for BrokenHost {
    fn now(&self) -> Duration {
        self.host.now()
    }

    async fn sleep(&self, time: Duration) {
        self.host.sleep(time).await;
    }
}

impl Host for BrokenHost {
    type Redis<'h> = Broken<'h>;
    type Postgres<'h> = Broken<'h>;
    type Ids = Simulated;

    async fn settings(&self) -> Result<Arc<Settings>, Problem> {
        self.host.settings().await
    }

    fn redis<'h>(&'h self, settings: &'h Settings) -> Broken<'h> {
        self.stores(settings)
    }

    fn postgres<'h>(&'h self, settings: &'h Settings) -> Broken<'h> {
        self.stores(settings)
    }

    fn ids(&self) -> &Simulated {
        self.host.ids()
    }

    fn unix_seconds(&self) -> i64 {
        0
    }

    async fn probe_both(&self, settings: &Settings) -> (Probe, Probe) {
        self.host.probe_both(settings).await
    }
}

/// Stores that make one mistake.
pub(crate) struct Broken<'h> {
    host: &'h SimulatedHost,
    kind: Break,
    seen: &'h Seen,
    redis: Redis<'h, Simulated>,
    database: Database<'h, Simulated>,
}

impl Broken<'_> {
    /// The history that the database is in.
    fn history(&self) -> History {
        let tables = &self.host.platform().shared().world.borrow().tables;
        tables.history().unwrap_or_else(no_history)
    }

    fn list_state(&self, list: &List) -> ListState {
        self.host.platform().shared().world.borrow().tables.list_state(list)
    }

    /// Whether requests do without Redis.
    fn breaker_is_open(&self) -> bool {
        self.host.instance.breaker(self.host.platform()) != State::Closed
    }

    fn scope(&self, scope: &KeyScope) -> KeyScope {
        let mut scope = scope.clone();
        match self.kind {
            Break::CustomerNotInScope => scope.customer = Customer::anonymous(),
            Break::CollectionNotInScope => scope.collection = Kind::Order.collection().name,
            _ => {}
        }
        scope
    }

    /// The resource, with another id where that is the mistake.
    fn with_id(&self, new: &NewResource) -> NewResource {
        let (own, found) = (self.seen.own.get(), self.seen.found.get());
        let id = match (self.kind, own.zip(found)) {
            (Break::NewIdForLost, Some((own, found))) if found.progress != Progress::InProgress => own.id,
            (Break::OldRecordTakenForDied, Some((own, found)))
                if found.id == new.id && own.id.created_at_millis() > found.id.created_at_millis() + 60_000 =>
            {
                own.id
            }
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
                self.found_history().map_or(known, |found| KnownHistory::Current(found.into()))
            }
            (Break::HistoryTrustedForever, _) if !known.last().is_empty() => KnownHistory::Current(known.last()),
            (Break::OtherHistoryBelievedInOutage, KnownHistory::Unreachable { .. }) => {
                KnownHistory::Unreachable { last: HistorySet::default() }
            }
            _ => known,
        }
    }

    /// The record, completed in the history that the database is in.
    fn completed(&self, record: Record) -> Record {
        Record { progress: Progress::Completed(self.history()), ..record }
    }
}

impl Reservations for Broken<'_> {
    async fn reserve(&self, scope: &KeyScope, record: &Record) -> Result<Reservation, ReservationsUnavailable> {
        let scope = self.scope(scope);
        self.seen.own.set(Some(*record));
        if self.kind == Break::BreakerNeverCloses && self.breaker_is_open() {
            return Err(ReservationsUnavailable);
        }
        if self.kind == Break::ReservationOverwrites {
            self.redis.complete(&scope, record).await?;
            return Ok(Reservation::Acquired);
        }
        let found = match self.redis.reserve(&scope, record).await? {
            Reservation::Occupied(found) => found,
            other => return Ok(other),
        };
        self.seen.found.set(Some(found));
        Ok(Reservation::Occupied(match self.kind {
            Break::InProgressTakenForCompleted => self.completed(found),
            Break::FingerprintIgnored => Record { fingerprint: record.fingerprint, ..found },
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
        self.redis.complete(&self.scope(scope), &record).await
    }

    async fn withdraw(&self, scope: &KeyScope, record: &Record) -> Result<(), ReservationsUnavailable> {
        self.redis.withdraw(&self.scope(scope), record).await
    }
}

impl Resources for Broken<'_> {
    fn announce_insertion(&self) {
        self.database.announce_insertion();
    }

    async fn insert_new(&self, new: &NewResource) -> Attempt {
        if let Break::BatchTakenForInserted
        | Break::BatchResultsMixedUp
        | Break::ConnectionUsedAgain
        | Break::WatchNotHandedOver = self.kind
        {
            return self.database.insert_new(new).await;
        }
        // The mistakes of all other variants are in the insertion that returns the existing resource.
        match self.insert_unless_exists(new).await.map(|inserted| inserted.value) {
            Ok(Insertion::Inserted) => Attempt::Inserted,
            _ => Attempt::Undecided,
        }
    }

    async fn insert_unless_exists(&self, new: &NewResource) -> Result<InHistory<Insertion>, DatabaseError> {
        let mut new = self.with_id(new);
        new.scope = self.scope(&new.scope);
        let (own, found) = (self.seen.own.get(), self.seen.found.get());
        match (self.kind, found) {
            (Break::OwnIdOnContinuation, _) => new.id = own.map_or(new.id, |own| own.id),
            (Break::CompletedBeforeCommit, _) => {
                let record = Record { progress: Progress::InProgress, fingerprint: new.fingerprint, id: new.id };
                let _ = self.redis.complete(&new.scope, &self.completed(record)).await;
            }
            (Break::RefusedByRecord, Some(found)) if found.fingerprint != new.fingerprint => {
                let (id, fingerprint, document) = (found.id, found.fingerprint, other_document());
                let (history, stored) = (self.history(), StoredResource { id, fingerprint, document });
                let value = Insertion::Existing(stored);
                return Ok(InHistory { history, value });
            }
            (Break::InProgressBlocks, Some(found)) if found.progress == Progress::InProgress => {
                return Err(DatabaseError::Unavailable);
            }
            _ => {}
        }
        let trips = self.host.trips();
        let mut inserted = self.database.insert_unless_exists(&new).await;
        let is_repeated = self.host.trips() > trips + 1;
        let timed_out = self.kind == Break::TimeOutTakenForNotExecuted && inserted.is_err();
        if timed_out {
            inserted = self.database.insert_unless_exists(&new).await;
        }
        Ok(inserted?.map(|inserted| match (self.kind, inserted) {
            (Break::OwnIdOnContinuation, Insertion::Existing(stored)) => {
                Insertion::Existing(StoredResource { id: new.id, ..stored })
            }
            (Break::FingerprintIgnored, Insertion::Existing(stored)) => {
                Insertion::Existing(StoredResource { fingerprint: new.fingerprint, ..stored })
            }
            (Break::TimeOutTakenForNotExecuted, Insertion::Existing(_)) if timed_out => Insertion::Inserted,
            (Break::OpenBreakerTakenForNew, Insertion::Existing(_)) if self.breaker_is_open() => Insertion::Inserted,
            (Break::RepetitionTakenForFirst, Insertion::Existing(stored)) if is_repeated && stored.id == new.id => {
                Insertion::Inserted
            }
            (Break::ExistingTakenForCreated, Insertion::Existing(_))
            | (Break::ConflictTakenForInserted, Insertion::Conflict) => Insertion::Inserted,
            (_, inserted) => inserted,
        }))
    }
}

impl Locks for Broken<'_> {
    async fn acquire(&self, scope: &KeyScope) -> Result<Lock, ReservationsUnavailable> {
        let lock = self.redis.acquire(scope).await;
        let locked = lock == Ok(Lock::Acquired);
        self.seen.locked.set(locked);
        if self.kind == Break::LockInsteadOfConstraint {
            self.host.platform().set_mistake(locked.then_some(self.kind));
        }
        lock
    }

    async fn release(&self, scope: &KeyScope) -> Result<(), ReservationsUnavailable> {
        self.redis.release(scope).await
    }
}

impl ConditionalResources for Broken<'_> {
    async fn insert_based_on(
        &self,
        new: &NewResource,
        expected: &Expected,
    ) -> Result<InHistory<ConditionalInsertion>, DatabaseError> {
        let new = &self.with_id(new);
        let list = List::from(&new.scope);
        let state = || self.list_state(&list);
        match self.kind {
            Break::LockInsteadOfConstraint if self.seen.locked.get() => {}
            Break::StateComparedBeforehand => {}
            Break::AnyTakenForCurrent if *expected == Expected::Any => {
                let current = Expected::OneOf(vec![state()]);
                return self.database.insert_based_on(new, &current).await;
            }
            kind => {
                let inserted = self.database.insert_based_on(new, expected).await?;
                return Ok(inserted.map(|inserted| match (kind, inserted) {
                    (Break::StateReadAfterInsertion, ConditionalInsertion::Inserted(_)) => {
                        ConditionalInsertion::Inserted(state())
                    }
                    (Break::StateComparedBeforeKey, ConditionalInsertion::Existing(_))
                        if !expected.is_met_by(&state()) =>
                    {
                        ConditionalInsertion::Stale(state())
                    }
                    (_, inserted) => inserted,
                }));
            }
        }
        // No state is expected: this inserts nothing and returns the state.
        let nothing = Expected::OneOf(Vec::new());
        let compared = self.database.insert_based_on(new, &nothing).await?;
        let state = match &compared.value {
            ConditionalInsertion::Stale(state) if expected.is_met_by(state) => *state,
            _ => return Ok(compared),
        };
        if self.kind == Break::LockInsteadOfConstraint {
            let compared = Expected::OneOf(vec![state]);
            return self.database.insert_based_on(new, &compared).await;
        }
        let inserted = self.database.insert_unless_exists(new).await?;
        Ok(inserted.map(|inserted| match inserted {
            Insertion::Inserted => ConditionalInsertion::Inserted(state),
            Insertion::Existing(stored) => ConditionalInsertion::Existing(stored),
            Insertion::Conflict => ConditionalInsertion::Conflict,
        }))
    }
}

impl ResourcesByKey for Broken<'_> {
    async fn find_by_key(&self, scope: &KeyScope) -> Result<InHistory<Option<StoredResource>>, DatabaseError> {
        let found = self.database.find_by_key(scope).await?;
        Ok(found.map(|found| found.filter(|_| self.kind != Break::RefusedWithoutLookup)))
    }
}

impl Histories for Broken<'_> {
    fn known_history(&self) -> KnownHistory {
        self.mistaken(self.database.known_history())
    }

    async fn ask_history(&self) -> KnownHistory {
        let known = self.database.ask_history().await;
        match (self.kind, known) {
            (Break::UnansweredTakenForConfirmed, KnownHistory::Unknown { .. }) => {
                self.found_history().map_or(known, |found| KnownHistory::Current(found.into()))
            }
            _ => self.mistaken(known),
        }
    }
}

impl RecordLookup for Broken<'_> {
    async fn find_record(&self, scope: &KeyScope) -> Result<Option<Record>, ReservationsUnavailable> {
        self.redis.find_record(scope).await
    }
}

impl ResourceLists for Broken<'_> {
    async fn find(&self, customer: &Customer, id: ResourceId) -> Result<Option<StoredResource>, DatabaseError> {
        self.database.find(customer, id).await
    }

    async fn page(&self, customer: &Customer, request: PageRequest) -> Result<Option<Page>, DatabaseError> {
        self.database.page(customer, request).await
    }
}

impl Feed for Broken<'_> {
    async fn look(&self, after: i64, limit: usize, among: Option<&Writers>) -> Result<Outlook, DatabaseError> {
        self.database.look(after, limit, among).await
    }

    async fn read(&self, after: i64, last: i64, limit: usize) -> Result<FeedRows, DatabaseError> {
        self.database.read(after, last, limit).await
    }
}

impl Probes for Broken<'_> {
    async fn probe(&self) -> Probe {
        self.database.probe().await
    }
}

/// A document that differs from those of all client requests.
fn no_history() -> History {
    #[allow(clippy::expect_used, reason = "8 bytes are a history")]
    History::from_bytes(&[0xff; History::BYTES]).expect("a history")
}

fn other_document() -> Document {
    Document::from_text(r#"{"currency":"EUR","items":[{"quantity":99,"sku":"Z","unitPrice":1}],"note":null}"#)
}
