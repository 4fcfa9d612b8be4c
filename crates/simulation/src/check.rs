//! What must hold after every step.

use std::collections::BTreeMap;
use std::fmt;

use http_api::{Problem, Response};
use protocol::ports::{List, StoredResource};
use protocol::{KeyScope, ListState, Progress, Record, ResourceId};

use crate::client_request::{ClientRequest, Condition};
use crate::host::CUSTOMER;
use crate::kind::{AnyResource, Kind};
use crate::world::{REMAINING_LEASE, Row, World};

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A key has more than one resource.
    TwoResources(KeyScope),
    /// A row changed.
    RowChanged(KeyScope),
    /// An acknowledged resource is not stored as acknowledged.
    NotAsAcknowledged(KeyScope),
    /// Two acknowledgements of one key differ.
    Disagreement(KeyScope),
    /// A request was refused although the stored document does not differ, or with wrong differences.
    WronglyRefused(KeyScope),
    /// More than one request was told that it created the resource.
    CreatedTwice(KeyScope),
    /// Two resources were created, based on one state of a list.
    TwoBasedOnOneState(KeyScope),
    /// A request was refused although the list is in the state that it expects.
    WronglyStale(KeyScope),
    /// Redis holds a completed record of a resource that does not exist.
    FalseRecord(KeyScope),
    /// A call has replaced a completed record by a record in progress.
    CompletionLost(KeyScope),
    /// After all faults, a retry did not succeed at once.
    Stuck(ClientRequest),
    /// An answer that this API does not give to this request.
    UnexpectedAnswer(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, scope) = match self {
            Self::TwoResources(scope) => ("a key has more than one resource", scope),
            Self::RowChanged(scope) => ("a stored resource changed", scope),
            Self::NotAsAcknowledged(scope) => (
                "an acknowledged resource is not stored as acknowledged",
                scope,
            ),
            Self::Disagreement(scope) => ("acknowledgements of one key differ", scope),
            Self::WronglyRefused(scope) => (
                "a request was refused, though the stored document does not differ",
                scope,
            ),
            Self::CreatedTwice(scope) => {
                ("two requests were told that they created a resource", scope)
            }
            Self::TwoBasedOnOneState(scope) => {
                ("two resources are based on one state of a list", scope)
            }
            Self::WronglyStale(scope) => (
                "a request was refused, though the list has not changed",
                scope,
            ),
            Self::FalseRecord(scope) => (
                "Redis holds a completed record of a resource that is not stored",
                scope,
            ),
            Self::CompletionLost(scope) => (
                "a completed record was replaced by a record in progress",
                scope,
            ),
            Self::Stuck(request) => {
                return write!(
                    f,
                    "after all faults, the retry of {request:?} did not succeed"
                );
            }
            Self::UnexpectedAnswer(answer) => return write!(f, "unexpected answer: {answer}"),
        };
        write!(
            f,
            "{what}: {} of {} in {}",
            scope.key.as_str(),
            scope.customer.as_str(),
            scope.collection
        )
    }
}

/// What a correct answer means for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client has its final answer.
    Final,
    /// The final answer to this request: the list is in another state, with which the client may try again.
    ListChanged(ListState),
    /// The client must repeat the request.
    Repeat,
}

/// What was seen of a run so far.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    acknowledged: BTreeMap<KeyScope, String>,
    created: BTreeMap<KeyScope, u32>,
    /// States that an acknowledged resource is based on.
    based_on: Vec<(List, ListState)>,
    rows_seen: Vec<(KeyScope, StoredResource)>,
    requested: BTreeMap<(Kind, u8), AnyResource>,
}

impl Checker {
    /// Checks the stores.
    ///
    /// # Errors
    /// The invariant that they violate.
    pub fn world(&mut self, world: &World) -> Result<(), Violation> {
        if let Some(scope) = &world.completion_lost {
            return Err(Violation::CompletionLost(scope.clone()));
        }
        let rows = world.rows();
        for (index, row) in rows.iter().enumerate() {
            match self.rows_seen.get(index) {
                Some((scope, seen)) if *scope == row.scope && *seen == row.resource => continue,
                Some((scope, _)) => return Err(Violation::RowChanged(scope.clone())),
                None => {}
            }
            if self.rows_seen.iter().any(|(scope, _)| *scope == row.scope) {
                return Err(Violation::TwoResources(row.scope.clone()));
            }
            let list = List::from(&row.scope);
            let mut before = rows.iter().take(index);
            let is_second =
                |other: &Row| List::from(&other.scope) == list && other.based_on == row.based_on;
            if row.based_on.is_some() && before.any(is_second) {
                return Err(Violation::TwoBasedOnOneState(row.scope.clone()));
            }
            self.rows_seen
                .push((row.scope.clone(), row.resource.clone()));
        }
        if let Some((scope, _)) = self.rows_seen.get(rows.len()) {
            return Err(Violation::RowChanged(scope.clone()));
        }
        for (scope, bytes) in world.records() {
            let Some(record) = Record::decode(bytes) else {
                continue;
            };
            let stored = world.resource_of(scope);
            let is_true = stored.is_some_and(|stored| {
                stored.id == record.id && stored.fingerprint == record.fingerprint
            });
            // A record of another history may tell of a row that was lost: it is not believed.
            if record.progress == Progress::Completed(Some(world.history())) && !is_true {
                return Err(Violation::FalseRecord(scope.clone()));
            }
        }
        Ok(())
    }

