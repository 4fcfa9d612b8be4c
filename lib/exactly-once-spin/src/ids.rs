//! Draws ids from the host's clock and randomness.

use exactly_once::ResourceId;
use exactly_once::ports::ResourceIds;
use uuid::timestamp::context::NoContext;
use uuid::{Timestamp, Uuid};

/// UUID version 7 with the current time and 74 random bits. Not [`Uuid::now_v7`]: its counter orders the ids of a
/// millisecond and leaves 32 bits that a customer who has one of them cannot compute, and states of lists count on ids
/// that nobody guesses. Nothing needs the order.
pub struct RandomIds;

impl ResourceIds for RandomIds {
    fn draw(&self) -> ResourceId {
        ResourceId::from_uuid(Uuid::new_v7(Timestamp::now(NoContext)))
    }
}
