//! The invariants, checked after every step.
//!
//! - A key has at most one resource, and a state of a list at most one conditional resource that is based on it.
//! - A conditional creation saw the list in the expected state at some moment during the request. No request is
//!   rejected for a state that the list is in, and none gets 412 if its key has a resource.
//! - Rows never change. A 201 is stored exactly as acknowledged, and all 201 of a key agree. A 422 names real
//!   differences. *Created* is said once.
//! - No completed record is false, and none is replaced by a record in progress.
//! - A lost resource is replayed only by an instance that could not know of the failover: for 3 s, or in an outage
//!   where that is configured.
//!
//! At the end, without faults, one retry of every client asks Redis and succeeds at once. It creates a lost resource
//! again, with its old id if Redis has it. It does so again after everything that was in flight has been executed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use exactly_once::create::{Creation, KeyReuse, OutageReplay, ReplayPolicy};
use exactly_once::history::TRUSTED_FOR;
use exactly_once::json::differences;
use exactly_once::ports::{List, StoredResource};
use exactly_once::{Document, HistorySet, KeyScope, ListState, Progress, Record, ResourceId};
use exactly_once_http::{Problem, Response, created};
use serde_json::Value;

use crate::client_request::{ClientRequest, Condition};
use crate::coverage::{Coverage, Event};
use crate::host::CUSTOMER;
use crate::kind::Kind;
use crate::tables::{LostRow, Moment, Row, StateChange, with};
use crate::texts::texts;
use crate::world::{REMAINING_LEASE, World};

texts! {
    /// What must always hold, negated.
    Invariant {
        TwoResources = "a key has more than one resource",
        RowChanged = "a stored resource changed",
        NotAsAcknowledged = "an acknowledged resource is not stored as acknowledged",
        Disagreement = "acknowledgements of one key differ",
        WronglyRefused = "a request was refused, though the stored document does not differ",
        CreatedTwice = "two requests were told that they created a resource",
        TwoBasedOnOneState = "two resources are based on one state of a list",
        WronglyStale = "a request was refused, though the list was in no other state",
        RefusedThoughStored = "a request was refused, though its resource was stored",
        NotInExpectedState = "a resource was created on a state that the list was not in",
        WrongState = "an answer has the tag of a list that the statement did not see",
        PhantomReplay = "a resource was replayed that was lost long before",
        NotRestored = "a lost resource was created again with another id",
        AcknowledgedLost = "an acknowledged resource was lost although commits wait for a standby",
        FalseRecord = "Redis holds a completed record of a resource that is not stored",
        CompletionLost = "a completed record was replaced by a record in progress",
        Stuck = "after all faults, a retry did not succeed",
        WithoutRedis = "after all faults, a retry did without Redis",
        UnexpectedAnswer = "unexpected answer",
    }
}

/// An invariant that did not hold, and of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(Invariant, String);

impl Invariant {
    /// In a scope.
    pub fn of(self, scope: &KeyScope) -> Violation {
        let (key, customer) = (scope.key.as_str(), scope.customer.as_str());
        self.with(format!("{key} of {customer} in {}", scope.collection))
    }

    /// By a request or a response.
    pub fn with(self, what: impl fmt::Debug) -> Violation {
        Violation(self, format!("{what:?}"))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0, self.1)
    }
}

/// The meaning of a correct response for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client has its final response.
    Final,
    /// The final response to this request: the list is in another state, with which the client may try again.
    ListChanged(ListState),
    /// The client must repeat the request.
    Repeat,
}

/// When a request arrived, and what was known then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// By the number of changes to the rows.
    pub moment: Moment,
    /// By the clock.
    pub time: Duration,
    /// The database's histories that its instance knew last.
    pub heard: HistorySet,
}

/// A request that has its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What was requested.
    pub request: ClientRequest,
    /// The state of the list that its client knew.
    pub known: ListState,
    /// How the instance responds to retries.
    pub policy: ReplayPolicy,
    /// When it arrived.
    pub arrival: Arrival,
    /// Whether its instance has seen a statement fail since then, or not long before.
    pub outage: bool,
}

