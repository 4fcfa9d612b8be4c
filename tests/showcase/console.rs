//! The console, the reference page and the shop's page in a real browser, on the built applications:
//! `showcase/console/tests/browser` has the flows.

use devstack::scheduler::Puller;
use devstack::{Browser, Host, or_skip, process, workspace};
use fixtures::Served;

use crate::assert_passes;
use crate::shop::support::{Shop, TOKEN};

/// The folder for new screenshots, relative to the checkout; without it none are made.
const SCREENSHOTS: &str = "CONSOLE_SCREENSHOTS";

/// Runs flows with these variables.
fn flows(test: &str, files: &[&str], variables: &[(&str, String)]) {
    if let Some(browser) = or_skip(test, Browser::find()) {
        let mut tests = browser.flows(files);
        tests.envs(variables.iter().map(|(name, value)| (name, value)));
        if let Ok(folder) = std::env::var(SCREENSHOTS) {
            tests.env("SCREENSHOTS", workspace::root().join(folder));
        }
        assert_passes(tests);
    }
}

#[tokio::test]
async fn the_console_in_a_browser() {
    let served = async |name, identity| Served::start_with("spin.toml", name, &[("identity", identity)]).await.unwrap();
    let (open, identified) = (served("console", "none").await, served("console_header", "header").await);
    // A host that the flows start, kill and start again: on the embedded store, which they set with Spin's variables.
    let address = process::local(process::free_port().unwrap());
    let host = Host::chosen().unwrap().command(&workspace::root().join("spin.toml"), address, &[]);
    let words: Vec<_> = std::iter::once(host.get_program()).chain(host.get_args()).map(|word| word.to_str()).collect();
    let variables = [
        ("CONSOLE_URL", open.base_url()),
        ("IDENTITY_URL", identified.base_url()),
        ("HOST_URL", format!("http://{address}")),
        ("HOST", serde_json::to_string(&words).unwrap()),
        ("SPIN_VARIABLE_STORE", "embedded".to_owned()),
        ("SPIN_VARIABLE_IDENTITY", "none".to_owned()),
    ];
    let files = ["console.test.mjs", "outage.test.mjs", "reference.test.mjs"];
    flows("the_console_in_a_browser", &files, &variables);
}

#[tokio::test]
async fn the_shop_in_a_browser() {
    let shop = Shop::served("shop_browser").await;
    let _puller = Puller::start(shop.0.address(), TOKEN);
    let variables = [("SHOP_URL", shop.0.base_url())];
    flows("the_shop_in_a_browser", &["shop.test.mjs"], &variables);
}
