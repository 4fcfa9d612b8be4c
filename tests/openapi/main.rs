//! The OpenAPI document compared with the code: its problems, its order, and its examples.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod document;
mod problems;
