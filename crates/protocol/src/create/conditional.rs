//! Creates a resource only if the customer's list is still in a state that the client knows (`If-Match`).
//!
//! While it holds, a lock in Redis separates requests that would compete for the same state. It proves nothing:
//! Postgres compares the state in the statement that inserts, and allows one resource per state.

use std::time::Duration;

use super::{Claim, CreateRequest, Creation, KeyReuse, Reserved, Settled};
use super::{INSERTION_TRIES, claim, complete_record, likely_new, prepare_retry};
use crate::condition::Expected;
use crate::error::CreateError;
use crate::list_state::ListState;
use crate::ports::{
    ConditionalInsertion, ConditionalResources, List, Lock, Locks, NewResource, Reservations,
    ResourceIds, ResourcesByKey,
};
use crate::resource::Resource;

/// Creates the resource if the list is in an expected state, or finds the one that the key already belongs to,
/// whatever state the list is in. A new resource comes with the state that the list is in with it.
///
/// A creation is one call each of `reserve`, `acquire`, `insert_based_on` and `release`.
///
/// # Errors
/// [`CreateError::Stale`], [`CreateError::KeyReused`] and [`CreateError::Unreadable`] only on Postgres's word,
/// [`CreateError::Locked`] on Redis's; [`CreateError::Unavailable`] when Postgres could not be asked.
pub async fn create_conditionally<R: Resource>(
    request: CreateRequest<R>,
    expected: &Expected,
    key_reuse: KeyReuse,
    reservations: &impl Reservations,
    locks: &impl Locks,
    resources: &(impl ConditionalResources + ResourcesByKey),
    ids: &impl ResourceIds,
) -> Result<(Creation<R>, Option<ListState>), CreateError> {
    let (new, resource, reservation) = match claim(request, reservations, ids).await {
        Claim::Completed(creation) => return Ok((creation, None)),
        Claim::Open {
            new,
            resource,
            reservation,
        } => (new, resource, reservation),
    };
    let list = List::from(&new.scope);
    // Not the resource's id: a request that continues an interrupted one shares it.
    let holder = ids.draw();
    let lock = match expected.is_contended() {
        true => locks.acquire(&list, &holder).await,
        false => Ok(Lock::NotNeeded),
    };
    let (settled, state) = match lock {
        Ok(Lock::Held { remaining }) => {
            (find(new, &reservation, resources, remaining).await?, None)
        }
        // The same without Redis: the lock spares Postgres a race and decides nothing.
        lock => {
            let outcome = insert(new, expected, resources, ids).await;
            if lock == Ok(Lock::Acquired) {
                // If this fails, the lease ends the lock.
                let _ = locks.release(&list, &holder).await;
            }
            outcome?
        }
    };
    complete_record(&settled, &reservation, reservations).await;
    Ok((settled.creation(resource, key_reuse)?, state))
}

/// While another request holds the lock: a retry need not wait for its own resource.
async fn find(
    requested: NewResource,
    reservation: &Reserved,
    resources: &impl ResourcesByKey,
    remaining: Duration,
) -> Result<Settled, CreateError> {
    if !likely_new(reservation)
        && let Some(stored) = resources.find_by_key(&requested.scope).await?
    {
        return Ok(Settled::Existing { stored, requested });
    }
    Err(CreateError::Locked { remaining })
}

/// Inserts the resource on an expected state. A new one comes with the state of the list with it.
async fn insert(
    mut new: NewResource,
    expected: &Expected,
    resources: &impl ConditionalResources,
    ids: &impl ResourceIds,
) -> Result<(Settled, Option<ListState>), CreateError> {
    for tried in 1..=INSERTION_TRIES {
        match resources.insert_based_on(&new, expected).await? {
            ConditionalInsertion::Inserted(state) => {
                return Ok((Settled::Inserted(new), Some(state)));
            }
            ConditionalInsertion::Existing(stored) => {
                let requested = new;
                return Ok((Settled::Existing { stored, requested }, None));
            }
            ConditionalInsertion::Stale(state) => return Err(CreateError::Stale(state)),
            ConditionalInsertion::Conflict => prepare_retry(&mut new, tried, ids),
        }
    }
    Err(CreateError::Unavailable)
}
