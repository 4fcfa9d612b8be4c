//! Identity: unidentified requests are rejected before any store is asked, and customers never see each other's orders.

use std::time::{SystemTime, UNIX_EPOCH};

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use p256::ecdsa::signature::Signer;
use reqwest::Method;
use rsa::{BigUint, Pkcs1v15Sign, RsaPrivateKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Answer, Service, Setup, an_order, an_order_of, new_key, service};

/// RFC 7515 A.1.1, A.2.1, A.3.1; RFC 8037 A.1.
const SECRET: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
const N: &str = "\
    ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZ\
    S-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2\
    R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcD\
    TW9gb54h4FRWyuXpoQ";
const D: &str = "\
    Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_G\
    O-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQl\
    BjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0\
    QU91p1DhOVRuOopznQ";
const P: &str = "\
    4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2\
    KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc";
const Q: &str = "\
    uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_\
    HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc";
const P256: [&str; 3] = [
    "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
];
const ED25519: [&str; 2] =
    ["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"];

fn encode(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

fn decode(text: &str) -> Vec<u8> {
    Base64UrlUnpadded::decode_vec(text).unwrap()
}

/// The public halves, each named after its algorithm.
fn jwks() -> Value {
    json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "kid": "EdDSA", "x": ED25519[0]},
        {"kty": "EC", "crv": "P-256", "kid": "ES256", "x": P256[0], "y": P256[1]},
        {"kty": "RSA", "kid": "RS256", "n": N, "e": "AQAB"},
        {"kty": "oct", "kid": "HS256", "k": SECRET},
        {"kty": "RSA", "use": "enc", "kid": "other", "n": N, "e": "AQAB"},
    ]})
}

fn sign(algorithm: &str, message: &[u8]) -> Vec<u8> {
    match algorithm {
        "EdDSA" => {
            let seed = decode(ED25519[1]).try_into().unwrap();
            let key = ed25519_dalek::SigningKey::from_bytes(&seed);
            key.sign(message).to_bytes().to_vec()
        }
        "ES256" => {
            let key = p256::ecdsa::SigningKey::from_slice(&decode(P256[2])).unwrap();
            let signature: p256::ecdsa::Signature = key.sign(message);
            signature.to_bytes().to_vec()
        }
        "RS256" => {
            let [n, d, p, q] = [N, D, P, Q].map(|text| BigUint::from_bytes_be(&decode(text)));
            let key = RsaPrivateKey::from_components(n, 65537_u32.into(), d, vec![p, q]).unwrap();
            let info = b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
            let scheme = Pkcs1v15Sign { hash_len: Some(32), prefix: info.as_slice().into() };
            key.sign(scheme, &Sha256::digest(message)).unwrap()
        }
        "HS256" => {
            let mac = Hmac::<Sha256>::new_from_slice(&decode(SECRET)).unwrap();
            mac.chain_update(message).finalize().into_bytes().to_vec()
        }
        _ => Vec::new(),
    }
}

/// Credentials with these claims.
fn bearer(algorithm: &str, kid: &str, claims: &Value) -> String {
    let header = json!({"alg": algorithm, "kid": kid}).to_string();
    let signed = [header, claims.to_string()].map(|part| encode(part.as_bytes())).join(".");
    format!("Bearer {signed}.{}", encode(&sign(algorithm, signed.as_bytes())))
}

/// Now, in seconds since the Unix epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims(customer: &str) -> Value {
    json!({"sub": customer, "exp": now() + 600, "iss": "https://issuer", "aud": ["orders"]})
}

fn with_tokens() -> Setup {
    service()
        .variable("identity", "jwt")
        .variable("jwt_keys", jwks())
        .variable("jwt_issuer", "https://issuer")
        .variable("jwt_audience", "orders")
}

fn with_gateway() -> Setup {
    service().variable("identity", "header")
}

/// Asks for an order under some credentials.
async fn order(service: &Service, who: &[(&str, &str)], key: &str, body: &Value) -> Answer {
    let own = [("content-type", "application/json"), ("idempotency-key", key)];
    let fields = [&own, who].concat();
    service.request(Method::POST, "/api/v1/orders", &fields, body.to_string()).await
}

async fn get(service: &Service, who: &[(&str, &str)], path: &str) -> Answer {
    service.request(Method::GET, path, who, "").await
}

#[tokio::test]
async fn a_token_of_every_algorithm_names_the_customer() {
    applies_to!(Servers, Embedded);
    let service = with_tokens().start().await;
    let key = new_key();
    let mut ids = Vec::new();
    for algorithm in ["EdDSA", "ES256", "RS256", "HS256"] {
        let token = bearer(algorithm, algorithm, &claims(algorithm));
        let who = [("authorization", token.as_str())];
        let first = order(&service, &who, &key, &an_order()).await;
        first.assert_created();
        let again = order(&service, &who, &key, &an_order()).await;
        again.assert_replay_of(&first);
        ids.push(first.json()["orderId"].clone());
    }
    ids.dedup();
    assert_eq!(ids.len(), 4, "the key is each customer's own");
    service.assert_stored(&key, 4).await;
    assert!(!service.logs().contains("identity is none"));
}

