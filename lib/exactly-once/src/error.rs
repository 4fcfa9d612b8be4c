//! What can go wrong in the protocol. Nothing here knows HTTP, and nothing here carries a store's own words: those
//! are logged where they arise and end there.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::list_state::ListState;
use crate::resource::ResourceId;

/// Postgres, which decides, did not answer in time or answered with an error. Whether a write that was under way
/// took effect is unknown; a retry with the same key finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseUnavailable;

impl fmt::Display for DatabaseUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the database did not answer")
    }
}

impl Error for DatabaseUnavailable {}

/// Redis, which only makes the protocol faster, did not answer in time or answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationsUnavailable;

impl fmt::Display for ReservationsUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redis did not answer")
    }
}

impl Error for ReservationsUnavailable {}

/// Why no resource was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateError {
    /// The key belongs to a resource with another document.
    KeyReused {
        /// The resource that the key belongs to.
        id: ResourceId,
        /// JSON Pointers to where the documents differ.
        differs: Vec<String>,
    },
    /// The customer's list is not in a state that the request expects.
    Stale(
        /// The state that it is in.
        ListState,
    ),
    /// Another request is creating a resource on a state of the same list.
    Locked {
        /// The rest of its lease.
        remaining: Duration,
    },
    /// See [`DatabaseUnavailable`].
    Unavailable,
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyReused { id, .. } => write!(f, "the key belongs to {id}, which differs"),
            Self::Stale(state) => write!(f, "the list is in state {state}"),
            Self::Locked { .. } => f.write_str("the list is locked"),
            Self::Unavailable => DatabaseUnavailable.fmt(f),
        }
    }
}

impl Error for CreateError {}

impl From<DatabaseUnavailable> for CreateError {
    fn from(DatabaseUnavailable: DatabaseUnavailable) -> Self {
        Self::Unavailable
    }
}
