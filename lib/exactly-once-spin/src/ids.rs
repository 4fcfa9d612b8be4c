//! Draws ids from the host's clock and randomness.

use std::cell::Cell;

use exactly_once::ResourceId;
use exactly_once::ports::ResourceIds;
use uuid::timestamp::context::NoContext;
use uuid::{Timestamp, Uuid};

/// UUID version 7 with the current time and 74 random bits. Not [`Uuid::now_v7`]: its counter, which nothing needs,
/// leaves only 32 bits that a customer cannot compute from another id of the same millisecond, and the state of a list
/// must be unguessable.
pub struct RandomIds;

impl ResourceIds for RandomIds {
    fn draw(&self) -> ResourceId {
        ResourceId::from_uuid(Uuid::new_v7(Timestamp::now(NoContext)))
    }
}

thread_local! {
    /// A random number of the instance, and how many ids it has made.
    static REQUESTS: Cell<Option<(u64, u32)>> = const { Cell::new(None) };
}

/// An id for a request that names none. Random numbers are drawn once per instance: each draw is a call of the host.
pub fn request_id() -> String {
    // The second half of an id is random but for two bits.
    let draw = || Uuid::new_v7(Timestamp::now(NoContext)).as_u64_pair().1;
    let (instance, made) = REQUESTS.get().unwrap_or_else(|| (draw(), 0));
    REQUESTS.set(Some((instance, made.wrapping_add(1))));
    format!("{instance:016x}-{made}")
}
