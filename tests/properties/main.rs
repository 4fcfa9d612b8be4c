//! What holds for every key, every body and every pair of requests, tried on generated ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod checks;
mod documents;
mod fingerprint;
mod json_body;
mod key_header;
mod spelling;
