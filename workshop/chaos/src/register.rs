//! The model of one key: a register that is written once, with the id of its order. porcupine searches for an order of
//! the steps in which each is possible.

use std::time::Duration;

use porcupine_rs::{CheckResult, Model, Operation, check_operations_timeout};

use crate::verdict::Violation;

/// The longest time for one key or list.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// A key: empty, or with an order's id.
#[derive(Clone, Debug)]
pub struct Register;

/// What a client has seen of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// 201, not marked as a replay: it has created this order.
    Created(String),
    /// 201, marked as a replay; its first try may have created the order.
    Replayed(String),
    /// No response, or 503: it may have created this order.
    Unknown(String),
    /// The key has this order, or none.
    Has(Option<String>),
    /// The key has another order, or none.
    Lacks(String),
    /// A failover has lost all orders but these.
    Failover(Vec<String>),
}

impl Model for Register {
    type State = Option<String>;
    type Op = Step;
    /// What it would be if this step alone were wrong.
    type Metadata = Violation;

    fn init() -> Self::State {
        None
    }

    fn step(state: &Self::State, step: &Step) -> (bool, Self::State) {
        match step {
            Step::Created(id) => (state.is_none(), Some(id.clone())),
            Step::Replayed(id) => (state.as_ref().is_none_or(|stored| stored == id), Some(id.clone())),
            Step::Unknown(id) => (true, state.clone().or_else(|| Some(id.clone()))),
            Step::Has(stored) => (state == stored, state.clone()),
            Step::Lacks(id) => (state.as_ref() != Some(id), state.clone()),
            Step::Failover(survivors) => (true, state.clone().filter(|id| survivors.contains(id))),
        }
    }
}

/// A step, from when until when, and what it would be if it alone were wrong.
pub fn operation<M: Model<Metadata = Violation>>(from_ms: u64, to_ms: u64, op: M::Op, kind: Violation) -> Operation<M> {
    let time = |ms| i64::try_from(ms).unwrap_or(i64::MAX / 4).min(i64::MAX / 4) * 2;
    // What begins and ends in one millisecond overlaps.
    let (call_time, return_time) = (time(from_ms), time(to_ms) + 1);
    Operation { client_id: None, call_time, return_time, op, metadata: Some(kind) }
}

/// What is wrong if no order of the steps is possible.
pub fn violation<M: Model<Metadata = Violation>>(operations: &[Operation<M>]) -> Option<Violation> {
    let is_explained = |operations: &[_]| check_operations_timeout(operations, TIME_LIMIT) == CheckResult::Ok;
    if is_explained(operations) {
        return None;
    }
    let is_alone = |kind: &Violation| {
        let others = operations.iter().filter(|operation| operation.metadata != Some(*kind));
        is_explained(&others.cloned().collect::<Vec<_>>())
    };
    let kinds = [Violation::Phantom, Violation::Lost, Violation::Disagreeing];
    Some(kinds.into_iter().find(is_alone).unwrap_or(Violation::Duplicate))
}
