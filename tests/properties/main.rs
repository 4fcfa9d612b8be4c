//! Properties of all keys, all bodies and all pairs of requests, tested on generated ones.
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
mod schemas;
mod spelling;
