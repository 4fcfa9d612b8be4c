//! Injects faults into a real deployment (several hosts that share one Redis and one Postgres) while clients send
//! and retry. A checker then reads the history: one order per key, and every acknowledged order is stored as it
//! was acknowledged.

pub mod checker;
pub mod client;
pub mod deployment;
pub mod failover;
pub mod fault;
pub mod history;
pub mod linearizable;
pub mod nemesis;
pub mod order;
pub mod proxy;
pub mod run;
pub mod shop;

pub use checker::Verdict;
pub use run::{Faults, Options, Outcome, run};
