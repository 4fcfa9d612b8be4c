//! Beats on a real deployment (several hosts over one Redis and one Postgres) while clients send and retry,
//! and has a checker read the history: one order per key, and every acknowledged one stored as acknowledged.

pub mod checker;
pub mod client;
pub mod deployment;
pub mod fault;
pub mod history;
pub mod nemesis;
pub mod order;
pub mod proxy;
pub mod run;

pub use checker::Verdict;
pub use run::{Options, Outcome, run};
