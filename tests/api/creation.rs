//! One order per key: the first response, and every repetition of it.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::{an_order, an_order_of, new_key, service};

#[tokio::test]
async fn a_first_request_creates_and_a_second_repeats_byte_for_byte() {
    applies_to!(Servers, Partitions, Embedded, Deployment);
    let service = service().start().await;
    let key = new_key();
    let body = json!({
        "currency": "EUR",
        "items": [
            {"sku": "A-1", "quantity": 2, "unitPrice": 1250},
            {"sku": "ß \"quoted\" 📦", "quantity": 1, "unitPrice": 0}
        ],
        "note": "zweimal klingeln"
    });
    let first = service.order(&key, &body).await;
    first.assert_created();
    assert_eq!(first.field("content-type"), Some("application/json"));
    assert_eq!(first.field("content-length"), Some(first.body.len().to_string().as_str()));

    let order = first.json();
    let id = order["orderId"].as_str().unwrap();
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7);
    assert_eq!(first.field("location"), Some(format!("/api/v1/orders/{id}").as_str()));
    assert_eq!(order["status"], "accepted");
    assert_eq!(order["currency"], "EUR");
    assert_eq!(order["items"], body["items"]);
    assert_eq!(order["note"], "zweimal klingeln");
    assert_eq!(order["total"], 2500);
    assert!(order["createdAt"].as_str().unwrap().ends_with('Z'));

    for _ in 0..3 {
        service.order(&key, &body).await.assert_replay_of(&first);
    }
    let shown = service.get(first.field("location").unwrap()).await;
    assert_eq!((shown.status, &shown.body), (200, &first.body));
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn another_key_is_another_order() {
    applies_to!(Servers, Partitions, Embedded, Deployment);
    let service = service().start().await;
    let one = service.order(&new_key(), &an_order()).await;
    let two = service.order(&new_key(), &an_order()).await;
    assert_ne!(one.assert_created().json()["orderId"], two.assert_created().json()["orderId"]);
}

#[tokio::test]
async fn quoted_bare_and_repeated_are_the_same_key() {
    applies_to!(Servers, Partitions, Embedded, Deployment);
    let service = service().start().await;
    let key = new_key();
    let first = service.order(&key, &an_order()).await;
    first.assert_created();
    for same in [format!("\"{key}\""), format!("{key},{key}"), format!("{key}, \"{key}\"")] {
        service.order(&same, &an_order()).await.assert_replay_of(&first);
    }
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn a_body_without_a_type_is_json() {
    applies_to!(Servers, Partitions, Embedded, Deployment);
    let service = service().start().await;
    let key = new_key();
    let fields = [("idempotency-key", key.as_str())];
    let plain = service.request(Method::POST, "/api/v1/orders", &fields, an_order().to_string());
    let first = plain.await;
    first.assert_created();
    service.order(&key, &an_order()).await.assert_replay_of(&first);
}

#[tokio::test]
async fn member_order_and_white_space_do_not_matter() {
    applies_to!(Servers, Partitions, Embedded, Deployment);
    let service = service().start().await;
    let key = new_key();
    let fields = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
    let spellings = [
        r#"{"currency":"EUR","items":[{"sku":"A","quantity":2,"unitPrice":5}]}"#,
        "{ \"items\" : [ {\"unitPrice\":5,\n\"quantity\":2, \"sku\":\"\\u0041\"} ],\n\t\"currency\":\"EUR\", \
         \"note\": null }",
    ];
    let post = |body: &'static str| service.request(reqwest::Method::POST, "/api/v1/orders", &fields, body);
    let first = post(spellings[0]).await;
    first.assert_created();
    post(spellings[1]).await.assert_replay_of(&first);
}

#[tokio::test]
async fn a_replay_survives_a_flush_of_redis() {
    applies_to!(Servers, Partitions);
    let service = service().own_redis().start().await;
    let key = new_key();
    let first = service.order(&key, &an_order()).await;
    first.assert_created();
    for _ in 0..2 {
        service.redis_command(&["FLUSHALL"]).await;
        service.order(&key, &an_order()).await.assert_replay_of(&first);
        service.order(&key, &an_order()).await.assert_replay_of(&first);
        let other = service.order(&key, &an_order_of(3)).await;
        other.assert_problem(422, "idempotency-key-reused");
    }
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn a_replay_survives_the_expiry_of_its_record() {
    applies_to!(Servers, Partitions);
    let setup = service().patient_with_redis().variable("reservation_ttl", 3);
    let service = setup.start().await;
    let key = new_key();
    let first = service.order(&key, &an_order()).await;
    first.assert_created();
    let record = service.record_of(&key);
    let exists = || async { service.redis_command(&["EXISTS", &record]).await };
    assert_eq!(exists().await, Some(redis::Value::Int(1)));
    while exists().await != Some(redis::Value::Int(0)) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    service.order(&key, &an_order()).await.assert_replay_of(&first);
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn a_replay_survives_a_restart_of_everything() {
    applies_to!(Servers, Partitions);
    let setup = service().own_redis().own_postgres();
    let mut service = setup.start().await;
    let key = new_key();
    let first = service.order(&key, &an_order()).await;
    first.assert_created();

    let address = service.address();
    assert!(service.apps[0].stop().unwrap().success());
    service.redis().stop().unwrap();
    service.postgres().stop().unwrap();
    service.postgres().restart().unwrap();
    service.redis().restart().unwrap();
    service.serve_at(address);

    service.order(&key, &an_order()).await.assert_replay_of(&first);
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn a_finished_order_is_replayed_without_postgres() {
    applies_to!(Servers, Partitions);
    let setup = service().own_postgres().patient_with_redis();
    let mut service = setup.start().await;
    let key = new_key();
    let first = service.order(&key, &an_order()).await;
    service.order(&key, &an_order()).await.assert_replay_of(&first);
    service.postgres().stop().unwrap();
    service.order(&key, &an_order()).await.assert_replay_of(&first);
}