impl Asked {
    /// Why the response may be about a row that is lost, if it may be.
    fn excuse(&self, lost: &LostRow, replayed: bool) -> Option<Event> {
        if lost.at > self.arrival.moment {
            return Some(Event::LostMeanwhile);
        }
        let mut heard = self.arrival.heard.iter().map(|history| u64::from_be_bytes(*history.as_bytes()) / 2);
        let has_heard_of_it = !self.arrival.heard.is_empty() && heard.all(|heard| heard >= lost.history);
        if !replayed || has_heard_of_it {
            return None;
        }
        if lost.time + TRUSTED_FOR > self.arrival.time {
            return Some(Event::ReplayedWhileTrusted);
        }
        let is_believed = self.policy.outage == OutageReplay::FromRecord && self.outage;
        is_believed.then_some(Event::ReplayedInOutage)
    }
}

/// The observations of a run so far.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    /// The version of the stores that were checked last.
    version: Option<(Moment, u64)>,
    /// The responses about resources that are stored.
    acknowledged: BTreeMap<KeyScope, String>,
    /// The scopes of acknowledged resources that are lost and not yet created again.
    lost_acknowledged: BTreeSet<KeyScope>,
    created: BTreeMap<(KeyScope, ResourceId), usize>,
    /// States that an acknowledged resource is based on.
    based_on: Vec<(List, ListState, ResourceId)>,
    rows_seen: Vec<(KeyScope, StoredResource)>,
    /// How many of the lost rows were seen.
    lost_seen: usize,
    requested: BTreeMap<(Kind, u8), Value>,
}

impl Checker {
    /// Checks the stores.
    ///
    /// # Errors
    /// The invariant that they violate.
    pub fn world(&mut self, world: &World, coverage: &mut Coverage) -> Result<(), Violation> {
        if let Some(scope) = &world.completion_lost {
            return Err(Invariant::CompletionLost.of(scope));
        }
        if self.version.replace(world.version()) == Some(world.version()) {
            return Ok(());
        }
        self.forget_lost(world, coverage)?;
        let rows = world.tables.rows();
        for (index, row) in rows.iter().enumerate() {
            match self.rows_seen.get(index) {
                Some((scope, seen)) if *scope == row.scope && *seen == row.resource => continue,
                Some((scope, _)) => return Err(Invariant::RowChanged.of(scope)),
                None => {}
            }
            if self.rows_seen.iter().any(|(scope, _)| *scope == row.scope) {
                return Err(Invariant::TwoResources.of(&row.scope));
            }
            let list = List::from(&row.scope);
            let mut before = rows.iter().take(index);
            let is_second = |other: &Row| List::from(&other.scope) == list && other.based_on == row.based_on;
            if row.based_on.is_some() && before.any(is_second) {
                return Err(Invariant::TwoBasedOnOneState.of(&row.scope));
            }
            self.rows_seen.push((row.scope.clone(), row.resource.clone()));
        }
        if let Some((scope, _)) = self.rows_seen.get(rows.len()) {
            return Err(Invariant::RowChanged.of(scope));
        }
        for (scope, bytes) in world.records() {
            let Some(record) = Record::decode(bytes) else {
                continue;
            };
            let stored = world.tables.row_of(scope).map(|row| &row.resource);
            let is_true =
                stored.is_some_and(|stored| stored.id == record.id && stored.fingerprint == record.fingerprint);
            // A record of another history may tell of a row that was lost: it is not believed.
            if matches!(record.progress, Progress::Completed(history) if world.tables.history() == Some(history))
                && !is_true
            {
                return Err(Invariant::FalseRecord.of(scope));
            }
        }
        Ok(())
    }

