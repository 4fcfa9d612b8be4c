//! What is said to the stores, and how their answers are read: commands and statements without
//! connections. The component sends them through Spin; tests send the very same ones natively.

pub mod postgres;
pub mod redis;
