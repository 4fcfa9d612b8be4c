//! CloudEvents 1.0, as a consumer over HTTP reads and writes them: the event, its delivery, and the
//! answer to one that is rejected. Knows no type of event. And the money that events tell of.

mod delivery;
mod event;
pub mod money;

pub use delivery::{MEDIA_TYPE, Refusal, handshake, read_event};
pub use event::{CloudEvent, NotAnEvent};
