//! The OpenAPI document compared with the code: its problems, its order, and its examples; and
//! a running service with the document, by tools that generate requests from it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod document;
mod examples;
mod problems;
mod tools;
