//! Demands that the OpenAPI document has every response that these tests get.

use std::sync::LazyLock;

use fixtures::client::Answer;
use openapi_check::Document;
use reqwest::{Method, Url};

static DOCUMENT: LazyLock<Document> = LazyLock::new(|| {
    let file = devstack::workspace::root().join("showcase/console/static/openapi.json");
    Document::read(&file).unwrap()
});

/// Whether the response is the host's own: about itself, or because it rejected the request before a component saw it.
fn is_of_host(path: &str, answer: &Answer) -> bool {
    let refused = answer.field("content-type").is_none() && matches!(answer.status, 400 | 500);
    refused || path.starts_with("/.well-known/runner/")
}

/// Whether the response is of the component `console`, whose pages do not belong to the API.
fn is_of_web(answer: &Answer) -> bool {
    answer.field("content-security-policy").is_some()
}

/// Asserts that the document has a response: its status, fields and body.
pub fn assert_documented(method: &Method, url: &Url, answer: &Answer) {
    if is_of_host(url.path(), answer) || is_of_web(answer) {
        return;
    }
    let fields = answer.fields.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
    let fields: Vec<_> = fields.collect();
    let (method, path, status, body) = (method.as_str(), url.path(), answer.status, &*answer.body);
    let documented = openapi_check::Answer { method, path, status, fields: &fields, body };
    let undocumented = DOCUMENT.undocumented(&documented).unwrap();
    assert!(undocumented.is_empty(), "{undocumented:?} of the answer to {method} {url}: {answer:?}");
}
