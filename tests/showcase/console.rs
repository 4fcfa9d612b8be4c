//! The console and the reference page in a real browser, on the built application: `showcase/console/tests/browser` has
//! the flows.

use devstack::{Browser, or_skip};
use fixtures::Served;

/// The folder for new screenshots, relative to the checkout; without it none are made.
const SCREENSHOTS: &str = "CONSOLE_SCREENSHOTS";

#[tokio::test]
async fn the_console_in_a_browser() {
    let Some(browser) = or_skip("the_console_in_a_browser", Browser::find()) else {
        return;
    };
    let open = served("console", "none").await;
    let identified = served("console_header", "header").await;
    let mut tests = browser.flows(&["console.test.mjs", "reference.test.mjs"]);
    tests.env("CONSOLE_URL", open.base_url()).env("IDENTITY_URL", identified.base_url());
    if let Ok(folder) = std::env::var(SCREENSHOTS) {
        tests.env("SCREENSHOTS", devstack::workspace::root().join(folder));
    }
    let output = tests.output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

async fn served(name: &str, identity: &str) -> Served {
    Served::start_with("spin.toml", name, &[("identity", identity)]).await.unwrap()
}
