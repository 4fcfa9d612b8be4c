//! What must hold after every step.

use std::collections::BTreeMap;
use std::fmt;

use orders::customer::Customer;
use orders::http::{Problem, Response};
use orders::idempotency::{Progress, Record, KeyScope};
use orders::order::{Draft, representation};
use orders::ports::StoredResource;
use orders::reading::ListState;

use crate::scenario::{Condition, Outcome, ClientRequest};
use crate::world::{Row, World};

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A key has more than one order.
    TwoOrders(KeyScope),
    /// A row changed.
    RowChanged(KeyScope),
    /// An order was acknowledged that is not stored, or not so.
    NotAsAcknowledged(KeyScope),
    /// Two acknowledgements of one key differ.
    Disagreement(KeyScope),
    /// A request was refused although the stored order does not differ, or not as it was told.
    WronglyRefused(KeyScope),
    /// More than one request was told that it created the order.
    CreatedTwice(KeyScope),
    /// Two orders were created on one state of the list.
    TwoBasedOnOneState(KeyScope),
    /// A request was refused for a state that the list is in.
    WronglyStale(KeyScope),
    /// Redis holds a finished record of an order that does not exist.
    FalseRecord(KeyScope),
    /// A call has taken a finished record back.
    Unfinished(KeyScope),
    /// With all faults over, a retry did not succeed at once.
    Stuck(ClientRequest),
    /// An answer that this API does not give.
    UnexpectedAnswer(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, scope) = match self {
            Self::TwoOrders(scope) => ("a key has more than one order", scope),
            Self::RowChanged(scope) => ("a stored order changed", scope),
            Self::NotAsAcknowledged(scope) => {
                ("an acknowledged order is not stored as acknowledged", scope)
            }
            Self::Disagreement(scope) => ("acknowledgements of one key differ", scope),
            Self::WronglyRefused(scope) => {
                ("refused, though the stored order does not differ", scope)
            }
            Self::CreatedTwice(scope) => ("two requests were told that they created it", scope),
            Self::TwoBasedOnOneState(scope) => ("two orders were created on one state of a list", scope),
            Self::WronglyStale(scope) => ("refused, though the list has not moved on", scope),
            Self::FalseRecord(scope) => ("Redis calls an order finished that is not stored", scope),
            Self::Unfinished(scope) => ("a call took a finished record back", scope),
            Self::Stuck(request) => return write!(f, "no success at once after all faults: {request:?}"),
            Self::UnexpectedAnswer(answer) => return write!(f, "unexpected answer: {answer}"),
        };
        write!(
            f,
            "{what}: {} of {}",
            scope.key.as_str(),
            scope.customer.as_str()
        )
    }
}

/// What was seen of a run so far.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    acknowledged: BTreeMap<KeyScope, String>,
    created: BTreeMap<KeyScope, u32>,
    /// States that an order was said to be created on.
    followed: Vec<(Customer, ListState)>,
    rows_seen: Vec<(KeyScope, StoredResource)>,
    drafts: BTreeMap<u8, Draft>,
}

impl Checker {
    /// Judges the stores.
    pub fn world(&mut self, world: &World) -> Result<(), Violation> {
        if let Some(scope) = &world.unfinished {
            return Err(Violation::Unfinished(scope.clone()));
        }
        let rows = world.rows();
        for (index, row) in rows.iter().enumerate() {
            match self.rows_seen.get(index) {
                Some((scope, order)) if *scope == row.scope && *order == row.order => continue,
                Some((scope, _)) => return Err(Violation::RowChanged(scope.clone())),
                None => {}
            }
            if self.rows_seen.iter().any(|(scope, _)| *scope == row.scope) {
                return Err(Violation::TwoOrders(row.scope.clone()));
            }
            let mut before = rows.iter().take(index);
            let is_second = |other: &Row| {
                other.scope.customer == row.scope.customer && other.based_on == row.based_on
            };
            if row.based_on.is_some() && before.any(is_second) {
                return Err(Violation::TwoBasedOnOneState(row.scope.clone()));
            }
            self.rows_seen.push((row.scope.clone(), row.order.clone()));
        }
        if let Some((scope, _)) = self.rows_seen.get(rows.len()) {
            return Err(Violation::RowChanged(scope.clone()));
        }
        for (scope, bytes) in world.records() {
            let Some(record) = Record::decode(bytes) else {
                continue;
            };
            let stored = world.order_of(scope);
            let is_true = stored.is_some_and(|order| {
                order.order_id == record.order_id && order.fingerprint == record.fingerprint
            });
            if record.progress == Progress::Completed && !is_true {
                return Err(Violation::FalseRecord(scope.clone()));
            }
        }
        Ok(())
    }

