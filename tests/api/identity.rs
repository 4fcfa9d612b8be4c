//! Identity: unidentified requests are rejected before any store is asked, and customers never see each other's orders.

use serde_json::{Value, json};

use crate::support::{ORDERS, Setup, an_order, an_order_of, new_key, service};
use crate::tokens::{SECRET, bearer, claims, encode, jwks, now};

fn with_tokens() -> Setup {
    let tokens = service().variable("identity", "jwt").variable("jwt_keys", jwks());
    tokens.variable("jwt_issuer", "https://issuer").variable("jwt_audience", "orders")
}

fn with_gateway() -> Setup {
    service().variable("identity", "header")
}

#[tokio::test]
async fn a_token_of_every_algorithm_names_the_customer() {
    applies_to!(Servers, Embedded);
    let service = with_tokens().start().await;
    let key = new_key();
    let mut ids = Vec::new();
    for algorithm in ["EdDSA", "ES256", "RS256", "HS256"] {
        let token = bearer(algorithm, algorithm, &claims(algorithm));
        let order = || service.order(&key, &an_order()).field("authorization", &token);
        let first = order().created().await;
        order().replay_of(&first).await;
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
    // No store responds: a request that asks one gets 503.
    let service = with_tokens()
        .variable("redis_url", "redis://127.0.0.1:1")
        .variable("database_url", "postgres://u@127.0.0.1:1/db")
        .start()
        .await;
    let good = claims("c");
    let changed = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        bearer("EdDSA", "EdDSA", &claims)
    };
    let token = bearer("EdDSA", "EdDSA", &good);
    let refused = async |fields: &[(&str, &str)], kind: &str, challenge: &str| {
        for path in [ORDERS, "/api/v1/orders?limit=x", "/api/v1/idempotency-keys/k"] {
            let answer = service.get(path).fields(fields).problem(401, kind).await;
            assert_eq!(answer.the("www-authenticate"), challenge);
        }
        // Before the key, the media type and the body are looked at, too.
        service.order("two words", &json!(7)).fields(fields).problem(401, kind).await
    };
    for fields in [&[][..], &[("authorization", "Basic Yzpj")]] {
        refused(fields, "unauthenticated", "Bearer").await;
    }

    let invalid = "Bearer error=\"invalid_token\"";
    let unsigned = encode(br#"{"alg":"none"}"#) + "." + &encode(good.to_string().as_bytes());
    for credentials in [
        format!("Bearer {unsigned}."),
        token[..token.len() - 1].to_owned(),
        bearer("EdDSA", "ES256", &good),
        bearer("RS256", "other", &good),
        changed("nbf", json!(now() + 600)),
        changed("iss", json!("https://somebody.else")),
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

    for admitted in [&token, &changed("exp", json!(now() - 30))] {
        service.get(ORDERS).field("authorization", admitted).problem(503, "unavailable").await;
    }
    service.get("/healthz").expect(200).await;
    let logs = service.logs();
    assert!(!logs.contains(&token) && !logs.contains(SECRET), "{logs}");
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
        &[("x-user-id", "anonymous")],
        &[("authorization", "Bearer x")],
    ] {
        let refused = service.order(&new_key(), &an_order()).fields(who).problem(401, "unauthenticated").await;
        assert!(refused.field("www-authenticate").is_some());
    }
    service.new_order().field("X-User-Id", &long[..128]).await;

    let other = with_gateway().variable("identity_header", "X-Customer").start().await;
    let who = [("x-customer", "c"), ("x-user-id", "d"), ("x-user-id", "e")];
    other.new_order().fields(&who).await;
    other.get(ORDERS).fields(&who[1..2]).problem(401, "unauthenticated").await;
}

#[tokio::test]
async fn customers_never_meet() {
    applies_to!(Servers);
    let service = with_gateway().patient_with_redis().start().await;
    let (alice, bob) = ("alice", "bob");
    let record = |who: &str, key: &str| service.record_of(key).replace("9:anonymous", &format!("{}:{who}", who.len()));
    let order = |who: &str, key: &str, order: &Value| service.order(key, order).field("x-user-id", who);
    let get = |who: &str, path: &str| service.get(path).field("x-user-id", who);
    for round in 0..3 {
        let key = new_key();
        let of_alice = order(alice, &key, &an_order()).created().await;
        order(alice, &key, &an_order()).replay_of(&of_alice).await;
        let (from, to) = (record(alice, &key), record(bob, &key));
        let done = match round {
            0 => None,
            1 => service.redis_command(&["DEL", &from]).await,
            // A finished record of the other customer's, for the same key and order.
            _ => service.redis_command(&["COPY", &from, &to]).await,
        };
        assert_eq!(done, (round > 0).then_some(redis::Value::Int(1)));
        let path = format!("/api/v1/idempotency-keys/{key}");
        get(bob, &path).problem(404, "idempotency-key-not-found").await;
        let of_bob = order(bob, &key, &an_order_of(3)).created().await;
        assert_ne!(of_bob.json()["orderId"], of_alice.json()["orderId"]);
        service.assert_stored(&key, 2).await;

        for (who, own, others) in [(alice, &of_alice, &of_bob), (bob, &of_bob, &of_alice)] {
            assert_eq!(get(who, own.the("location")).expect(200).await.body, own.body);
            get(who, others.the("location")).problem(404, "order-not-found").await;
            assert_eq!(get(who, &path).await.json()["orderId"], own.json()["orderId"]);
            let list = get(who, ORDERS).await.json();
            assert_eq!(list["orders"].as_array().unwrap().len(), round + 1);
            assert!(!list.to_string().contains(others.json()["orderId"].as_str().unwrap()));
        }
    }
}

/// What else is no identity: the tests of `exactly_once_http::settings`.
#[tokio::test]
async fn an_identity_that_is_not_set_up_lets_nobody_in() {
    applies_to!(Servers, Embedded);
    let small = json!({"keys": [{"kty": "oct", "k": encode(b"s3cret")}]});
    for (variable, settings) in [
        ("identity", vec![("identity", "nobody".to_owned())]),
        ("jwt_keys", vec![("identity", "jwt".into())]),
        ("jwt_keys", vec![("identity", "jwt".into()), ("jwt_keys", "not s3cret JSON".into())]),
        ("jwt_keys", vec![("identity", "jwt".into()), ("jwt_keys", small.to_string())]),
    ] {
        let service = settings.iter().fold(service(), |setup, (name, value)| setup.variable(name, value)).start().await;
        let who = [("x-user-id", "c"), ("authorization", "Bearer x")];
        service.order(&new_key(), &an_order()).fields(&who).problem(500, "misconfigured").await;
        for path in [ORDERS, "/readyz"] {
            service.get(path).fields(&who).problem(500, "misconfigured").await;
        }
        let logs = service.logs();
        assert!(logs.contains(&format!("variable {variable} must")), "{logs}");
        assert!(!logs.contains("s3cret") && !logs.contains(&encode(b"s3cret")), "{logs}");
        service.get("/healthz").expect(200).await;
    }
}

#[tokio::test]
async fn without_settings_everybody_is_one_customer_and_nothing_else_is_on() {
    applies_to!(Servers, Embedded);
    let service = service().start().await;
    let (key, who) = (new_key(), [("x-user-id", "c"), ("authorization", "Bearer x")]);
    let first = service.order(&key, &an_order()).fields(&who).created().await;
    service.order(&key, &an_order()).replay_of(&first).await;
    // So is the feed, without a token.
    let off = service.get("/api/v1/events").problem(404, "feed-off").await;
    assert!(off.body.contains("events_token"), "{off:?}");
    assert!(service.logs().contains("identity is none"));
    assert!(!service.logs().contains('{'), "requests are not logged by default");
}
