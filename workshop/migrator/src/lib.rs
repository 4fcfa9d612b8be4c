//! The schema of a database: creates and migrates it, with the migrations of this release inside.

mod migrate;
mod steps;

pub use migrate::{create_database, migrate, migrate_package};