    /// Checks an answer to a request of a client that knew this state of its list.
    ///
    /// # Errors
    /// The invariant that it violates.
    pub fn answer(
        &mut self,
        request: &ClientRequest,
        known: &ListState,
        response: &Response,
        world: &World,
    ) -> Result<Verdict, Violation> {
        let scope = request.scope();
        let unexpected = || Err(Violation::UnexpectedAnswer(format!("{response:?}")));
        match (response.status.as_u16(), request.condition) {
            (201, _) => {
                self.acknowledgement(request, known, response, world)?;
                Ok(Verdict::Final)
            }
            (409, Condition::Unchanged | Condition::Keyless) => {
                let remaining = REMAINING_LEASE;
                match is_problem(request, response, Problem::CollectionLocked { remaining }) {
                    true => Ok(Verdict::Repeat),
                    false => unexpected(),
                }
            }
            (412, Condition::Unchanged | Condition::Keyless) => {
                let Some(current) = state_of(response) else {
                    return unexpected();
                };
                if !is_problem(request, response, Problem::PreconditionFailed { current }) {
                    return unexpected();
                }
                if current == *known || world.list_state(&List::from(&scope)) == *known {
                    return Err(Violation::WronglyStale(scope));
                }
                Ok(Verdict::ListChanged(current))
            }
            (422, Condition::None | Condition::Unchanged) => {
                let requested = self.requested(request);
                let is_right = world.resource_of(&scope).is_some_and(|stored| {
                    let (id, differs) = (stored.id, requested.differences(&stored.document));
                    !differs.is_empty()
                        && is_problem(request, response, Problem::KeyReused { id, differs })
                });
                match is_right {
                    true => Ok(Verdict::Final),
                    false => Err(Violation::WronglyRefused(scope)),
                }
            }
            (503, condition) => {
                let problem = match condition {
                    Condition::None | Condition::Unchanged => Problem::CreationUndecided,
                    Condition::Keyless => Problem::UndecidedWithoutKey,
                };
                match is_problem(request, response, problem) {
                    true => Ok(Verdict::Repeat),
                    false => unexpected(),
                }
            }
            _ => unexpected(),
        }
    }

    /// Checks a 201.
    fn acknowledgement(
        &mut self,
        request: &ClientRequest,
        known: &ListState,
        response: &Response,
        world: &World,
    ) -> Result<(), Violation> {
        let scope = match request.condition {
            Condition::Keyless => scope_of(request, response, world),
            Condition::None | Condition::Unchanged => None,
        };
        let scope = scope.unwrap_or_else(|| request.scope());
        let acknowledged = self.acknowledged.entry(scope.clone());
        if *acknowledged.or_insert_with(|| response.body.clone()) != response.body {
            return Err(Violation::Disagreement(scope));
        }
        let replayed = field(response, "idempotent-replayed").is_some();
        let created_on_condition = !replayed && request.condition != Condition::None;
        // Stored as acknowledged, and as requested. It stays so: rows are seen not to change.
        let requested = self.requested(request);
        let is_stored = world.resource_of(&scope).is_some_and(|stored| {
            let mut expected = requested.answer(stored.id, replayed);
            if created_on_condition && let Some(state) = field(response, "etag") {
                expected = expected.with("etag", state);
            }
            stored.document == requested.document() && *response == of_customer(expected)
        });
        if !is_stored {
            return Err(Violation::NotAsAcknowledged(scope));
        }
        if created_on_condition && state_of(response).is_none() {
            return Err(Violation::UnexpectedAnswer(format!("{response:?}")));
        }
        if replayed {
            return Ok(());
        }
        let created = self.created.entry(scope.clone()).or_default();
        *created += 1;
        if *created > 1 {
            return Err(Violation::CreatedTwice(scope));
        }
        if created_on_condition {
            let based_on = (List::from(&scope), *known);
            if self.based_on.contains(&based_on) {
                return Err(Violation::TwoBasedOnOneState(scope));
            }
            self.based_on.push(based_on);
        }
        Ok(())
    }

    /// The resource that a client requests.
    fn requested(&mut self, request: &ClientRequest) -> &AnyResource {
        let which = (request.kind, request.document);
        self.requested.entry(which).or_insert_with(|| {
            let resource = request.kind.resource(&request.body());
            #[allow(clippy::expect_used, reason = "the bodies of all requests are valid")]
            resource.expect("a valid resource")
        })
    }
}

/// Whether the answer is the problem, in all its fields and its whole body.
fn is_problem(request: &ClientRequest, response: &Response, problem: Problem) -> bool {
    of_customer(problem.into_response(request.kind.collection())) == *response
}

/// An answer as customers get it: it depends on who they are.
fn of_customer(answer: Response) -> Response {
    answer.with("vary", CUSTOMER)
}

/// The first value of a field.
fn field<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    let mut fields = response.headers.iter();
    let (_, value) = fields.find(|(other, _)| *other == name)?;
    Some(value)
}

/// The state of the list in the answer's entity tag.
fn state_of(response: &Response) -> Option<ListState> {
    let tag = field(response, "etag")?;
    ListState::parse(tag.strip_prefix('"')?.strip_suffix('"')?)
}

/// The scope of the stored resource at the answer's location.
fn scope_of(request: &ClientRequest, response: &Response, world: &World) -> Option<KeyScope> {
    let path = request.kind.collection().path;
    let location = field(response, "location")?;
    let id = ResourceId::parse(location.strip_prefix(path)?.strip_prefix('/')?)?;
    let row = world.row(&List::from(&request.scope()), id)?;
    Some(row.scope.clone())
}
