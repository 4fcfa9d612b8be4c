//! The order handler: the shape of an order, and on Wasm the component that serves it. The protocol, the API over HTTP
//! and the stores are in `lib/`; they know no orders.

pub mod order;

pub use order::ORDERS;

#[cfg(target_arch = "wasm32")]
exactly_once_spin::component!(ORDERS);