    /// Forgets the observations about rows that a failover has lost.
    ///
    /// # Errors
    /// It must not have lost them.
    fn forget_lost(&mut self, world: &World, coverage: &mut Coverage) -> Result<(), Violation> {
        let lost = world.tables.lost().get(self.lost_seen..);
        let lost = lost.unwrap_or_default();
        self.lost_seen += lost.len();
        let kept = self.rows_seen.len().saturating_sub(lost.len());
        self.rows_seen.truncate(kept);
        for LostRow { row, synchronous, .. } in lost {
            if self.acknowledged.remove(&row.scope).is_some() {
                if *synchronous {
                    return Err(Invariant::AcknowledgedLost.of(&row.scope));
                }
                coverage.see(Event::Lost);
                self.lost_acknowledged.insert(row.scope.clone());
            }
            let list = List::from(&row.scope);
            let is_it = |(other, _, id): &(List, ListState, ResourceId)| *other == list && *id == row.resource.id;
            self.based_on.retain(|based_on| !is_it(based_on));
        }
        Ok(())
    }

    /// The id with which the next request has to create its resource again: that of a lost row, if Redis has its
    /// record, however old.
    pub fn to_be_restored(&self, request: &ClientRequest, world: &World) -> Option<ResourceId> {
        let scope = request.scope();
        if !request.has_key() || request.condition == Condition::Missing {
            return None;
        }
        if world.tables.row_of(&scope).is_some() {
            return None;
        }
        let record = Record::decode(world.record(&scope)?)?;
        let is_it = |lost: &&LostRow| {
            lost.row.scope == scope
                && lost.row.resource.id == record.id
                && lost.row.resource.fingerprint == record.fingerprint
        };
        let lost = world.tables.lost().iter().find(is_it)?;
        let document = Document::of(&request.kind.document(&request.body())?);
        (lost.row.resource.document == document).then_some(record.id)
    }

    /// Checks a response.
    ///
    /// # Errors
    /// The invariant that it violates.
    pub fn answer(
        &mut self,
        asked: &Asked,
        response: &Response,
        world: &World,
        coverage: &mut Coverage,
    ) -> Result<Verdict, Violation> {
        self.forget_lost(world, coverage)?;
        let request = &asked.request;
        let scope = request.scope();
        let unexpected = || Invariant::UnexpectedAnswer.with(response);
        let if_it_is = |problem: Problem, verdict: Verdict| match is_problem(request, response, problem) {
            true => Ok(verdict),
            false => Err(unexpected()),
        };
        match (response.status.as_u16(), request.condition) {
            (201, _) => {
                self.acknowledgement(asked, response, world, coverage)?;
                Ok(Verdict::Final)
            }
            (409, Condition::Unchanged | Condition::Keyless) => {
                let remaining = REMAINING_LEASE;
                if_it_is(Problem::CollectionLocked { remaining }, Verdict::Repeat)
            }
            (412, Condition::Unchanged | Condition::Keyless) => {
                let current = state_of(response).ok_or_else(unexpected)?;
                let verdict = if_it_is(Problem::PreconditionFailed { current }, Verdict::ListChanged(current))?;
                stale(asked, &current, world, coverage).map(|()| verdict)
            }
            (422, _) if request.has_key() && asked.policy.key_reuse == KeyReuse::Reject => {
                let requested = self.requested(request);
                let is_right = seen_rows(asked, world, &scope).any(|row| {
                    let differs = differences(&row.resource.document.value(), requested);
                    let id = row.resource.id;
                    !differs.is_empty() && is_problem(request, response, Problem::KeyReused { id, differs })
                });
                match is_right && request.condition != Condition::Missing {
                    true => Ok(Verdict::Final),
                    false => Err(Invariant::WronglyRefused.of(&scope)),
                }
            }
            (428, Condition::Missing) => {
                let verdict = if_it_is(Problem::PreconditionRequired, Verdict::Final)?;
                let replays_all = asked.policy.key_reuse == KeyReuse::Replay;
                let requested = Document::of(self.requested(request));
                let was_stored = world.tables.row_of(&scope).is_some_and(|row| {
                    row.committed <= asked.arrival.moment && (replays_all || row.resource.document == requested)
                });
                match was_stored {
                    true => Err(Invariant::RefusedThoughStored.of(&scope)),
                    false => Ok(verdict),
                }
            }
            (503, _) => {
                let problem = match request.has_key() {
                    true => Problem::CreationUndecided,
                    false => Problem::UndecidedWithoutKey,
                };
                if_it_is(problem, Verdict::Repeat)
            }
            _ => Err(unexpected()),
        }
    }

