//! Spin's interfaces as traits for the host to implement; generated, see build.rs.
#![allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]

include!(concat!(env!("OUT_DIR"), "/spin.rs"));
