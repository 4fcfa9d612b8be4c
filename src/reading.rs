//! What a customer can read: orders by id, pages of them, and what has become of a key.

use std::fmt;

use crate::error::OrdersUnavailable;
use crate::hex::hex;
use crate::idempotency::{Progress, Slot};
use crate::order::OrderId;
use crate::ports::{OrdersByKey, StoredOrder, Traces};

/// Which orders a customer has: a digest that changes when one is added, and that only this customer can
/// know. It covers the customer, the newest order's id and the places of the newest 256. What it would
/// miss: an order whose insertion commits after 256 that drew their places later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListState([u8; 16]);

impl ListState {
    /// Reads the form that this service prints: 32 hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        let state = Self(u128::from_str_radix(text, 16).ok()?.to_be_bytes());
        (state.to_string() == text).then_some(state)
    }

    /// A value that came from a store.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// In lower-case hexadecimal.
impl fmt::Display for ListState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// Some of a customer's orders, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The state of the whole list, not of this page, in the same snapshot.
    pub state: ListState,
    /// The orders.
    pub orders: Vec<StoredOrder>,
    /// Whether there are older ones.
    pub more: bool,
}

/// What has become of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// A request with it has begun. It is at work or has died; repeating it finds out.
    InProgress,
    /// It has this order, for good.
    Completed(OrderId),
}

/// What has become of a key, or `None` when nothing is known of it.
///
/// Postgres alone decides whether there is an order: a finished record could be another slot's, and here is
/// no content to check its fingerprint with. Redis only adds that somebody has begun, and is asked first:
/// the other way round, an order that is finished between the two questions would seem never to have begun.
///
/// # Errors
/// [`OrdersUnavailable`] when Postgres could not be asked. Redis causes no error.
pub async fn key_state(
    slot: &Slot,
    traces: &impl Traces,
    orders: &impl OrdersByKey,
) -> Result<Option<KeyState>, OrdersUnavailable> {
    let trace = traces.look(slot).await.ok().flatten();
    if let Some(order) = orders.find_by_key(slot).await? {
        return Ok(Some(KeyState::Completed(order.order_id)));
    }
    let begun = trace.is_some_and(|record| record.progress == Progress::Reserved);
    Ok(begun.then_some(KeyState::InProgress))
}