    /// Checks a 201.
    fn acknowledgement(
        &mut self,
        asked: &Asked,
        response: &Response,
        world: &World,
        coverage: &mut Coverage,
    ) -> Result<(), Violation> {
        let request = &asked.request;
        let replayed = field(response, "idempotent-replayed").is_some();
        let unexpected = || Invariant::UnexpectedAnswer.with(response);
        let id = id_of(request, response).ok_or_else(unexpected)?;
        if !replayed && request.condition == Condition::Missing {
            return Err(unexpected());
        }
        let list = List::from(&request.scope());
        let is_it = |row: &Row| {
            let has_scope = !request.has_key() || row.scope == request.scope();
            row.resource.id == id && List::from(&row.scope) == list && has_scope
        };
        let stored = world.tables.rows().iter().find(|row| is_it(row));
        let lost: Vec<&LostRow> = {
            let lost = world.tables.lost().iter();
            lost.filter(|lost| is_it(&lost.row)).collect()
        };
        let Some(row) = stored.or(lost.last().map(|lost| &lost.row)) else {
            return Err(Invariant::NotAsAcknowledged.of(&request.scope()));
        };
        let scope = row.scope.clone();
        // Stored as acknowledged, and as requested. It stays so: rows are seen not to change.
        if !self.is_answer(asked, &row.resource, response) {
            return Err(Invariant::NotAsAcknowledged.of(&scope));
        }
        let has_condition = request.expects_state() || request.condition == Condition::Any;
        let created_on_condition = has_condition && !replayed;
        if created_on_condition {
            let state = state_of(response).ok_or_else(unexpected)?;
            created_on_state(asked, id, &state, world)?;
        }
        if stored.is_none() {
            let excuses = lost.iter().map(|lost| asked.excuse(lost, replayed));
            let Some(excuse) = excuses.flatten().next() else {
                return Err(Invariant::PhantomReplay.of(&scope));
            };
            coverage.see(excuse);
        } else {
            let acknowledged = self.acknowledged.entry(scope.clone());
            if *acknowledged.or_insert_with(|| response.body.clone()) != response.body {
                return Err(Invariant::Disagreement.of(&scope));
            }
            if self.lost_acknowledged.remove(&scope) {
                coverage.see(Event::CreatedAgain);
            }
        }
        if replayed {
            return Ok(());
        }
        let created = self.created.entry((scope.clone(), id)).or_default();
        *created += 1;
        if *created > usize::from(stored.is_some()) + lost.len() {
            return Err(Invariant::CreatedTwice.of(&scope));
        }
        // A lost resource that another request created again with its id is based on what that request asked for.
        let is_its_own = |row: &Row| lost.is_empty() || row.based_on == Some(asked.known);
        if created_on_condition && request.expects_state() && stored.is_some_and(is_its_own) {
            // A lost resource that was created again with its id may be acknowledged twice.
            let is_second = |(other, state, other_id): &(List, ListState, ResourceId)| {
                *other == list && *state == asked.known && *other_id != id
            };
            if self.based_on.iter().any(is_second) {
                return Err(Invariant::TwoBasedOnOneState.of(&scope));
            }
            self.based_on.push((list, asked.known, id));
        }
        Ok(())
    }

    /// Whether the response is about this resource: the requested one or, where that is configured, the one of the key.
    fn is_answer(&mut self, asked: &Asked, stored: &StoredResource, response: &Response) -> bool {
        let request = &asked.request;
        let replayed = field(response, "idempotent-replayed").is_some();
        let replays_all = replayed && asked.policy.key_reuse == KeyReuse::Replay;
        let resource = request.kind.resource();
        let requested = self.requested(request);
        let creation = match stored.document == Document::of(requested) {
            true if replayed => Creation::Replayed(stored.id),
            true => Creation::Created(stored.id),
            false if replays_all => Creation::Reused(stored.clone()),
            false => return false,
        };
        let Ok(mut expected) = created(resource, &creation, requested) else {
            return false;
        };
        if !replayed && let Some(state) = field(response, "etag") {
            expected = expected.with("etag", state).with("cache-control", "no-transform");
        }
        *response == of_customer(expected)
    }

