//! Orders as events: the contract of docs/events.md, the configuration of deploy/events, the feed, and the
//! change stream itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod both;
mod configuration;
mod contract;
mod debezium;
mod feed;
mod kafka;
mod load;
mod log;
mod service;
mod stream;
