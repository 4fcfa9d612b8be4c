//! What protects customers of one service from each other, browsers from other pages, and the service from its clients'
//! mistakes: caches, CORS, conditions, bounded responses, ids that cannot be guessed.

use std::collections::BTreeMap;

use fixtures::client::Asked;
use futures::future::join_all;
use reqwest::Method;
use uuid::Uuid;

use crate::support::{ORDERS, Service, an_order, service};

const SHOP: &str = "https://shop.example";

#[tokio::test]
async fn caches_keep_no_problem_and_mix_no_customers() {
    applies_to!(Servers, Embedded);
    let service = service().variable("identity", "header").start().await;
    let who = ("x-user-id", "c");
    for asked in [service.new_order().fields(&[who]), service.get(ORDERS).fields(&[who]), service.get(ORDERS)] {
        assert_eq!(asked.await.the("vary"), "X-User-Id");
    }
    for (method, path, status) in
        [(Method::GET, ORDERS, 401), (Method::GET, "/nothing", 404), (Method::DELETE, ORDERS, 405)]
    {
        let problem = service.request(method, path, &[], "").expect(status).await;
        assert_eq!(problem.the("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn pages_of_listed_origins_may_use_the_api_and_others_may_not() {
    applies_to!(Servers, Embedded);
    let setup = service().variable("cors_origins", format!("{SHOP}, http://localhost:8080"));
    let on = setup.variable("cors_allowed_headers", "sentry-trace, x-requested-with").start().await;
    let preflight = |service: &Service, origin: &str| {
        let asked = service.request(Method::OPTIONS, ORDERS, &[("access-control-request-method", "POST")], "");
        asked.field("access-control-request-headers", "content-type,idempotency-key").field("origin", origin)
    };
    let answer = preflight(&on, SHOP).expect(204).await;
    assert_eq!((answer.the("access-control-allow-origin"), &*answer.body), (SHOP, ""));
    assert_eq!(answer.field("content-length"), None);
    assert_eq!(answer.the("access-control-allow-methods"), "GET, HEAD, POST");
    assert!(answer.the("access-control-allow-headers").ends_with("baggage, sentry-trace, x-requested-with"));

    let created = on.new_order().field("origin", SHOP).await;
    assert!(created.the("access-control-expose-headers").contains("idempotent-replayed"), "{created:?}");
    // A page has to see why it is rejected.
    let refused = on.request(Method::POST, ORDERS, &[("origin", SHOP)], "{}").expect(400).await;
    assert_eq!(refused.the("access-control-allow-origin"), SHOP);

    let off = service().start().await;
    for (service, origin, vary) in [(&on, "https://shop.example.evil", Some("origin")), (&off, SHOP, None)] {
        preflight(service, origin).problem(405, "method-not-allowed").await;
        let answer = service.new_order().field("origin", origin).await;
        assert_eq!(answer.field("access-control-allow-origin"), None);
        assert_eq!(answer.field("vary"), vary);
    }
}

#[tokio::test]
async fn conditions_hold_for_reading_and_creating_alike() {
    applies_to!(Servers, Embedded, Deployment);
    let service = service().start().await;
    let created = service.new_order().await;
    for path in [ORDERS, created.the("location")] {
        let read = service.get(path).await;
        let etag = read.the("etag");
        let on = |tag: &str| service.get(path).field("if-match", tag);
        assert_eq!(on(etag).await.body, read.body);
        on("*").expect(200).await;
        on(etag).field("if-none-match", etag).expect(304).await;
        for other in ["\"other\"", &format!("W/{etag}")] {
            let failed = on(other).field("if-none-match", etag).problem(412, "precondition-failed").await;
            assert_eq!(failed.the("etag"), etag);
        }
    }
    service.get("/api/v1/orders/x").field("if-match", "\"x\"").problem(404, "order-not-found").await;

    let list = service.get(ORDERS).await;
    let create_on = |tag: &str| service.new_order().field("if-none-match", tag);
    create_on("*").problem(412, "precondition-failed").await;
    for tag in ["\"other\"", list.the("etag")] {
        create_on(tag).problem(400, "unsupported-condition").await;
    }
    assert_eq!(service.get(ORDERS).await.the("etag"), list.the("etag"), "nothing was stored");
}

#[tokio::test]
async fn without_a_key_nothing_invites_to_repeat_blindly() {
    applies_to!(Servers);
    let setup = || service().variable("precondition", "etag");
    let up = setup().start().await;
    fn order(service: &Service, tag: &str) -> Asked {
        service.order_without_key(0, &an_order()).field("if-match", tag)
    }
    order(&up, "*").problem(428, "precondition-required").await;
    let list = up.get(ORDERS).await;
    assert_eq!(list.json()["orders"].as_array().map(Vec::len), Some(0));
    let tag = list.the("etag");
    order(&up, tag).created().await;
    order(&up, tag).problem(412, "precondition-failed").await;
    up.new_order().field("if-match", "*").await;

    let down = setup().variable("database_url", "postgres://u@127.0.0.1:1/db").start().await;
    let undecided = order(&down, tag).problem(503, "undecided").await;
    assert_eq!(undecided.field("retry-after"), None);
    assert!(undecided.body.contains("read GET /api/v1/orders first"));
    let keyed = down.new_order().field("if-match", tag).problem(503, "unavailable").await;
    assert!(keyed.field("retry-after").is_some());
}

#[tokio::test]
async fn ids_of_one_millisecond_have_nothing_in_common() {
    applies_to!(Servers, Embedded);
    let service = service().patient_with_redis().start().await;
    let (mut of_millisecond, mut pairs) = (BTreeMap::<u128, Vec<u128>>::new(), 0);
    for _ in 0..20 {
        for created in join_all((0..100).map(|_| service.new_order())).await {
            let bits = created.order_id().parse::<Uuid>().unwrap().as_u128();
            // After the version, 12 bits; after the variant, the first 30 of 62.
            let random = (bits >> 64 & 0xfff) << 30 | bits >> 32 & 0x3fff_ffff;
            let others = of_millisecond.entry(bits >> 80).or_default();
            let distance = others.iter().map(|other| random.abs_diff(*other)).min();
            assert!(distance.is_none_or(|distance| distance > 1 << 12), "{distance:?} apart");
            pairs += others.len();
            others.push(random);
        }
        if pairs > 100 {
            return;
        }
    }
    panic!("only {pairs} pairs of ids had the same millisecond");
}
