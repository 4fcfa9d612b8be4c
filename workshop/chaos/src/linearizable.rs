//! A second judge, whose search is somebody else's (porcupine-rs): for each customer's key, the history of creations
//! and readings must be that of one register that is written once. Only for runs without a failover that loses orders.

use std::collections::BTreeMap;
use std::time::Duration;

use porcupine_rs::{CheckResult, Model, Operation, check_operations_timeout};

use crate::checker::Row;
use crate::history::{Event, What};
use crate::order::Order;

/// The longest time for one key.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// A key: empty, or with the order that is named by the body of its acknowledgement.
#[derive(Clone, Debug)]
struct Register;

/// What a request has done, as far as its client knows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// 201 that is not marked as a replay.
    Created(String),
    /// 201, which may be marked although the request has created the order.
    Acknowledged(String),
    /// 422: the key has another order.
    Reused,
    /// 409, 412 or 404: the key has no order.
    Absent,
    /// 200
    Present,
    /// No answer, or 503: it may create the order that is acknowledged like this, now, later or never.
    Unknown(String),
}

/// A request or a reading, from when until when, and the order that is requested. `None`: it may have done anything.
struct Attempt {
    from: i64,
    to: i64,
    order: Order,
    step: Option<Step>,
}

impl Model for Register {
    type State = Option<String>;
    type Op = Step;
    type Metadata = ();

    fn init() -> Self::State {
        None
    }

    fn step(state: &Self::State, step: &Step) -> (bool, Self::State) {
        match (step, state) {
            (Step::Created(body) | Step::Acknowledged(body) | Step::Unknown(body), None) => (true, Some(body.clone())),
            (Step::Acknowledged(body), Some(stored)) => (body == stored, state.clone()),
            (Step::Created(_), Some(_)) | (Step::Reused | Step::Present, None) => (false, None),
            (Step::Unknown(_) | Step::Reused | Step::Present, Some(_)) => (true, state.clone()),
            (Step::Absent, _) => (state.is_none(), state.clone()),
        }
    }
}

/// The keys that were judged, and those whose history no order of its steps explains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Linearizability {
    /// How many keys.
    pub keys: usize,
    /// The keys with a violation, or without a result in time.
    pub violated: Vec<String>,
}

/// Judges a history and the table after it.
///
/// # Errors
/// The first error of `events`.
pub fn judge<E>(events: impl IntoIterator<Item = Result<Event, E>>, rows: &[Row]) -> Result<Linearizability, E> {
    let mut sent: BTreeMap<u64, (i64, Order)> = BTreeMap::new();
    let mut read_from = BTreeMap::new();
    let mut attempts: BTreeMap<String, Vec<Attempt>> = BTreeMap::new();
    let mut add = |key, from, to, order, step| {
        let attempt = Attempt { from, to, order, step };
        attempts.entry(key).or_default().push(attempt);
    };
    for event in events {
        let Event { t_ms, what } = event?;
        // What begins and ends in one millisecond overlaps.
        let now = i64::try_from(t_ms).unwrap_or(i64::MAX / 4) * 2;
        match what {
            What::Request { request, order, .. } => drop(sent.insert(request, (now, order))),
            What::Answer { request, key, status, replayed, body, .. } => {
                let Some((from, order)) = sent.remove(&request) else {
                    continue;
                };
                let step = match status {
                    201 if replayed => Some(Step::Acknowledged(body)),
                    201 => Some(Step::Created(body)),
                    422 => Some(Step::Reused),
                    409 | 412 => Some(Step::Absent),
                    _ => None,
                };
                read_from.insert(request, (now, order.clone()));
                add(key, from, now + 1, order, step);
            }
            What::NoAnswer { request, key, .. } => {
                if let Some((from, order)) = sent.remove(&request) {
                    add(key, from, now, order, None);
                }
            }
            What::Read { request, key, found, .. } => {
                if let Some((from, order)) = read_from.remove(&request) {
                    let step = if found { Step::Present } else { Step::Absent };
                    add(key, from, now + 1, order, Some(step));
                }
            }
            _ => {}
        }
    }
    let mut judged = Linearizability::default();
    for (key, attempts) in attempts {
        judged.keys += 1;
        let stored = rows.iter().find(|row| row.key == key);
        if check_operations_timeout(&operations(&attempts, stored), TIME_LIMIT) != CheckResult::Ok {
            judged.violated.push(key);
        }
    }
    Ok(judged)
}

fn operations(attempts: &[Attempt], stored: Option<&Row>) -> Vec<Operation<Register>> {
    let acknowledged = |order: &Order| {
        let mut same = attempts.iter().filter(|attempt| attempt.order == *order);
        let body = same.find_map(|attempt| match &attempt.step {
            Some(Step::Created(body) | Step::Acknowledged(body)) => Some(body.clone()),
            _ => None,
        });
        body.or_else(|| stored.filter(|row| row.order == *order).map(|row| row.order_id.clone()))
    };
    let operation = |from, to, op| Operation { client_id: None, call_time: from, return_time: to, op, metadata: None };
    let known = attempts.iter().filter_map(|attempt| {
        let step = attempt.step.clone()?;
        Some(operation(attempt.from, attempt.to, step))
    });
    // An order that nobody has seen was not created, or did not matter. Of all that may have created one order, the
    // first stands for the others: each more would double the search.
    let unknown = attempts.iter().filter(|attempt| attempt.step.is_none());
    let mut first = BTreeMap::new();
    for (body, from) in unknown.filter_map(|attempt| Some((acknowledged(&attempt.order)?, attempt.from))) {
        let earliest = first.entry(body).or_insert(from);
        *earliest = from.min(*earliest);
    }
    let unknown = first.into_iter().map(|(body, from)| operation(from, i64::MAX, Step::Unknown(body)));
    known.chain(unknown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether these steps of requests for one order are explained: from when, until when, and what.
    fn is_explained<const N: usize>(steps: [(i64, i64, Option<Step>); N]) -> bool {
        let order = Order { currency: "EUR".into(), items: Vec::new(), note: None };
        let attempts = steps.map(|(from, to, step)| Attempt { from, to, order: order.clone(), step });
        check_operations_timeout(&operations(&attempts, None), TIME_LIMIT) == CheckResult::Ok
    }

    fn created(body: &str) -> Option<Step> {
        Some(Step::Created(body.into()))
    }

    fn replayed(body: &str) -> Option<Step> {
        Some(Step::Acknowledged(body.into()))
    }

    #[test]
    fn one_order_that_stays_is_explained_and_nothing_else() {
        let (absent, present) = (Some(Step::Absent), Some(Step::Present));
        assert!(is_explained([(0, 5, created("a")), (2, 9, replayed("a")), (6, 9, present.clone())]));
        assert!(is_explained([(0, 5, None), (6, 8, absent.clone()), (9, 12, replayed("a"))]));
        assert!(is_explained([(0, 5, None), (6, 8, present), (9, 12, replayed("a"))]));
        // Two orders, two that were created, one that is gone, one that is another.
        assert!(!is_explained([(0, 5, created("a")), (6, 9, created("b"))]));
        assert!(!is_explained([(0, 5, created("a")), (2, 9, created("a"))]));
        assert!(!is_explained([(0, 5, created("a")), (6, 9, absent)]));
        assert!(!is_explained([(0, 5, created("a")), (6, 9, replayed("b"))]));
        assert!(!is_explained([(0, 5, Some(Step::Reused)), (6, 9, created("a"))]));
    }
}
