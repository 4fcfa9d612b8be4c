//! Creates a resource exactly once per customer and `Idempotency-Key`.
//!
//! Plain Rust over the traits in [`ports`]: no HTTP, no Spin, no SQL, no clock and no randomness of its own, and
//! nothing of any particular resource: a document is a text. A table says what a resource is made of ([`members`]).

pub mod breaker;
pub mod condition;
pub mod create;
pub mod customer;
pub mod error;
pub mod feed;
pub mod fingerprint;
pub mod group_commit;
pub mod history;
pub mod json;
pub mod key;
pub mod key_state;
pub mod laws;
pub mod list_state;
pub mod members;
pub mod ports;
pub mod record;
pub mod resource;
pub mod schema;
pub mod signals;
pub mod single_flight;

pub use customer::Customer;
pub use fingerprint::Fingerprint;
pub use history::{History, HistorySet, InHistory, KnownHistory};
pub use key::{IdempotencyKey, KeyScope};
pub use list_state::ListState;
pub use members::{Resource, Violation};
pub use record::{Progress, Record};
pub use resource::{Collection, Document, Documentation, ResourceId};

/// The examples of the README are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
