//! The applications of `showcase/` over HTTP, the pages in a browser, and a project made from the template.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod console;
mod notifications;
mod order_by_etag;
mod order_by_key;
mod payments;
mod shop;
mod template;