#[tokio::test]
async fn a_bad_token_is_refused_before_any_store_is_asked() {
    applies_to!(Servers);
    // No store answers: a request that asks one gets 503.
    let setup = with_tokens()
        .variable("redis_url", "redis://127.0.0.1:1")
        .variable("database_url", "postgres://u@127.0.0.1:1/db");
    let service = setup.start().await;
    let good = claims("c");
    let changed = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        bearer("EdDSA", "EdDSA", &claims)
    };
    let token = bearer("EdDSA", "EdDSA", &good);
    let refused = async |fields: &[(&str, &str)], kind: &str, challenge: &str| {
        for path in ["/api/v1/orders", "/api/v1/orders?limit=x", "/api/v1/idempotency-keys/k"] {
            let answer = get(&service, fields, path).await;
            answer.assert_problem(401, kind);
            assert_eq!(answer.field("www-authenticate"), Some(challenge));
        }
        // Before the key, the media type and the body are looked at, too.
        let answer = order(&service, fields, "two words", &json!(7)).await;
        answer.assert_problem(401, kind);
        answer
    };
    refused(&[], "unauthenticated", "Bearer").await;
    refused(&[("authorization", "Basic Yzpj")], "unauthenticated", "Bearer").await;

    let invalid = "Bearer error=\"invalid_token\"";
    let unsigned = encode(br#"{"alg":"none"}"#) + "." + &encode(good.to_string().as_bytes());
    for credentials in [
        "Bearer x".to_owned(),
        format!("Bearer {unsigned}."),
        token[..token.len() - 1].to_owned(),
        bearer("EdDSA", "ES256", &good),
        bearer("EdDSA", "unknown", &good),
        bearer("RS256", "other", &good),
        bearer("none", "EdDSA", &good),
        bearer("RS512", "RS256", &good),
        changed("nbf", json!(now() + 600)),
        changed("iss", json!("https://somebody.else")),
        changed("aud", json!("others")),
        changed("sub", json!("c".repeat(129))),
        changed("sub", json!("anonymous")),
        changed("exp", json!(null)),
        changed("long", json!("x".repeat(9000))),
    ] {
        let answer = refused(&[("authorization", &credentials)], "invalid-token", invalid).await;
        assert!(!answer.body.contains("expired"), "{credentials}");
    }
    let twice = [("authorization", token.as_str()); 2];
    refused(&twice, "invalid-token", invalid).await;
    let expired = changed("exp", json!(now() - 100));
    let answer = refused(&[("authorization", &expired)], "invalid-token", invalid).await;
    assert!(answer.body.contains("expired"));

    let admitted = get(&service, &[("authorization", &token)], "/api/v1/orders").await;
    admitted.assert_problem(503, "unavailable");
    let late = changed("exp", json!(now() - 30));
    let admitted = get(&service, &[("authorization", &late)], "/api/v1/orders").await;
    admitted.assert_problem(503, "unavailable");
    assert_eq!(service.get("/healthz").await.status, 200);
    let logs = service.logs();
    assert!(!logs.contains(&token) && !logs.contains(SECRET), "{logs}");
}

#[tokio::test]
async fn a_token_for_somebody_else_is_refused_where_no_issuer_and_audience_are_set() {
    applies_to!(Servers, Embedded);
    let setup = service().variable("identity", "jwt").variable("jwt_keys", jwks());
    let service = setup.start().await;
    let list = async |claims: &Value| {
        let token = bearer("EdDSA", "EdDSA", claims);
        get(&service, &[("authorization", &token)], "/api/v1/orders").await
    };
    let own = json!({"sub": "c", "exp": now() + 600});
    assert_eq!(list(&own).await.status, 200);
    for (name, value) in [("iss", json!("https://issuer")), ("aud", json!(["others"]))] {
        let mut others = own.clone();
        others[name] = value;
        list(&others).await.assert_problem(401, "invalid-token");
    }
}

#[tokio::test]
async fn a_gateway_has_to_name_one_customer() {
    applies_to!(Servers, Embedded);
    let service = with_gateway().start().await;
    let long = "c".repeat(129);
    for who in [
        &[][..],
        &[("x-user-id", "")],
        &[("x-user-id", "c"), ("x-user-id", "c")],
        &[("x-user-id", "alice, bob")],
        &[("x-user-id", long.as_str())],
        &[("x-user-id", "anonymous")],
        &[("authorization", "Bearer x")],
    ] {
        let refused = order(&service, who, &new_key(), &an_order()).await;
        refused.assert_problem(401, "unauthenticated");
        assert!(refused.field("www-authenticate").is_some());
    }
    let longest = &long[..128];
    let mine = order(&service, &[("X-User-Id", longest)], &new_key(), &an_order()).await;
    mine.assert_created();

    let other = with_gateway().variable("identity_header", "X-Customer").start().await;
    let who = [("x-customer", "c"), ("x-user-id", "d"), ("x-user-id", "e")];
    order(&other, &who, &new_key(), &an_order()).await.assert_created();
    let refused = get(&other, &who[1..2], "/api/v1/orders").await;
    refused.assert_problem(401, "unauthenticated");
}

