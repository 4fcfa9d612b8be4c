//! Says that a test is skipped, and why.

use std::io::Write;

use anyhow::Result;

/// What a test needs; or nothing, after saying that the test is skipped, and why.
pub fn or_skip<T>(test: &str, needed: Result<T>) -> Option<T> {
    needed
        .inspect_err(|why| {
            // Not with eprintln!, which a test that passes does not show.
            let line = format!("SKIPPED {test}: {why:#}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
        })
        .ok()
}
