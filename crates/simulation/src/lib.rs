//! Runs the very functions that the component runs over simulated stores, on a scheduler that decides who
//! takes the next step and what goes wrong there. No threads inside a run, no clock: a schedule is a list of
//! steps, and the same list gives the same run.

pub mod broken;
pub mod check;
pub mod coverage;
pub mod exhaustive;
pub mod fault;
pub mod minimise;
pub mod port;
pub mod random;
pub mod report;
pub mod run;
pub mod scenario;
pub mod world;
