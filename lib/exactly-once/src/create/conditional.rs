//! Creates a resource only if the customer's list is still in a state that the client knows (`If-Match`).
//!
//! 1. The key is reserved as always, and a completed creation is replayed from its record. `If-Match` is not part of
//!    the fingerprint: a retry finds its resource in any state of the list.
//! 2. **The lock.** A lock in Redis, with a lease, separates requests that would compete for one state. It belongs to a
//!    key: duplicates of one request do not lock each other out, and Postgres decides which of them creates. If another
//!    key holds it, this request looks for its own resource (it may be a retry whose record Redis lost), and otherwise
//!    returns [`CreateError::Locked`] with the rest of the lease. Without a response of Redis it continues without the
//!    lock, which proves nothing.
//! 3. **One statement** computes the list's state, inserts the resource based on that state if it is an expected one,
//!    and returns the resource, the one that the key has, or the state. `UNIQUE (customer_id, based_on)` decides: a
//!    second statement on the same state waits for the first one's commit, inserts nothing, asks again, and sees the
//!    new state. Unconditional resources have no `based_on`; they neither wait nor make others wait.
//! 4. The lock is released by compare-and-delete. A rejected request that reserved the key withdraws its record in the
//!    same way, because nothing is in progress any more.
//!
//! `*` needs no lock and is based on no state. A request without a key gets one that no client can send (a space and an
//! id), and reserves nothing.
//!
//! **It is not linearizable.** Unconditional resources that commit while the statement runs, or while it waits for
//! another one on the same state, are neither compared nor contained in the returned state. No client has seen a list
//! in that state, so the next conditional request with it is [`CreateError::Stale`]. Where every resource needs a
//! condition and `*` is not allowed, there are no unconditional resources, and the list moves from state to state. To
//! compare at the commit, unconditional creations would have to wait for conditional ones.

use std::time::Duration;

use super::{Claim, CreateRequest, Creation, ReplayPolicy, Settled};
use super::{INSERTION_TRIES, claim, complete_record, prepare_retry, replay_in_outage, withdraw};
use crate::condition::Expected;
use crate::error::CreateError;
use crate::history::InHistory;
use crate::list_state::ListState;
use crate::ports::{
    ConditionalInsertion, ConditionalResources, Histories, Lock, Locks, NewResource, Reservations, ResourceIds,
    ResourcesByKey,
};

/// Creates the resource if the list is in an expected state, or finds the key's resource in any state of the list. With
/// a new resource it returns the list's new state.
///
/// The list was in an expected state at some moment during the call: in the snapshot of the statement that inserts. Of
/// the resources that are based on one state, at most one is created. Unconditional resources that commit while the
/// statement runs are neither compared nor contained in the returned state.
///
/// A creation is one call each of `reserve`, `acquire`, `insert_based_on` and `release`.
///
/// # Errors
/// [`CreateError::Stale`] and [`CreateError::KeyReused`] when Postgres says so, [`CreateError::Locked`] when Redis says
/// so; [`CreateError::Unavailable`] when Postgres did not respond.
pub async fn create_conditionally(
    request: CreateRequest,
    expected: &Expected,
    policy: ReplayPolicy,
    reservations: &impl Reservations,
    locks: &impl Locks,
    resources: &(impl ConditionalResources + ResourcesByKey + Histories),
    ids: &impl ResourceIds,
) -> Result<(Creation, Option<ListState>), CreateError> {
    let (new, reservation) = match claim(request, policy.outage, reservations, resources, ids).await {
        Claim::Completed(id) => return Ok((Creation::Replayed(id), None)),
        Claim::Open { new, reservation } => (new, reservation),
    };
    let (scope, own) = (new.scope.clone(), new.in_progress());
    let lock = match expected.is_contended() {
        true => locks.acquire(&scope).await,
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
                let _ = locks.release(&scope).await;
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
            withdraw(&scope, &own, &reservation, reservations).await;
            return Err(refusal);
        }
    };
    complete_record(&settled, &reservation, reservations).await;
    Ok((settled.value.creation(policy.key_reuse)?, state))
}

/// Finds the request's own resource while another request holds the lock: a retry need not wait. Any request may be a
/// retry, because Redis may have lost the record of an acknowledged resource.
async fn find(
    requested: NewResource,
    resources: &impl ResourcesByKey,
    remaining: Duration,
) -> Result<InHistory<Settled>, CreateError> {
    if let InHistory { history, value: Some(stored) } = resources.find_by_key(&requested.scope).await? {
        let value = Settled::Existing { stored, requested };
        return Ok(InHistory { history, value });
    }
    Err(CreateError::Locked { remaining })
}

/// Inserts the resource if the list is in an expected state. With a new one it returns the list's new state.
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
