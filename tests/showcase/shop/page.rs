//! The shop's page in a real browser, with its puller: `showcase/console/tests/browser/shop.test.mjs` has the flows.

use devstack::scheduler::Puller;
use devstack::{Browser, or_skip};

use super::support::{Shop, TOKEN};

#[tokio::test]
async fn the_shop_in_a_browser() {
    let Some(browser) = or_skip("the_shop_in_a_browser", Browser::find()) else {
        return;
    };
    let shop = Shop::served("shop_browser").await;
    let _puller = Puller::start(shop.0.address(), TOKEN);
    let output = browser
        .flows(&["shop.test.mjs"])
        .env("SHOP_URL", shop.0.base_url())
        .env("OPERATOR_TOKEN", TOKEN)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
