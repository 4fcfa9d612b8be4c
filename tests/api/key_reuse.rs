//! The same key with another order: rejected with what differs, or, where so configured, replayed.

use serde_json::json;

use crate::support::{an_order, an_order_of, new_key, service};

#[tokio::test]
async fn another_order_is_refused_with_pointers_and_without_values() {
    applies_to!(Servers, Embedded, Deployment);
    let service = service().start().await;
    let key = new_key();
    let mut stored = an_order();
    stored["note"] = json!("a stored secret");
    let first = service.order(&key, &stored).created().await;

    // Once while the record is unfinished, and again when it is finished.
    for _ in 0..3 {
        let mut other = an_order_of(3);
        let another_line = json!({"sku": "B", "quantity": 1, "unitPrice": 1});
        other["items"].as_array_mut().unwrap().push(another_line);
        let refused = service.order(&key, &other).problem(422, "idempotency-key-reused").await;
        assert_eq!(refused.json()["orderId"], first.json()["orderId"]);
        assert_eq!(refused.json()["differs"], json!(["/items/0/quantity", "/items/1", "/note"]));
        assert!(!refused.body.contains("secret"));
    }
    service.order(&key, &stored).replay_of(&first).await;
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn a_reservation_of_a_dead_request_refuses_no_other_order() {
    applies_to!(Servers);
    let mut service = service().own_redis().own_postgres().start().await;
    let (key, order) = (new_key(), an_order());
    // A request that reserves its key and dies before Postgres.
    service.postgres().stop().unwrap();
    service.order(&key, &order).problem(503, "unavailable").await;
    service.postgres().restart().unwrap();

    let other = service.order(&key, &an_order_of(3)).created().await;
    service.order(&key, &order).problem(422, "idempotency-key-reused").await;
    service.order(&key, &an_order_of(3)).replay_of(&other).await;
    service.assert_stored(&key, 1).await;
}
