//! Runs the very functions that the component runs over simulated stores, on a scheduler that decides which request
//! takes the next step and which fault happens there. A run has no threads, and time passes only by faults: a schedule
//! is a list of steps, and the same list gives the same run.

pub mod broken;
pub mod check;
pub mod client_request;
pub mod coverage;
pub mod exhaustive;
pub mod fault;
pub mod host;
pub mod kind;
pub mod minimise;
pub mod port;
pub mod random;
pub mod report;
pub mod run;
pub mod scenario;
pub mod tables;
pub mod world;
