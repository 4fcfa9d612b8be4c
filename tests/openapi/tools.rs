//! The linter, and Schemathesis against the running service, once for each way to identify customers.

use base64ct::{Base64UrlUnpadded, Encoding};
use devstack::{Served, workspace};
use hmac::{Hmac, KeyInit, Mac};
use openapi_check::tools::{NodeTools, Run, Schemathesis, or_skip};
use serde_json::json;
use sha2::Sha256;

const DOCUMENT: &str = "web/static/openapi.json";

/// The customer and the key of tokens.
const SECRET: &[u8] = b"a-secret-of-at-least-thirty-two-bytes";

#[test]
fn the_linter_finds_nothing() {
    if let Some(tools) = or_skip("the_linter_finds_nothing", NodeTools::find()) {
        tools.lint(&workspace::root().join(DOCUMENT)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing() {
    // Preflights are answered where origins are set.
    let variables = [("identity", "none"), ("cors_origins", "*")];
    schemathesis("schemathesis_finds_nothing", &variables, 60, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_behind_a_gateway() {
    let variables = [("identity", "header"), ("cors_origins", "*")];
    let fields = ["X-User-Id: ada".to_owned()];
    let test = "schemathesis_finds_nothing_behind_a_gateway";
    schemathesis(test, &variables, 8, &fields).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_with_tokens() {
    let keys = json!({"keys": [{
        "kty": "oct", "kid": "k", "alg": "HS256", "k": Base64UrlUnpadded::encode_string(SECRET)
    }]});
    let keys = keys.to_string();
    let variables = [
        ("identity", "jwt"),
        ("jwt_keys", &*keys),
        ("cors_origins", "*"),
    ];
    let fields = [format!("Authorization: Bearer {}", token())];
    let test = "schemathesis_finds_nothing_with_tokens";
    schemathesis(test, &variables, 8, &fields).await;
}

async fn schemathesis(test: &str, variables: &[(&str, &str)], examples: u32, fields: &[String]) {
    let Some(tool) = or_skip(test, Schemathesis::find()) else {
        return;
    };
    let service = Served::start_with("spin.toml", test, variables)
        .await
        .unwrap();
    let root = workspace::root();
    let run = Run {
        name: test,
        document: &root.join(DOCUMENT),
        configuration: &root.join("tests/openapi/schemathesis.toml"),
        base_url: &service.base_url(),
        examples,
        fields,
    };
    let tested = tokio::task::block_in_place(|| tool.test(run));
    let report = tested.unwrap_or_else(|report| panic!("{report}"));
    assert!(report.contains("Stateful"), "{report}");
}

/// A token that is valid for an hour.
fn token() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let encode =
        |value: serde_json::Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
    let head = encode(json!({"alg": "HS256", "kid": "k", "typ": "JWT"}));
    let claims = encode(json!({"sub": "ada", "exp": now.unwrap().as_secs() + 3600}));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    mac.update(format!("{head}.{claims}").as_bytes());
    let signature = Base64UrlUnpadded::encode_string(&mac.finalize().into_bytes());
    format!("{head}.{claims}.{signature}")
}
