//! CloudEvents 1.0, as a consumer over HTTP reads and writes them: the event, its delivery, the response to a rejected
//! one, and the money in its data. Knows no type of event.

mod delivery;
mod event;
pub mod money;

pub use delivery::{MEDIA_TYPE, Refusal, handshake, read_event};
pub use event::{CloudEvent, NotAnEvent};
