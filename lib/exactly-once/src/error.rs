//! The errors of the protocol. They know no HTTP and carry no text of a store: the adapter logs that text where it
//! arises.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::list_state::ListState;
use crate::resource::ResourceId;

/// Why the database did not execute a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseError {
    /// It did not respond in time, or returned an error that may pass. A write that was under way may have taken effect
    /// or not; a retry with the same key finds out.
    Unavailable,
    /// It cannot hold a value of the request, such as a character that its encoding lacks, and has stored nothing. A
    /// retry gets the same error.
    ValueRejected,
    /// The customer's resources are in another database. This statement has stored nothing.
    Elsewhere,
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "the database did not answer",
            Self::ValueRejected => "the database cannot hold a value of the request",
            Self::Elsewhere => "the customer belongs to another database",
        })
    }
}

impl Error for DatabaseError {}

/// Redis did not respond in time, or returned an error.
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
    /// The customer's list is in a state that the request does not expect.
    Stale(
        /// The state that it is in.
        ListState,
    ),
    /// Another request is creating a resource on a state of the same list.
    Locked {
        /// The rest of its lease.
        remaining: Duration,
    },
    /// See [`DatabaseError::Unavailable`].
    Unavailable,
    /// See [`DatabaseError::ValueRejected`].
    ValueRejected,
    /// See [`DatabaseError::Elsewhere`].
    Elsewhere,
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyReused { id, .. } => write!(f, "the key belongs to {id}, which differs"),
            Self::Stale(state) => write!(f, "the list is in state {state}"),
            Self::Locked { .. } => f.write_str("the list is locked"),
            Self::Unavailable => DatabaseError::Unavailable.fmt(f),
            Self::ValueRejected => DatabaseError::ValueRejected.fmt(f),
            Self::Elsewhere => DatabaseError::Elsewhere.fmt(f),
        }
    }
}

impl Error for CreateError {}

impl From<DatabaseError> for CreateError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Unavailable => Self::Unavailable,
            DatabaseError::ValueRejected => Self::ValueRejected,
            DatabaseError::Elsewhere => Self::Elsewhere,
        }
    }
}
