//! The schema of a database: creates and migrates it, with the migrations of this release inside. And the customers in
//! it: moves them to another one.

mod cells;
mod migrate;
mod steps;

pub use cells::move_slots;
pub use migrate::{create_database, migrate, migrate_package};
