//! The linter, and Schemathesis against the running services: the orders, once for each way to identify customers, and
//! the examples'.

use base64ct::{Base64UrlUnpadded, Encoding};
use devstack::{or_skip, workspace};
use fixtures::Served;
use hmac::{Hmac, KeyInit, Mac};
use openapi_check::tools::{NodeTools, Run, Schemathesis};
use serde_json::json;
use sha2::Sha256;

/// An API of this checkout; paths are relative to that.
struct Api {
    manifest: &'static str,
    document: &'static str,
    configuration: &'static str,
}

const ORDERS: Api = Api {
    manifest: "spin.toml",
    document: "showcase/console/static/openapi.json",
    configuration: "tests/openapi/schemathesis.toml",
};

const BY_KEY: Api = Api {
    manifest: "showcase/order-by-key/spin.toml",
    document: "showcase/order-by-key/openapi.json",
    configuration: "showcase/order-by-key/schemathesis.toml",
};

const BY_ETAG: Api = Api {
    manifest: "showcase/order-by-etag/spin.toml",
    document: "showcase/order-by-etag/openapi.json",
    configuration: "showcase/order-by-etag/schemathesis.toml",
};

/// Nobody knows the token: with it, requests would wait. What it opens is tested in `tests/api/events.rs`.
const FEED: (&str, &str) = ("events_token", "a-token-that-is-not-sent-and-not-short");

/// The customer and the key of tokens.
const SECRET: &[u8] = b"a-secret-of-at-least-thirty-two-bytes";

#[test]
fn the_linter_finds_nothing() {
    if let Some(tools) = or_skip("the_linter_finds_nothing", NodeTools::find()) {
        for Api { document, .. } in [ORDERS, BY_KEY, BY_ETAG] {
            tools.lint(&workspace::root().join(document)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing() {
    // Preflights are answered where origins are set.
    let variables = [("identity", "none"), ("cors_origins", "*"), FEED];
    let test = "schemathesis_finds_nothing";
    let report = schemathesis(&ORDERS, test, &variables, 60, &[]).await;
    assert_stateful(report);
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_behind_a_gateway() {
    let variables = [("identity", "header"), ("cors_origins", "*"), FEED];
    let fields = ["X-User-Id: ada".to_owned()];
    let test = "schemathesis_finds_nothing_behind_a_gateway";
    assert_stateful(schemathesis(&ORDERS, test, &variables, 8, &fields).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_with_tokens() {
    let keys = json!({"keys": [{
        "kty": "oct", "kid": "k", "alg": "HS256", "k": Base64UrlUnpadded::encode_string(SECRET)
    }]});
    let keys = keys.to_string();
    let variables = [("identity", "jwt"), ("jwt_keys", &*keys), ("cors_origins", "*"), FEED];
    let fields = [format!("Authorization: Bearer {}", token())];
    let test = "schemathesis_finds_nothing_with_tokens";
    assert_stateful(schemathesis(&ORDERS, test, &variables, 8, &fields).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_in_order_by_key() {
    let test = "schemathesis_finds_nothing_in_order_by_key";
    schemathesis(&BY_KEY, test, &[], 20, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_in_order_by_etag() {
    let fields = ["X-User-Id: ada".to_owned()];
    let test = "schemathesis_finds_nothing_in_order_by_etag";
    schemathesis(&BY_ETAG, test, &[], 20, &fields).await;
}

/// Serves an API with these variables, and tests it; returns the report, unless the test is skipped.
async fn schemathesis(
    api: &Api,
    test: &str,
    variables: &[(&str, &str)],
    examples: u32,
    fields: &[String],
) -> Option<String> {
    let tool = or_skip(test, Schemathesis::find())?;
    let service = Served::start_with(api.manifest, test, variables).await.unwrap();
    let root = workspace::root();
    let run = Run {
        name: test,
        document: &root.join(api.document),
        configuration: &root.join(api.configuration),
        base_url: &service.base_url(),
        examples,
        fields,
    };
    let tested = tokio::task::block_in_place(|| tool.test(run));
    Some(tested.unwrap_or_else(|report| panic!("{report}")))
}

/// Demands that the links of the document were followed.
fn assert_stateful(report: Option<String>) {
    if let Some(report) = report {
        assert!(report.contains("Stateful"), "{report}");
    }
}

/// A token that is valid for an hour.
fn token() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let encode = |value: serde_json::Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
    let head = encode(json!({"alg": "HS256", "kid": "k", "typ": "JWT"}));
    let claims = encode(json!({"sub": "ada", "exp": now.unwrap().as_secs() + 3600}));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    mac.update(format!("{head}.{claims}").as_bytes());
    let signature = Base64UrlUnpadded::encode_string(&mac.finalize().into_bytes());
    format!("{head}.{claims}.{signature}")
}
