//! Looking orders up, paths and methods, and what the service says of its health.

use std::time::Duration;

use reqwest::Method;

use crate::support::service;

#[tokio::test]
async fn an_order_is_found_by_its_id_only_and_nothing_at_other_paths() {
    applies_to!(Servers, Partitions, Distributed, Embedded, Deployment);
    let service = service().start().await;
    let first = service.new_order().await;
    let location = first.the("location");
    let found = service.get_order(&first).await;
    assert_eq!(found.body, first.body);
    let head = service.request(Method::HEAD, location, &[], "").expect(200).await;
    assert_eq!((head.the("content-length"), &*head.body), (found.the("content-length"), ""));

    for id in ["01970000-0000-7000-8000-000000000000", "nope", "%00", "1'--"] {
        service.get(&format!("/api/v1/orders/{id}")).problem(404, "order-not-found").await;
    }
    let shouted = location.to_uppercase().replace("/API/V1/ORDERS", "/api/v1/orders");
    if shouted != location {
        service.get(&shouted).problem(404, "order-not-found").await;
    }
    for path in ["/api", "/api/v1/orders/", "/api/v1/orders/a/b", "/api/v2/orders", "/api/v1/idempotency-keys"] {
        service.get(path).problem(404, "not-found").await;
    }
    for (method, path, allow) in [
        (Method::PUT, "/api/v1/orders", "GET, HEAD, POST"),
        (Method::POST, "/api/v1/idempotency-keys/k", "GET, HEAD"),
        (Method::DELETE, "/api/v1/orders/01970000-0000-7000-8000-000000000000", "GET, HEAD"),
        (Method::POST, "/healthz", "GET, HEAD"),
        (Method::from_bytes(b"BREW").unwrap(), "/readyz", "GET, HEAD"),
    ] {
        let refused = service.request(method, path, &[], "").problem(405, "method-not-allowed").await;
        assert_eq!(refused.the("allow"), allow);
    }
}

#[tokio::test]
async fn health_asks_no_store_and_readiness_asks_both() {
    applies_to!(Servers, Partitions, Distributed);
    let mut service = service().own_redis().own_postgres().variable("database_timeout_ms", 1000).start().await;
    let ready = service.get("/readyz").expect(200).await.json();
    assert_eq!(ready["status"], "ready");
    assert!(["redis", "postgres"].iter().all(|store| ready["checks"][store]["latencyMs"].is_number()), "{ready}");

    // Callers share a result for a second.
    let next_probe = || tokio::time::sleep(Duration::from_millis(1100));
    service.redis().stop().unwrap();
    next_probe().await;
    let degraded = service.get("/readyz").expect(200).await.json();
    let (redis, postgres) = (&degraded["checks"]["redis"], &degraded["checks"]["postgres"]);
    assert_eq!([&degraded["status"], &redis["status"], &postgres["status"]], ["degraded", "down", "up"]);

    service.postgres().stop().unwrap();
    next_probe().await;
    assert_eq!(service.get("/readyz").expect(503).await.json()["status"], "unavailable");
    service.get("/healthz").expect(200).await;

    service.redis().restart().unwrap();
    service.postgres().restart().unwrap();
    next_probe().await;
    assert_eq!(service.get("/readyz").await.json()["status"], "ready");
}

#[tokio::test]
async fn a_database_with_an_older_schema_or_none_is_not_ready() {
    applies_to!(Servers, Partitions, Distributed);
    let service = service().start().await;
    let is_not_ready = async || {
        for path in ["/readyz", "/readyz?lost-store=degraded"] {
            service.get(path).expect(503).await;
        }
    };
    service.sql("DROP FUNCTION insert_orders_2").await;
    is_not_ready().await;
    // One by one, with the statement that settles conflicts.
    service.new_order().await;
    service.sql("ALTER TABLE orders DROP COLUMN seq, DROP COLUMN based_on").await;
    service.get("/api/v1/orders").problem(503, "unavailable").await;
    assert!(service.logs().contains("apply the migrations"));
    service.sql("ALTER TABLE orders RENAME TO gone").await;
    is_not_ready().await;
    let refused = service.new_order().problem(503, "unavailable").await;
    assert!(!refused.body.contains("relation"), "no store's words");
}
