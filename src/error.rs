//! What can go wrong in the domain. Nothing here knows HTTP, and nothing here carries a store's own words:
//! those are logged where they arise and end there.

use std::time::Duration;

use crate::order::OrderId;
use crate::reading::ListState;

/// Postgres, which decides, did not answer in time or not with an answer. Whether a write that was under
/// way took effect is unknown; a retry with the same key finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrdersUnavailable;

/// Redis, which only speeds things up, did not answer in time or not with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationsUnavailable;

/// Why an order was not created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateError {
    /// The key belongs to an order of other content.
    KeyReused {
        /// The order that the key belongs to.
        order_id: OrderId,
        /// JSON Pointers to where the requests differ.
        differs: Vec<String>,
    },
    /// The customer's list is not in a state that the order was to be created on.
    Stale(
        /// The state that it is in.
        ListState,
    ),
    /// Somebody else is about to create an order on the same state.
    Locked {
        /// How long they may take, unless they are done before.
        remaining: Duration,
    },
    /// See [`OrdersUnavailable`].
    Unavailable,
}

impl From<OrdersUnavailable> for CreateError {
    fn from(OrdersUnavailable: OrdersUnavailable) -> Self {
        Self::Unavailable
    }
}
