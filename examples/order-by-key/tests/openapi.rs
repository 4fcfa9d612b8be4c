//! The OpenAPI document of this API: linted, and compared with the running service by Schemathesis.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails panics"
)]

use devstack::{Served, workspace};
use openapi_check::Document;
use openapi_check::tools::{NodeTools, Run, Schemathesis, or_skip};

const FOLDER: &str = "examples/order-by-key";

#[test]
fn the_linter_finds_nothing() {
    if let Some(tools) = or_skip("order-by-key the_linter_finds_nothing", NodeTools::find()) {
        let document = workspace::root().join(FOLDER).join("openapi.json");
        tools.lint(&document).unwrap();
    }
}

#[test]
fn examples_match_their_schemas() {
    let file = workspace::root().join(FOLDER).join("openapi.json");
    let document = Document::read(&file).unwrap();
    assert!(document.examples().len() > 5);
    let bad = document.bad_examples().unwrap();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing() {
    let Some(tool) = or_skip(
        "order-by-key schemathesis_finds_nothing",
        Schemathesis::find(),
    ) else {
        return;
    };
    let folder = workspace::root().join(FOLDER);
    let manifest = format!("{FOLDER}/spin.toml");
    let service = Served::start(&manifest, "by_key_openapi").await.unwrap();
    let tested = tokio::task::block_in_place(|| {
        tool.test(Run {
            name: "order-by-key",
            document: &folder.join("openapi.json"),
            configuration: &folder.join("schemathesis.toml"),
            base_url: &service.base_url(),
            examples: 20,
            fields: &[],
        })
    });
    tested.unwrap_or_else(|report| panic!("{report}"));
}
