//! One order per key: the first response, and every repetition of it.

use fixtures::until;
use reqwest::Method;
use serde_json::json;

use crate::support::{ORDERS, an_order, an_order_of, new_key, service};

#[tokio::test]
async fn a_first_request_creates_and_a_second_repeats_byte_for_byte() {
    applies_to!(Servers, Partitions, Distributed, Embedded, Deployment);
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
    let first = service.order(&key, &body).created().await;
    assert_eq!(first.the("content-type"), "application/json");
    assert_eq!(first.the("content-length"), first.body.len().to_string());

    let (order, id) = (first.json(), first.order_id());
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
    assert_eq!(first.the("location"), format!("{ORDERS}/{id}"));
    let computed = json!({"orderId": id, "status": "accepted", "total": 2500, "createdAt": order["createdAt"]});
    let mut expected = body.clone();
    expected.as_object_mut().unwrap().extend(computed.as_object().unwrap().clone());
    assert_eq!(order, expected);
    assert!(order["createdAt"].as_str().unwrap().ends_with('Z'));

    for _ in 0..3 {
        service.order(&key, &body).replay_of(&first).await;
    }
    assert_eq!(service.get_order(&first).await.body, first.body);
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn a_request_is_the_same_however_it_is_written() {
    applies_to!(Servers, Partitions, Distributed, Embedded, Deployment);
    let service = service().start().await;
    let (key, first) = service.first_order().await;
    for same in [format!("\"{key}\""), format!("{key},{key}"), format!("{key}, \"{key}\"")] {
        service.order(&same, &an_order()).replay_of(&first).await;
    }
    // Without a type, and with other white space, escapes and order of members.
    let spelled = "{ \"items\" : [ {\"unitPrice\":1250,\n\"quantity\":2, \"sku\":\"\\u0041-1\"} ],\n\t\
                   \"currency\":\"EUR\", \
                   \"note\": null }";
    service.request(Method::POST, ORDERS, &[("idempotency-key", &key)], spelled).replay_of(&first).await;
    service.assert_stored(&key, 1).await;
    assert_ne!(service.new_order().await.order_id(), first.order_id());
}

#[tokio::test]
async fn a_replay_survives_a_flush_of_redis() {
    applies_to!(Servers, Partitions, Distributed);
    let service = service().own_redis().start().await;
    let (key, first) = service.first_order().await;
    for _ in 0..2 {
        service.redis_command(&["FLUSHALL"]).await;
        service.order(&key, &an_order()).replay_of(&first).await;
        service.order(&key, &an_order()).replay_of(&first).await;
        service.order(&key, &an_order_of(3)).problem(422, "idempotency-key-reused").await;
    }
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn a_replay_survives_the_expiry_of_its_record() {
    applies_to!(Servers, Partitions, Distributed);
    let service = service().patient_with_redis().variable("reservation_ttl", 3).start().await;
    let (key, first) = service.first_order().await;
    let record = service.record_of(&key);
    assert!(service.redis_has(&record).await);
    until("the record has expired", async || !service.redis_has(&record).await).await;
    service.order(&key, &an_order()).replay_of(&first).await;
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn a_replay_survives_a_restart_of_everything() {
    applies_to!(Servers, Partitions, Distributed);
    let mut service = service().own_redis().own_postgres().start().await;
    let (key, first) = service.first_order().await;

    let address = service.address();
    assert!(service.apps[0].stop().unwrap().success());
    service.redis().stop().unwrap();
    service.postgres().stop().unwrap();
    service.postgres().restart().unwrap();
    service.redis().restart().unwrap();
    service.serve_at(address);

    service.order(&key, &an_order()).replay_of(&first).await;
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn a_finished_order_is_replayed_without_postgres() {
    applies_to!(Servers, Partitions, Distributed);
    let mut service = service().own_postgres().patient_with_redis().start().await;
    let (key, first) = service.first_order().await;
    service.order(&key, &an_order()).replay_of(&first).await;
    service.postgres().stop().unwrap();
    service.order(&key, &an_order()).replay_of(&first).await;
}
