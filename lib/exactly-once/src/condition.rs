//! The condition under which a resource is created: the states of the customer's list that a request expects
//! (`If-Match`, RFC 9110 section 13.1.1).

use crate::list_state::ListState;

/// What a request that creates a resource must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// A key. A condition is optional, and respected.
    Key,
    /// A condition. A key is optional, and respected.
    Etag,
    /// Both.
    Both,
}

/// The states of the list on which a resource may be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Any state.
    Any,
    /// One of these. When there are none, no resource is created.
    OneOf(Vec<ListState>),
}

impl Expected {
    /// Whether a resource may be created on that state.
    pub fn is_met_by(&self, state: &ListState) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(states) => states.contains(state),
        }
    }

    /// Whether requests with this condition compete with each other.
    pub fn is_contended(&self) -> bool {
        matches!(self, Self::OneOf(states) if !states.is_empty())
    }
}
