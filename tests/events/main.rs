//! Orders as events: the contract of docs/events.md, the configuration of deploy/events, the feed, and the
//! change stream itself.

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
