//! Looking orders up, paths and methods, and what the service says of its health.

use std::time::Duration;

use reqwest::Method;

use crate::support::{an_order, new_key, service};

#[tokio::test]
async fn an_order_is_found_by_its_id_only() {
    applies_to!(Servers, Partitions, Embedded, Deployment);
    let service = service().start().await;
    let first = service.order(&new_key(), &an_order()).await;
    let location = first.assert_created().field("location").unwrap();
    let found = service.get(location).await;
    assert_eq!((found.status, &found.body), (200, &first.body));
    let head = service.request(Method::HEAD, location, &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.field("content-length"), found.field("content-length"));

    for id in ["01970000-0000-7000-8000-000000000000", "nope", "%00", "1'--"] {
        let missing = service.get(&format!("/api/v1/orders/{id}")).await;
        missing.assert_problem(404, "order-not-found");
    }
    let shouted = location.to_uppercase().replace("/API/V1/ORDERS", "/api/v1/orders");
    if shouted != location {
        service.get(&shouted).await.assert_problem(404, "order-not-found");
    }
}

#[tokio::test]
async fn unknown_paths_are_404_and_wrong_methods_405() {
    applies_to!(Servers, Partitions, Embedded, Deployment);
    let service = service().start().await;
    for path in ["/api", "/api/v1/orders/", "/api/v1/orders/a/b", "/api/v2/orders", "/api/v1/idempotency-keys"] {
        service.get(path).await.assert_problem(404, "not-found");
    }
    for (method, path, allow) in [
        (Method::PUT, "/api/v1/orders", "GET, HEAD, POST"),
        (Method::POST, "/api/v1/idempotency-keys/k", "GET, HEAD"),
        (Method::DELETE, "/api/v1/orders/01970000-0000-7000-8000-000000000000", "GET, HEAD"),
        (Method::POST, "/healthz", "GET, HEAD"),
        (Method::from_bytes(b"BREW").unwrap(), "/readyz", "GET, HEAD"),
    ] {
        let refused = service.request(method, path, &[], "").await;
        refused.assert_problem(405, "method-not-allowed");
        assert_eq!(refused.field("allow"), Some(allow));
    }
}

#[tokio::test]
async fn health_asks_no_store_and_readiness_asks_both() {
    applies_to!(Servers, Partitions);
    let setup = service().own_redis().own_postgres();
    let mut service = setup.variable("database_timeout_ms", 1000).start().await;
    let ready = service.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &"ready".into()));
    assert!(ready.json()["checks"]["redis"]["latencyMs"].is_number());
    assert!(ready.json()["checks"]["postgres"]["latencyMs"].is_number());

    // Callers share a result for a second.
    let next_probe = || tokio::time::sleep(Duration::from_millis(1100));
    service.redis().stop().unwrap();
    next_probe().await;
    let degraded = service.get("/readyz").await;
    assert_eq!(degraded.status, 200);
    assert_eq!(degraded.json()["status"], "degraded");
    assert_eq!(degraded.json()["checks"]["redis"]["status"], "down");
    assert_eq!(degraded.json()["checks"]["postgres"]["status"], "up");

    service.postgres().stop().unwrap();
    next_probe().await;
    let unavailable = service.get("/readyz").await;
    assert_eq!(unavailable.status, 503);
    assert_eq!(unavailable.json()["status"], "unavailable");
    assert_eq!(service.get("/healthz").await.status, 200);

    service.redis().restart().unwrap();
    service.postgres().restart().unwrap();
    next_probe().await;
    assert_eq!(service.get("/readyz").await.json()["status"], "ready");
}

#[tokio::test]
async fn a_database_with_an_older_schema_is_not_ready() {
    applies_to!(Servers, Partitions);
    let service = service().start().await;
    let database = service.database().await.unwrap();
    let second = "DROP FUNCTION insert_orders_2";
    database.batch_execute(second).await.unwrap();
    for path in ["/readyz", "/readyz?lost-store=degraded"] {
        assert_eq!(service.get(path).await.status, 503, "{path}");
    }
    // One by one, with the statement that settles conflicts.
    let created = service.order(&new_key(), &an_order()).await;
    created.assert_created();
    let first = "ALTER TABLE orders DROP COLUMN seq, DROP COLUMN based_on";
    database.batch_execute(first).await.unwrap();
    let refused = service.get("/api/v1/orders").await;
    refused.assert_problem(503, "unavailable");
    assert!(service.logs().contains("apply the migrations"));
}

#[tokio::test]
async fn a_database_without_our_table_is_not_ready() {
    applies_to!(Servers, Partitions);
    let service = service().start().await;
    let database = service.database().await.unwrap();
    database.batch_execute("ALTER TABLE orders RENAME TO gone").await.unwrap();
    for path in ["/readyz", "/readyz?lost-store=degraded"] {
        assert_eq!(service.get(path).await.status, 503, "{path}");
    }
    let refused = service.order(&new_key(), &an_order()).await;
    refused.assert_problem(503, "unavailable");
    assert!(!refused.body.contains("relation"), "no store's words");
    assert!(service.logs().contains("apply the migrations"));
}
