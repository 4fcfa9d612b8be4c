//! The protocol's ports as Redis commands and Postgres statements, and how their answers are read. No connections:
//! adapters send what is built here.

pub mod postgres;
pub mod redis;
