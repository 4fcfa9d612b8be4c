//! The commands and statements of `stores`, sent over native connections: `redis` and `tokio-postgres`. The connections
//! belong to the caller.

mod ids;
pub mod postgres;
pub mod redis;

pub use ids::RandomIds;
