//! Draws order ids from the host's clock and randomness.

use uuid::Uuid;

use crate::order::ResourceId;
use crate::ports::ResourceIds;

/// UUID version 7 of now.
pub struct RandomIds;

impl ResourceIds for RandomIds {
    fn draw(&self) -> ResourceId {
        ResourceId::from_uuid(Uuid::now_v7())
    }
}
