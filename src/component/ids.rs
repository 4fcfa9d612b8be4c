//! Draws order ids from the host's clock and randomness.

use uuid::Uuid;

use crate::order::OrderId;
use crate::ports::OrderIds;

/// UUID version 7 of now.
pub struct RandomIds;

impl OrderIds for RandomIds {
    fn draw(&self) -> OrderId {
        OrderId::from_uuid(Uuid::now_v7())
    }
}
