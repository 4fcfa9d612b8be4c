//! Draws ids from the host's clock and randomness.

use protocol::ResourceId;
use protocol::ports::ResourceIds;
use uuid::Uuid;

/// UUID version 7 with the current time.
pub struct RandomIds;

impl ResourceIds for RandomIds {
    fn draw(&self) -> ResourceId {
        ResourceId::from_uuid(Uuid::now_v7())
    }
}
