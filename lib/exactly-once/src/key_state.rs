//! The state of a key.

use crate::error::DatabaseError;
use crate::key::KeyScope;
use crate::ports::{RecordLookup, ResourcesByKey};
use crate::record::Progress;
use crate::resource::ResourceId;

/// The state of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// A request with the key has begun. It is under way or has died; repeating it finds out.
    InProgress,
    /// The key has this resource, permanently.
    Completed(ResourceId),
}

/// The state of a key, or `None` when no request with it is known.
///
/// Postgres alone decides whether the resource exists: a completed record could belong to another scope, and without a
/// document its fingerprint cannot be checked. Redis only adds that a request has begun. Redis is read first: in the
/// other order, a resource that is created between the two reads would seem never to have begun.
///
/// # Errors
/// [`DatabaseError`] when Postgres could not be asked. Redis causes no error.
pub async fn key_state(
    scope: &KeyScope,
    records: &impl RecordLookup,
    resources: &impl ResourcesByKey,
) -> Result<Option<KeyState>, DatabaseError> {
    let record = records.find_record(scope).await.ok().flatten();
    if let Some(stored) = resources.find_by_key(scope).await?.value {
        return Ok(Some(KeyState::Completed(stored.id)));
    }
    let begun = record.is_some_and(|record| record.progress == Progress::InProgress);
    Ok(begun.then_some(KeyState::InProgress))
}
