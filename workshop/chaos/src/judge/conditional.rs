//! Judges conditional requests. No two orders are based on one state of a list. A 412 needs an order that has changed
//! the list, a 409 a rival at work. That a retry of an acknowledged order gets neither is judged with its key.

use std::collections::HashSet;

use super::{Keys, is_early};
use crate::history::{Events, Request};
use crate::verdict::{Verdict, Violation};

/// How long a request to the service can go on after its client has its response or has given up (5 s), and the lock of
/// its list after that if its release fails (5 s).
const LOCKED_MS: u64 = 10_000;

pub fn judge(keys: &Keys, events: &Events, verdict: &mut Verdict) {
    let mut followed = HashSet::new();
    for row in keys.values().flat_map(|key| &key.rows).filter(|row| row.based_on.is_some()) {
        if !followed.insert((&row.customer, &row.based_on)) {
            verdict.note(Violation::Duplicate, format!("a second order was created with the same ETag: {row:?}"));
        }
    }
    let conditional: Vec<_> = events.requests.iter().filter(|request| request.condition.is_some()).collect();
    for request in &conditional {
        let why = match request.status() {
            Some(409) => {
                verdict.locked += 1;
                let is_rival = |other: &&Request| {
                    let is_at_work = other.from_ms <= request.to_ms && request.from_ms <= other.to_ms + LOCKED_MS;
                    is_at_work && other.customer == request.customer && other.key != request.key
                };
                (!conditional.iter().any(is_rival)).then_some("409 without a rival")
            }
            Some(412) => {
                verdict.stale += 1;
                match may_be_stale(request, keys, events) {
                    Some(may_be_stale) => (!may_be_stale).then_some("412, although nothing has changed the list"),
                    None => {
                        verdict.not_judged += 1;
                        None
                    }
                }
            }
            _ => None,
        };
        if let Some(why) = why {
            verdict.note(Violation::Disagreeing, format!("{why}: {request:?}"));
        }
    }
}

/// Whether the list can have left the state of the tag when the 412 was received. Its client has read the tag before,
/// so it *was* the state; an order of another key must have changed it. That is either
/// - the order that is based on this very state (there is at most one), if it was requested before the 412; or
/// - an order without `If-Match`, if it was requested before the 412 and was not acknowledged before the tag was
///   read: an order that was is part of the state.
///
/// Not checked: whether such an order was committed before the 412 and not only requested. `None` if the tag may be of
/// an order that a failover has lost, or the order that has changed the list may be lost.
fn may_be_stale(refused: &Request, keys: &Keys, events: &Events) -> Option<bool> {
    let condition = refused.condition.as_ref()?;
    if events.losses().any(|loss| condition.read_ms < loss.to_ms && loss.from_ms <= refused.to_ms) {
        return None;
    }
    // What was acknowledged before the last loss may have been created again.
    let lost = events.losses().map(|loss| loss.to_ms).filter(|to_ms| *to_ms <= refused.to_ms);
    let since_ms = lost.max().unwrap_or(0);
    let others = keys.iter().filter(|((customer, key), _)| *customer == refused.customer && *key != refused.key);
    let mut stored = others.flat_map(|(_, key)| key.rows.iter().map(|row| (row, &key.requests)));
    Some(stored.any(|(row, requests)| {
        let is_part_of_the_state = |request: &&Request| {
            let is_certain = request.status() == Some(201) && !is_early(request, events.losses());
            is_certain && since_ms <= request.from_ms && request.to_ms < condition.read_ms
        };
        requests.iter().any(|request| request.from_ms <= refused.to_ms)
            && match &row.based_on {
                Some(tag) => *tag == condition.tag,
                None => !requests.iter().any(is_part_of_the_state),
            }
    }))
}
