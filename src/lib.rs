//! Creates an order exactly once per customer and `Idempotency-Key`.
//!
//! Everything here but `component` is plain Rust over the traits in [`ports`]: no Spin, no sockets, no clock
//! and no randomness of its own. `component` exists on wasm32 only and ties those traits to Spin's interfaces.

pub mod breaker;
pub mod create_order;
pub mod customer;
pub mod error;
pub mod group_commit;
mod hex;
pub mod http;
pub mod idempotency;
pub mod identity;
pub mod json;
pub mod order;
pub mod ports;
pub mod reading;
pub mod settings;
pub mod stores;

#[cfg(target_arch = "wasm32")]
mod component;