    /// Judges an answer. `Ok(true)`: it settled the matter for the client.
    pub fn answer(
        &mut self,
        request: &ClientRequest,
        known: &ListState,
        outcome: &Outcome,
        world: &World,
    ) -> Result<bool, Violation> {
        let scope = request.scope();
        match outcome {
            Ok(response) if response.status == 201 => {
                let scope = match request.condition {
                    Condition::Keyless => slot_of(&response.body, world).unwrap_or(scope),
                    _ => scope,
                };
                self.acknowledgement(request, known, scope, response, world)?;
                Ok(true)
            }
            Err(Problem::PreconditionFailed { current }) if request.condition != Condition::None => {
                let now = world.list_state(&scope.customer);
                if current == known || now == *known {
                    return Err(Violation::WronglyStale(scope));
                }
                Ok(true)
            }
            Err(Problem::CollectionLocked { .. }) if request.condition != Condition::None => Ok(false),
            Err(Problem::DatabaseUnavailable) if request.condition == Condition::Keyless => Ok(false),
            Err(Problem::KeyReused { order_id, differs }) => {
                let asked = self.draft(request);
                let told = world.order_of(&scope).is_some_and(|stored| {
                    let really = stored.draft.differences(asked);
                    stored.order_id == *order_id && !really.is_empty() && really == *differs
                });
                if told {
                    Ok(true)
                } else {
                    Err(Violation::WronglyRefused(scope))
                }
            }
            Err(Problem::CreationUndecided) => Ok(false),
            other => Err(Violation::UnexpectedAnswer(format!("{other:?}"))),
        }
    }

    /// Judges a 201 for a scope.
    fn acknowledgement(
        &mut self,
        request: &ClientRequest,
        known: &ListState,
        scope: KeyScope,
        response: &Response,
        world: &World,
    ) -> Result<(), Violation> {
        let acknowledged = self.acknowledged.entry(scope.clone());
        if *acknowledged.or_insert_with(|| response.body.clone()) != response.body {
            return Err(Violation::Disagreement(scope));
        }
        // Stored as acknowledged, and what was asked for. It stays so: rows are seen not to change.
        let asked = self.draft(request);
        let stored = world.order_of(&scope).is_some_and(|order| {
            order.draft == *asked && representation(&order.order_id, &order.draft) == response.body
        });
        if !stored {
            return Err(Violation::NotAsAcknowledged(scope));
        }
        let replayed = ("idempotent-replayed", "true".to_owned());
        if response.headers.contains(&replayed) {
            return Ok(());
        }
        let created = self.created.entry(scope.clone()).or_default();
        *created += 1;
        if *created > 1 {
            return Err(Violation::CreatedTwice(scope));
        }
        if request.condition != Condition::None {
            let followed = (scope.customer.clone(), *known);
            if self.followed.contains(&followed) {
                return Err(Violation::TwoBasedOnOneState(scope));
            }
            self.followed.push(followed);
        }
        Ok(())
    }

    /// The order that a request asks for.
    fn draft(&mut self, request: &ClientRequest) -> &Draft {
        self.drafts.entry(request.order).or_insert_with(|| {
            #[allow(clippy::expect_used, reason = "requests are valid orders")]
            orders::json::parse(request.body().as_bytes())
                .ok()
                .and_then(|json| Draft::from_json(&json).ok())
                .expect("a valid order")
        })
    }
}

/// The scope that the order of an answer has in the stores.
fn slot_of(body: &str, world: &World) -> Option<KeyScope> {
    let is_it = |row: &&Row| representation(&row.order.order_id, &row.order.draft) == body;
    Some(world.rows().iter().find(is_it)?.scope.clone())
}
