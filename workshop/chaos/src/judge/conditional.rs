//! Checks conditional requests. The list of a customer whose creations are conditional is a register of its ETag with
//! compare-and-set, and porcupine says whether the tags that were read, the orders that are based on them and the 412
//! fit together. A 409 needs a rival at work. The check of the key finds a retry of an acknowledged order that gets
//! either.

use std::collections::BTreeSet;

use porcupine_rs::{Model, Operation};

use super::Keys;
use crate::history::{Condition, Events, Request};
use crate::register::{operation, violation};
use crate::verdict::{HEALING_MS, Verdict, Violation};

/// How long a request to the service can last after its client has its response or has given up (5 s), and the lock of
/// its list after that if its release fails (5 s).
const LOCKED_MS: u64 = 10_000;

/// The tag of a list, if it is known, and all tags so far.
#[derive(Clone, Debug)]
struct List;

#[derive(Clone, Debug)]
enum Step {
    /// It has this tag.
    Has(String),
    /// An order is added, which is based on this tag if it is conditional.
    Grows(Option<String>),
    /// It had this tag, and has another one.
    Lacks(String),
}

impl Model for List {
    type State = (Option<String>, BTreeSet<String>);
    type Op = Step;
    type Metadata = Violation;

    fn init() -> Self::State {
        Default::default()
    }

    fn step((known, all): &Self::State, step: &Step) -> (bool, Self::State) {
        let is = |tag| known.as_ref().map_or(!all.contains(tag), |known| known == tag);
        let with = |tag: &String| all.iter().chain([tag]).cloned().collect();
        match step {
            Step::Has(tag) => (is(tag), (Some(tag.clone()), with(tag))),
            Step::Grows(Some(tag)) => (is(tag), (None, with(tag))),
            Step::Grows(None) => (true, (None, all.clone())),
            Step::Lacks(tag) => (all.contains(tag) && known.as_ref() != Some(tag), (known.clone(), all.clone())),
        }
    }
}

pub fn judge(keys: &Keys, events: &Events, verdict: &mut Verdict) {
    let conditional: Vec<_> = events.requests.iter().filter(|request| request.condition.is_some()).collect();
    for request in conditional.iter().filter(|request| request.status() == Some(409)) {
        verdict.locked += 1;
        let is_rival = |other: &&Request| {
            let is_at_work = other.from_ms <= request.to_ms && request.from_ms <= other.to_ms + LOCKED_MS;
            is_at_work && other.customer == request.customer && other.key != request.key
        };
        if !conditional.iter().any(is_rival) {
            verdict.note(Violation::Disagreeing, format!("409 without a rival: {request:?}"));
        }
    }
    let customers: BTreeSet<_> = conditional.iter().map(|request| request.customer).collect();
    for customer in customers {
        if let Some(kind) = violation(&operations(customer, keys, events, verdict)) {
            verdict.note(kind, format!("the list of {customer} is no register with compare-and-set"));
        }
    }
}

/// What happened to a customer's list until a failover may lose orders: after that, they are created again without a
/// condition, besides those that have one.
fn operations(customer: &str, keys: &Keys, events: &Events, verdict: &mut Verdict) -> Vec<Operation<List>> {
    let end_ms = match events.has_cells {
        true => 0,
        false => events.losses().map(|loss| loss.from_ms).next().unwrap_or(u64::MAX),
    };
    let mut all = Vec::new();
    for (_, key) in keys.iter().filter(|((name, _), _)| *name == customer) {
        for request in &key.requests {
            let Some(Condition { tag, read_ms }) = &request.condition else {
                continue;
            };
            let (from_ms, to_ms) = (request.from_ms, request.to_ms);
            // A list shows what no standby has after a crash, and the old primary may serve reads after a switchover.
            let is_unclear = events.promotions.iter().any(|promotion| {
                let until_ms = promotion.to_ms + if promotion.old_stays { HEALING_MS } else { 0 };
                promotion.from_ms <= to_ms && *read_ms <= until_ms
            });
            let is_judged = to_ms < end_ms && !is_unclear;
            let is_refused = request.status() == Some(412);
            verdict.stale += usize::from(is_refused);
            verdict.not_judged += usize::from(is_refused && !is_judged);
            if is_judged {
                all.push(operation(*read_ms, from_ms, Step::Has(tag.clone()), Violation::Disagreeing));
                let lacks = operation(from_ms, to_ms, Step::Lacks(tag.clone()), Violation::Disagreeing);
                all.extend(is_refused.then_some(lacks));
            }
        }
        for row in &key.rows {
            let may_create = |request: &&&Request| {
                let has_its_condition = request.condition.as_ref().map(|it| &it.tag) == row.based_on.as_ref();
                let is_refused = matches!(request.status(), Some(409 | 412 | 422));
                request.order == row.order && has_its_condition && !is_refused && request.from_ms < end_ms
            };
            let has_it = |request: &&&Request| request.acknowledged().is_some_and(|it| it.order_id == row.order_id);
            let creator = key.requests.iter().filter(may_create).map(|request| request.from_ms).min();
            let seen = key.requests.iter().filter(has_it).map(|request| request.to_ms).min();
            let step = Step::Grows(row.based_on.clone());
            let grows = |from_ms| operation(from_ms, seen.unwrap_or(u64::MAX), step, Violation::Duplicate);
            all.extend(creator.map(grows));
        }
    }
    all
}
