//! The Postman collection, run against the service and both examples; it has a request for every operation of their
//! documents.

use std::collections::BTreeSet;

use devstack::{or_skip, workspace};
use fixtures::Served;
use openapi_check::Document;
use openapi_check::tools::{node_tools, passed};
use serde_json::Value;

use crate::{read, served};

const COLLECTION: &str = "docs/orders.postman_collection.json";

/// The services: the collection's variable for where each is, and its document.
const DOCUMENTS: [(&str, &str); 3] = [
    ("{{baseUrl}}", "showcase/console/static/openapi.json"),
    ("{{byKeyUrl}}", "showcase/order-by-key/openapi.json"),
    ("{{byEtagUrl}}", "showcase/order-by-etag/openapi.json"),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_collection_runs() {
    let Some(tools) = or_skip("the_collection_runs", node_tools(false)) else {
        return;
    };
    let service = served("docs_postman").await;
    let example = async |name: &str| {
        let manifest = format!("showcase/order-by-{name}/spin.toml");
        Served::start(&manifest, &format!("docs_postman_{name}")).await.unwrap()
    };
    let (by_key, by_etag) = (example("key").await, example("etag").await);
    let mut command = tools.command("newman");
    command.arg("run").arg(workspace::root().join(COLLECTION));
    command.args(["--color", "off", "--timeout-request", "20000"]);
    for (name, served) in [("baseUrl", &service), ("byKeyUrl", &by_key), ("byEtagUrl", &by_etag)] {
        command.arg("--env-var").arg(format!("{name}={}", served.base_url()));
    }
    tokio::task::block_in_place(|| passed(command)).unwrap_or_else(|report| panic!("{report}"));
}

#[test]
fn the_collection_has_every_operation() {
    let collection: Value = serde_json::from_str(&read(COLLECTION)).unwrap();
    let mut requests = Vec::new();
    collect(&collection, &mut requests);
    for (base, file) in DOCUMENTS {
        let document = Document::read(&workspace::root().join(file)).unwrap();
        // Preflights are a browser's.
        let operations = document.operations().into_iter().filter(|(method, ..)| method != "OPTIONS");
        let operation =
            |(method, url): &(String, String)| document.operation(method, url.strip_prefix(base)?.split('?').next()?);
        let covered: BTreeSet<_> = requests.iter().filter_map(operation).collect();
        for (method, path, operation) in operations {
            assert!(covered.contains(&operation), "{base}: no request for {method} {path}");
        }
    }
}

fn collect(item: &Value, requests: &mut Vec<(String, String)>) {
    for item in item["item"].as_array().into_iter().flatten() {
        collect(item, requests);
        let asserts = item["item"].is_array() || item["event"].to_string().contains("pm.test(");
        assert!(asserts, "{} asserts nothing", item["name"]);
    }
    let request = &item["request"];
    let url = request["url"]["raw"].as_str().or(request["url"].as_str());
    if let (Some(method), Some(url)) = (request["method"].as_str(), url) {
        requests.push((method.to_owned(), url.to_owned()));
    }
}
