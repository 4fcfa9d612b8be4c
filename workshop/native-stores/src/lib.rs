//! The commands and statements of `stores`, sent over native connections: `redis` and `tokio-postgres`. [`Native`] is a
//! host for an instance on a thread of `tokio`'s; a caller with connections of its own uses the functions.

mod ids;
mod platform;
pub mod postgres;
pub mod redis;

pub use ids::RandomIds;
pub use platform::{Connection, Native, OneshotSignals, Postgres};
