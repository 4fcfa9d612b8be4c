//! Injects faults into a real deployment (several hosts that share one Redis and one Postgres) while clients send
//! and retry. A judge then reads the history: one order per key, and every acknowledged order is stored as it
//! was acknowledged.

mod cells;
mod client;
mod deployment;
mod failover;
mod fault;
mod history;
mod judge;
mod nemesis;
mod order;
pub mod proxy;
mod register;
mod run;
mod shop;
mod verdict;

pub use run::{Faults, Options, Report, run};
