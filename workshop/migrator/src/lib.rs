//! The schema of a database: creates and migrates it, with the migrations of this release inside.

mod examples;
mod migrate;
mod steps;

pub use examples::migrate_example;
pub use migrate::{Outcome, create_database, migrate, migrate_all, migrate_to};
