//! Draws ids from the system's clock and randomness.

use exactly_once::ResourceId;
use exactly_once::ports::ResourceIds;
use uuid::Uuid;

/// UUID version 7 with the current time.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomIds;

impl ResourceIds for RandomIds {
    fn draw(&self) -> ResourceId {
        ResourceId::from_uuid(Uuid::now_v7())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn an_id_is_new_and_has_the_time_of_its_draw() {
        let now = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            i64::try_from(since.expect("after 1970").as_millis()).expect("before 292 million")
        };
        let before = now();
        let (one, other) = (RandomIds.draw(), RandomIds.draw());
        assert_ne!(one, other);
        assert!((before..=now()).contains(&one.created_at_millis()));
    }
}
