//! The linter, and Schemathesis against the running services: the orders, once for each way to identify customers, and
//! the examples'.

use devstack::{or_skip, workspace};
use fixtures::Served;
use openapi_check::tools::{FOLDER, lint, node_tools, passed, schemathesis};

use crate::tokens::{bearer, claims, jwks};

/// An API of this checkout: its manifest, its document, and how Schemathesis tests it.
type Api = [String; 3];

fn the_orders() -> Api {
    ["spin.toml", "showcase/console/static/openapi.json", "tests/openapi/schemathesis.toml"].map(str::to_owned)
}

fn example(name: &str) -> Api {
    ["spin.toml", "openapi.json", "schemathesis.toml"].map(|file| format!("showcase/order-by-{name}/{file}"))
}

/// A customer, as a gateway names it.
const ADA: &str = "X-User-Id: ada";

#[test]
fn the_linter_finds_nothing() {
    if let Some(tools) = or_skip("the_linter_finds_nothing", node_tools(false)) {
        for [_, document, _] in [the_orders(), example("key"), example("etag")] {
            lint(&tools, &workspace::root().join(document)).unwrap();
        }
    }
}

/// Serves an API with these variables, and tests it with all phases, so many requests per operation, and a further
/// field of each; the same requests each time. Returns the report, or nothing where the tool is missing.
async fn test([manifest, document, settings]: Api, name: &str, set: &[(&str, &str)], max: u32, field: &str) -> String {
    let Some(tool) = or_skip(name, schemathesis(false)) else {
        return String::new();
    };
    let service = Served::start_with(&manifest, name, set).await.unwrap();
    // For its caches, which another run must not share.
    let folder = workspace::target().join("schemathesis-runs").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let root = workspace::root();
    let mut command = tool.command("schemathesis");
    command.arg("--config-file").arg(root.join(settings)).arg("run").arg(root.join(document));
    command.args(["--url", &service.base_url(), "--max-examples", &max.to_string(), "--header", field]);
    command.args(["--generation-deterministic", "--no-color"]).current_dir(&folder);
    command.env("SCHEMATHESIS_HOOKS", root.join(FOLDER).join("hooks.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    tokio::task::block_in_place(|| passed(command)).unwrap_or_else(|report| panic!("{report}"))
}

/// The same for the orders, with an identity; demands also that the links of the document were followed.
async fn test_orders(name: &str, identity: &[(&str, &str)], max: u32, field: &str) {
    // Preflights need origins. Nobody knows the token of the feed: with it, requests would wait.
    let more = [("cors_origins", "*"), ("events_token", "a-token-that-is-not-sent-and-not-short")];
    let report = test(the_orders(), name, &[identity, &more].concat(), max, field).await;
    assert!(report.is_empty() || report.contains("Stateful"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing() {
    test_orders("schemathesis", &[("identity", "none")], 60, ADA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_behind_a_gateway() {
    test_orders("schemathesis_gateway", &[("identity", "header")], 8, ADA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_with_tokens() {
    let (keys, token) = (jwks().to_string(), bearer("EdDSA", "EdDSA", &claims("ada")));
    let issued = [("jwt_issuer", "https://issuer"), ("jwt_audience", "orders")];
    let identity = [&[("identity", "jwt"), ("jwt_keys", &*keys)], &issued[..]].concat();
    test_orders("schemathesis_tokens", &identity, 8, &format!("Authorization: {token}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_in_order_by_key() {
    test(example("key"), "schemathesis_by_key", &[], 20, ADA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_in_order_by_etag() {
    test(example("etag"), "schemathesis_by_etag", &[], 20, ADA).await;
}