#[tokio::test]
async fn customers_never_meet() {
    applies_to!(Servers);
    let service = with_gateway().patient_with_redis().start().await;
    let (alice, bob) = ([("x-user-id", "alice")], [("x-user-id", "bob")]);
    let record =
        |name: &str, key: &str| service.record_of(key).replace("9:anonymous", &format!("{}:{name}", name.len()));
    for round in 0..3 {
        let key = new_key();
        let of_alice = order(&service, &alice, &key, &an_order()).await;
        of_alice.assert_created();
        order(&service, &alice, &key, &an_order()).await.assert_replay_of(&of_alice);
        let (from, to) = (record("alice", &key), record("bob", &key));
        match round {
            0 => {}
            1 => {
                let gone = service.redis_command(&["DEL", &from]).await;
                assert_eq!(gone, Some(redis::Value::Int(1)));
            }
            // A finished record of the other customer's, for the same key and order.
            _ => {
                let copied = service.redis_command(&["COPY", &from, &to]).await;
                assert_eq!(copied, Some(redis::Value::Int(1)));
            }
        }
        let path = format!("/api/v1/idempotency-keys/{key}");
        get(&service, &bob, &path).await.assert_problem(404, "idempotency-key-not-found");
        let of_bob = order(&service, &bob, &key, &an_order_of(3)).await;
        of_bob.assert_created();
        assert_ne!(of_bob.json()["orderId"], of_alice.json()["orderId"]);
        service.assert_stored(&key, 2).await;

        for (who, own, others) in [(alice, &of_alice, &of_bob), (bob, &of_bob, &of_alice)] {
            let shown = get(&service, &who, own.field("location").unwrap()).await;
            assert_eq!((shown.status, &shown.body), (200, &own.body));
            let hidden = get(&service, &who, others.field("location").unwrap()).await;
            hidden.assert_problem(404, "order-not-found");
            let state = get(&service, &who, &path).await;
            assert_eq!(state.json()["orderId"], own.json()["orderId"]);
            let list = get(&service, &who, "/api/v1/orders").await.json();
            assert_eq!(list["orders"].as_array().unwrap().len(), round + 1);
            assert!(!list.to_string().contains(others.json()["orderId"].as_str().unwrap()));
        }
    }
}

#[tokio::test]
async fn an_identity_that_is_not_set_up_lets_nobody_in() {
    applies_to!(Servers, Embedded);
    let small = json!({"keys": [{"kty": "oct", "k": encode(b"s3cret")}]});
    for (variable, settings) in [
        ("identity", vec![("identity", "nobody".to_owned())]),
        ("identity", vec![("identity", String::new())]),
        ("identity_header", vec![("identity", "header".into()), ("identity_header", "X User".into())]),
        ("jwt_keys", vec![("identity", "jwt".into())]),
        ("jwt_keys", vec![("identity", "jwt".into()), ("jwt_keys", "not s3cret JSON".into())]),
        ("jwt_keys", vec![("identity", "jwt".into()), ("jwt_keys", r#"{"keys":[]}"#.into())]),
        ("jwt_keys", vec![("identity", "jwt".into()), ("jwt_keys", small.to_string())]),
    ] {
        let setup = settings.iter().fold(service(), |setup, (name, value)| setup.variable(name, value));
        let service = setup.start().await;
        let who = [("x-user-id", "c"), ("authorization", "Bearer x")];
        let refused = order(&service, &who, &new_key(), &an_order()).await;
        refused.assert_problem(500, "misconfigured");
        for path in ["/api/v1/orders", "/readyz"] {
            let refused = get(&service, &who, path).await;
            refused.assert_problem(500, "misconfigured");
        }
        let logs = service.logs();
        assert!(logs.contains(&format!("variable {variable} must")), "{logs}");
        assert!(!logs.contains("s3cret") && !logs.contains(&encode(b"s3cret")), "{logs}");
        assert_eq!(service.get("/healthz").await.status, 200);
    }
}

#[tokio::test]
async fn where_everybody_is_one_customer_the_log_says_so() {
    applies_to!(Servers, Embedded);
    let service = service().start().await;
    let (key, who) = (new_key(), [("x-user-id", "c"), ("authorization", "Bearer x")]);
    let first = order(&service, &who, &key, &an_order()).await;
    first.assert_created();
    service.order(&key, &an_order()).await.assert_replay_of(&first);
    assert!(service.logs().contains("identity is none"));
}