    /// The resource that a client requests.
    fn requested(&mut self, request: &ClientRequest) -> &Value {
        let which = (request.kind, request.document);
        self.requested.entry(which).or_insert_with(|| {
            let document = request.kind.document(&request.body());
            #[allow(clippy::expect_used, reason = "the bodies of all requests are valid")]
            document.expect("a valid document")
        })
    }
}

/// The rows of a scope that a statement of the request can have seen.
fn seen_rows<'w>(asked: &Asked, world: &'w World, scope: &KeyScope) -> impl Iterator<Item = &'w Row> {
    let since = asked.arrival.moment;
    let lost = world.tables.lost().iter();
    let lost = lost.filter(move |lost| lost.at > since).map(|lost| &lost.row);
    let rows = lost.chain(world.tables.row_of(scope));
    rows.filter(|row| row.scope == *scope)
}

/// Checks a creation on a condition: the list was in an expected state at some moment since the request arrived, and
/// the response has the tag of that state with the new resource. Resources without a condition that were committed
/// meanwhile are in neither.
fn created_on_state(asked: &Asked, id: ResourceId, after: &ListState, world: &World) -> Result<(), Violation> {
    let scope = asked.request.scope();
    let list = List::from(&scope);
    let mut states = world.tables.states_since(&list, asked.arrival.moment);
    if asked.request.expects_state() && !states.any(|change| change.state == asked.known) {
        return Err(Invariant::NotInExpectedState.of(&scope));
    }
    let is_after = |before: &ListState| with(before, id) == *after;
    let is_right = match asked.request.expects_state() {
        true => is_after(&asked.known),
        false => states.any(|change| is_after(&change.state)),
    };
    is_right.then_some(()).ok_or_else(|| Invariant::WrongState.of(&scope))
}

/// Checks a rejection because of the list's state: the list was in that state at some moment since the request arrived,
/// and it had no resource of the request's key then. An earlier attempt of the request may have created it since.
fn stale(asked: &Asked, current: &ListState, world: &World, coverage: &mut Coverage) -> Result<(), Violation> {
    let scope = asked.request.scope();
    let list = List::from(&scope);
    let states = world.tables.states_since(&list, asked.arrival.moment);
    let of_current: Vec<StateChange> = states.filter(|change| change.state == *current).collect();
    if *current == asked.known || of_current.is_empty() {
        return Err(Invariant::WronglyStale.of(&scope));
    }
    if !asked.request.has_key() {
        return Ok(());
    }
    let tables = &world.tables;
    let was_stored = |at: Moment| {
        let stored = tables.row_of(&scope);
        let mut lost = tables.lost().iter();
        stored.is_some_and(|row| row.committed <= at)
            || lost.any(|lost| lost.row.scope == scope && lost.row.committed <= at && at < lost.at)
    };
    if of_current.iter().all(|change| was_stored(change.at)) {
        return Err(Invariant::RefusedThoughStored.of(&scope));
    }
    if tables.row_of(&scope).is_some() {
        coverage.see(Event::RefusedButLanded);
    }
    Ok(())
}

/// Whether the response is the problem, in all its headers and its whole body.
fn is_problem(request: &ClientRequest, response: &Response, problem: Problem) -> bool {
    of_customer(problem.into_response_of(request.kind.resource())) == *response
}

/// A response as customers get it; it depends on the customer's identity.
fn of_customer(answer: Response) -> Response {
    answer.with("vary", CUSTOMER)
}

/// The first value of a header.
fn field<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    let mut fields = response.headers.iter();
    let (_, value) = fields.find(|(other, _)| *other == name)?;
    Some(value)
}

/// The state of the list in the response's entity tag.
fn state_of(response: &Response) -> Option<ListState> {
    let tag = field(response, "etag")?;
    ListState::parse(tag.strip_prefix('"')?.strip_suffix('"')?)
}

/// The id in the response's location.
fn id_of(request: &ClientRequest, response: &Response) -> Option<ResourceId> {
    let path = request.kind.collection().path;
    let location = field(response, "location")?;
    ResourceId::parse(location.strip_prefix(path)?.strip_prefix('/')?)
}
