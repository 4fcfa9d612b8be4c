//! Runs what the component runs over simulated stores, from a request's head to its statements and commands, on a
//! scheduler that decides which request takes the next step and which fault happens there. A run has no threads, and
//! time passes only by faults: a schedule is a list of steps, and the same list gives the same run.
//!
//! A step is one call that a store executes. An insertion takes two steps, its snapshot and its execution; a
//! conditional insertion takes a third one, its commit. [`exhaustive`] runs all schedules within these bounds, and of
//! schedules that differ only in which of two equal requests is which, one:
//!
//! - two requests in every interleaving with up to two faults;
//! - three requests with up to one preemption and two faults, and with up to three preemptions and one fault;
//! - two conditional requests, or a conditional and a plain one, in every interleaving with one fault;
//! - requests whose statements wait for each other's commit;
//! - failovers that lose the newer half of the rows, with a second fault;
//! - retries that wait for one question about the history.
//!
//! Then [`random`] schedules run 2 to 20 clients that retry and use the state that they were told. [`check`] checks
//! every step. [`coverage`] counts how often each fault was placed at each call: an empty cell is an error.

pub mod broken;
pub mod check;
pub mod client_request;
pub mod coverage;
pub mod exhaustive;
pub mod fault;
pub mod host;
pub mod kind;
pub mod minimise;
pub mod platform;
pub mod random;
pub mod report;
pub mod run;
pub mod scenario;
pub mod tables;
mod texts;
pub mod wire;
pub mod world;
