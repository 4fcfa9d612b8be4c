//! The protocol's ports as Redis commands, and as statements of Postgres and SQLite, and how their answers are read. No
//! connections: adapters send what is built here.

pub mod postgres;
pub mod redis;
pub mod sqlite;
