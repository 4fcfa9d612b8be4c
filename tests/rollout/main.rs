//! Migrations under a service that runs: what they do to stored orders, the components of two releases side
//! by side, and a large table under load. `cargo xtask test` runs these tests; see `previous/README.md` for
//! the other release.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod expand;
mod live;
mod side_by_side;
mod support;
