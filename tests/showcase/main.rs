//! The applications of `showcase/` over HTTP, the pages in a browser, and a project made from the template.

mod client;
mod console;
mod homework;
mod identity;
mod notifications;
mod order_by_etag;
mod order_by_key;
mod payments;
mod shop;
mod template;

/// Runs a command; shows what it printed if it fails.
fn assert_passes(mut command: std::process::Command) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}:\n{}{}", text(&output.stdout), text(&output.stderr));
}
