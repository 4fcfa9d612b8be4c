//! What protects customers of one service from each other, browsers from other pages, and the service from its clients'
//! mistakes: caches, CORS, conditions, bounded answers, ids that cannot be guessed.

use std::collections::BTreeMap;

use futures::future::join_all;
use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use crate::support::{Answer, Service, an_order, new_key, service};

const ORDERS: &str = "/api/v1/orders";
const SHOP: &str = "https://shop.example";

/// Asks for an order under a new key with more fields.
async fn order_with(service: &Service, fields: &[(&str, &str)]) -> Answer {
    let key = new_key();
    let own = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
    let fields = [&own, fields].concat();
    let body = an_order().to_string();
    service.request(Method::POST, ORDERS, &fields, body).await
}

#[tokio::test]
async fn caches_keep_no_problem_and_mix_no_customers() {
    applies_to!(Servers, Embedded);
    let service = service().variable("identity", "header").start().await;
    let who = [("x-user-id", "c")];
    let created = order_with(&service, &who).await;
    created.assert_created();
    let of_customers = [
        service.request(Method::GET, ORDERS, &who, "").await,
        service.request(Method::GET, ORDERS, &[], "").await,
        created,
    ];
    for answer in of_customers {
        assert_eq!(answer.field("vary"), Some("X-User-Id"), "{answer:?}");
    }
    for (method, path, status) in
        [(Method::GET, ORDERS, 401), (Method::GET, "/nothing", 404), (Method::DELETE, ORDERS, 405)]
    {
        let problem = service.request(method, path, &[], "").await;
        assert_eq!(problem.status, status);
        assert_eq!(problem.field("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn pages_of_listed_origins_may_use_the_api_and_others_may_not() {
    applies_to!(Servers, Embedded);
    let setup = service().variable("cors_origins", format!("{SHOP}, http://localhost:8080"));
    let setup = setup.variable("cors_allowed_headers", "sentry-trace, x-requested-with");
    let service = setup.start().await;
    let preflight = async |service: &Service, origin: &str| {
        let fields = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,idempotency-key"),
        ];
        service.request(Method::OPTIONS, ORDERS, &fields, "").await
    };
    let answer = preflight(&service, SHOP).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert_eq!(answer.field("access-control-allow-origin"), Some(SHOP));
    assert_eq!(answer.field("content-length"), None);
    let methods = answer.field("access-control-allow-methods");
    assert_eq!(methods, Some("GET, HEAD, POST"));
    let allowed = answer.field("access-control-allow-headers").unwrap();
    for field in ["content-type", "idempotency-key", "traceparent", "baggage, sentry-trace, x-requested-with"] {
        assert!(allowed.contains(field), "{allowed}");
    }

    let created = order_with(&service, &[("origin", SHOP)]).await;
    created.assert_created();
    let exposed = created.field("access-control-expose-headers").unwrap();
    for field in ["etag", "location", "idempotent-replayed", "retry-after"] {
        assert!(exposed.contains(field), "{exposed}");
    }
    // A page has to see why it is rejected.
    let refused = service.request(Method::POST, ORDERS, &[("origin", SHOP)], "{}").await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.field("access-control-allow-origin"), Some(SHOP));

    let evil = "https://shop.example.evil";
    preflight(&service, evil).await.assert_problem(405, "method-not-allowed");
    let answer = order_with(&service, &[("origin", evil)]).await;
    assert_eq!(answer.field("access-control-allow-origin"), None);
    assert_eq!(answer.field("vary"), Some("origin"));

    let off = crate::support::service().start().await;
    preflight(&off, SHOP).await.assert_problem(405, "method-not-allowed");
    let answer = order_with(&off, &[("origin", SHOP)]).await;
    assert_eq!(answer.field("access-control-allow-origin"), None);
    assert_eq!(answer.field("vary"), None);
}

#[tokio::test]
async fn a_compressed_body_is_refused_and_stores_nothing() {
    applies_to!(Servers, Embedded, Deployment);
    let service = service().start().await;
    for coding in ["gzip", "br", "identity, gzip"] {
        let refused = order_with(&service, &[("content-encoding", coding)]).await;
        refused.assert_problem(415, "unsupported-content-encoding");
        assert_eq!(refused.field("accept-encoding"), Some("identity"));
    }
    let accepted = order_with(&service, &[("content-encoding", "identity")]).await;
    accepted.assert_created();
}

#[tokio::test]
async fn conditions_hold_for_reading_and_creating_alike() {
    applies_to!(Servers, Embedded, Deployment);
    let service = service().start().await;
    let created = order_with(&service, &[]).await;
    let order = created.field("location").unwrap();
    for path in [ORDERS, order] {
        let read = service.get(path).await;
        let etag = read.field("etag").unwrap();
        let get = async |fields: &[(&str, &str)]| service.request(Method::GET, path, fields, "").await;
        assert_eq!(get(&[("if-match", etag)]).await.body, read.body);
        assert_eq!(get(&[("if-match", "*")]).await.status, 200);
        let known = get(&[("if-match", etag), ("if-none-match", etag)]).await;
        assert_eq!(known.status, 304);
        for other in ["\"other\"", &format!("W/{etag}")] {
            let failed = get(&[("if-match", other), ("if-none-match", etag)]).await;
            failed.assert_problem(412, "precondition-failed");
            assert_eq!(failed.field("etag"), Some(etag));
        }
    }
    let missing = service.request(Method::GET, "/api/v1/orders/x", &[("if-match", "\"x\"")], "").await;
    missing.assert_problem(404, "order-not-found");

    let etag = service.get(ORDERS).await;
    let etag = etag.field("etag").unwrap();
    let any = order_with(&service, &[("if-none-match", "*")]).await;
    any.assert_problem(412, "precondition-failed");
    for tag in ["\"other\"", etag] {
        let refused = order_with(&service, &[("if-none-match", tag)]).await;
        refused.assert_problem(400, "unsupported-condition");
    }
    let list = service.get(ORDERS).await;
    assert_eq!(list.field("etag"), Some(etag), "nothing was stored");
}

#[tokio::test]
async fn without_a_key_nothing_invites_to_repeat_blindly() {
    applies_to!(Servers);
    let up = service().variable("precondition", "etag").start().await;
    let order = async |service: &Service, tag: &str| {
        let fields = [("content-type", "application/json"), ("if-match", tag)];
        let body = an_order().to_string();
        service.request(Method::POST, ORDERS, &fields, body).await
    };
    order(&up, "*").await.assert_problem(428, "precondition-required");
    let list = up.get(ORDERS).await;
    assert_eq!(list.json()["orders"].as_array().map(Vec::len), Some(0));
    let tag = list.field("etag").unwrap();
    order(&up, tag).await.assert_created();
    order(&up, tag).await.assert_problem(412, "precondition-failed");
    let keyed = order_with(&up, &[("if-match", "*")]).await;
    keyed.assert_created();

    let down = service()
        .variable("precondition", "etag")
        .variable("database_url", "postgres://u@127.0.0.1:1/db")
        .start()
        .await;
    let undecided = order(&down, tag).await;
    undecided.assert_problem(503, "undecided");
    assert_eq!(undecided.field("retry-after"), None);
    assert!(undecided.body.contains("read GET /api/v1/orders first"));
    let keyed = order_with(&down, &[("if-match", tag)]).await;
    keyed.assert_problem(503, "unavailable");
    assert!(keyed.field("retry-after").is_some());
}

#[tokio::test]
async fn ids_of_one_millisecond_have_nothing_in_common() {
    applies_to!(Servers, Embedded);
    let service = service().patient_with_redis().start().await;
    let mut of_millisecond: BTreeMap<u128, Vec<u128>> = BTreeMap::new();
    let mut pairs = 0;
    for _ in 0..20 {
        let answers = join_all((0..100).map(|_| order_with(&service, &[]))).await;
        for answer in answers {
            let body: Value = answer.assert_created().json();
            let id: Uuid = body["orderId"].as_str().unwrap().parse().unwrap();
            let bits = id.as_u128();
            // After the version, 12 bits; after the variant, the first 30 of 62.
            let random = (bits >> 64 & 0xfff) << 30 | bits >> 32 & 0x3fff_ffff;
            let others = of_millisecond.entry(bits >> 80).or_default();
            for other in others.iter() {
                pairs += 1;
                let distance = random.abs_diff(*other);
                assert!(distance > 1 << 12, "{distance} apart: {id}");
            }
            others.push(random);
        }
        if pairs > 100 {
            return;
        }
    }
    panic!("only {pairs} pairs of ids had the same millisecond");
}
