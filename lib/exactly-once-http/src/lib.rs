//! The API over HTTP, for any resource: [`respond`] turns a request's head and body into a response. It knows methods,
//! paths, headers and bodies, and knows no Spin and no SQL. All status codes of problems are in `problem.rs`.
//!
//! The steps of [`respond`] are public, so that a component with another API can be built from them.

pub mod conditions;
mod cors;
mod creation;
#[cfg(any(test, feature = "description"))]
mod description;
mod etag;
mod feed;
mod head;
mod health;
mod host;
pub mod identity;
mod outcome;
mod problem;
mod query;
mod reading;
pub mod request_log;
mod respond;
mod response;
pub mod settings;
mod violations;

pub use creation::{
    ConditionalRequest, CreateOperation, IDEMPOTENT_REPLAYED, create, create_conditionally, created, read_body,
    read_condition, read_document, read_head, read_key,
};
#[cfg(any(test, feature = "description"))]
pub use description::openapi;
pub use etag::ETag;
pub use feed::{admit, events};
pub use head::{Body, BodyError, Head, MAX_BODY_BYTES, Method};
pub use health::{health, readiness};
pub use host::{Host, Unfetched};
pub use outcome::Outcome;
pub use problem::{PROBLEMS, Problem, Row};
pub use query::{QueryError, decoded, following, page_request};
pub use reading::{list, represent, show, show_key};
pub use respond::{chosen, identify, respond};
pub use response::Response;

/// The examples of the README are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
