//! Creates a resource only if the customer's list is still in a state that the client knows (`If-Match`).
//!
//! While it holds, a lock in Redis separates requests that would compete for the same state. It proves nothing:
//! Postgres compares the state in the statement that inserts, and allows one resource per state.

use std::time::Duration;

use super::{Claim, CreateRequest, Creation, ReplayPolicy, Settled};
use super::{INSERTION_TRIES, claim, complete_record, prepare_retry, replay_in_outage};
use crate::condition::Expected;
use crate::error::CreateError;
use crate::history::InHistory;
use crate::list_state::ListState;
use crate::ports::{
    ConditionalInsertion, ConditionalResources, Histories, List, Lock, Locks, NewResource,
    Reservation, Reservations, ResourceIds, ResourcesByKey,
};

/// Creates the resource if the list is in an expected state, or finds the one that the key already belongs to,
/// whatever state the list is in. A new resource comes with the state that the list is in with it.
///
/// The list was in an expected state at some moment during the call: in the snapshot of the statement that inserts. Of the
/// resources that are based on one state, at most one is created. Resources without a condition that are committed while
/// the statement runs are not compared, nor are they in the returned state.
///
/// A creation is one call each of `reserve`, `acquire`, `insert_based_on` and `release`.
///
/// # Errors
/// [`CreateError::Stale`] and [`CreateError::KeyReused`] only on Postgres's word,
/// [`CreateError::Locked`] on Redis's; [`CreateError::Unavailable`] when Postgres could not be asked.
pub async fn create_conditionally(
    request: CreateRequest,
    expected: &Expected,
    policy: ReplayPolicy,
    reservations: &impl Reservations,
    locks: &impl Locks,
    resources: &(impl ConditionalResources + ResourcesByKey + Histories),
    ids: &impl ResourceIds,
) -> Result<(Creation, Option<ListState>), CreateError> {
    let (new, reservation) = match claim(request, policy.outage, reservations, resources, ids).await
    {
        Claim::Completed(id) => return Ok((Creation::Replayed(id), None)),
        Claim::Open { new, reservation } => (new, reservation),
    };
    let (list, scope, own) = (List::from(&new.scope), new.scope.clone(), new.in_progress());
    // Not the resource's id: a request that continues an interrupted one shares it.
    let holder = ids.draw();
    let lock = match expected.is_contended() {
        true => locks.acquire(&list, &holder).await,
        false => Ok(Lock::NotNeeded),
    };
    let decided = match lock {
        Ok(Lock::Held { remaining }) => {
            let found = find(new, resources, remaining).await;
            found.map(|settled| (settled, None))
        }
        // The same without Redis: the lock spares Postgres a race and decides nothing.
        lock => {
            let outcome = insert(new, expected, resources, ids).await;
            if lock == Ok(Lock::Acquired) {
                // If this fails, the lease ends the lock.
                let _ = locks.release(&list, &holder).await;
            }
            outcome
        }
    };
    let (settled, state) = match decided {
        Ok(decided) => decided,
        Err(CreateError::Unavailable) => {
            return replay_in_outage(&reservation, &own.fingerprint, policy.outage, resources)
                .map(|id| (Creation::Replayed(id), None))
                .ok_or(CreateError::Unavailable);
        }
        Err(refusal) => {
            if reservation == Ok(Reservation::Acquired) {
                // If this fails, the key's state stays "in progress" until the record expires.
                let _ = reservations.withdraw(&scope, &own).await;
            }
            return Err(refusal);
        }
    };
    complete_record(&settled, &reservation, reservations).await;
    Ok((settled.value.creation(policy.key_reuse)?, state))
}

/// While another request holds the lock: a retry need not wait for its own resource. Redis may have lost the record of a
/// resource that was acknowledged, so that every request may be a retry.
async fn find(
    requested: NewResource,
    resources: &impl ResourcesByKey,
    remaining: Duration,
) -> Result<InHistory<Settled>, CreateError> {
    if let InHistory {
        history,
        value: Some(stored),
    } = resources.find_by_key(&requested.scope).await?
    {
        let value = Settled::Existing { stored, requested };
        return Ok(InHistory { history, value });
    }
    Err(CreateError::Locked { remaining })
}

/// Inserts the resource on an expected state. A new one comes with the state of the list with it.
async fn insert(
    mut new: NewResource,
    expected: &Expected,
    resources: &impl ConditionalResources,
    ids: &impl ResourceIds,
) -> Result<(InHistory<Settled>, Option<ListState>), CreateError> {
    for tried in 1..=INSERTION_TRIES {
        let InHistory { history, value } = resources.insert_based_on(&new, expected).await?;
        let (value, state) = match value {
            ConditionalInsertion::Inserted(state) => (Settled::Inserted(new), Some(state)),
            ConditionalInsertion::Existing(stored) => {
                let requested = new;
                (Settled::Existing { stored, requested }, None)
            }
            ConditionalInsertion::Stale(state) => return Err(CreateError::Stale(state)),
            ConditionalInsertion::Conflict => {
                prepare_retry(&mut new, tried, ids);
                continue;
            }
        };
        return Ok((InHistory { history, value }, state));
    }
    Err(CreateError::Unavailable)
}
