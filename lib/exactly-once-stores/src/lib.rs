//! The protocol's ports over Redis and over Postgres or SQLite: commands and statements, how their responses are read,
//! and when they are sent, repeated and given up. No connections: an adapter implements [`platform::Platform`].

mod database;
pub mod deadline;
mod instance;
pub mod kept;
mod outage;
pub mod platform;
pub mod postgres;
pub mod redis;
mod reservations;
pub mod sql;
pub mod sqlite;
#[cfg(test)]
mod testing;

pub use database::{BATCH_WINDOW, Database, DatabaseSettings};
pub use instance::{Instance, Request};
pub use reservations::{Redis, RedisSettings};
