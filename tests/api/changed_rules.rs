//! Retries of orders that were valid when they were created, and would not be today: a key that has an order is
//! answered with it.

use serde_json::{Value, json};

use crate::support::{Service, an_order, an_order_of, new_key, service};

/// An order in a currency that no list has.
fn in_currency(currency: &str) -> Value {
    json!({"currency": currency, "items": [{"quantity": 2, "sku": "A-1", "unitPrice": 1250}], "note": null})
}

/// Stores an order as an earlier release has.
async fn store(service: &Service, key: &str, document: &Value) {
    let document = document.to_string();
    if service.is_embedded() {
        // The table is created.
        assert_eq!(service.get("/readyz").await.status, 200);
        let sql = "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, document, created_at) \
                   VALUES ('01970000-0000-7000-8000-000000000001', 'anonymous', ?1, zeroblob(32), ?2, '')";
        service.file().execute(sql, [key, &document]).unwrap();
        return;
    }
    let database = service.database().await.unwrap();
    let sql = "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, document, created_at) \
               VALUES ('01970000-0000-7000-8000-000000000001', 'anonymous', $1, sha256(''), $2::text::json, now())";
    database.execute(sql, &[&key, &document]).await.unwrap();
}

#[tokio::test]
async fn a_retry_of_an_order_that_is_no_longer_valid_gets_the_order() {
    applies_to!(Servers, Embedded);
    let service = service().start().await;
    let (key, order) = (new_key(), in_currency("XQQ"));
    service.order(&key, &order).await.assert_problem(422, "invalid-order");

    store(&service, &key, &order).await;
    let retried = service.order(&key, &order).await;
    assert_eq!((retried.status, retried.replayed()), (201, true), "{retried:?}");
    let shown = service.get(retried.field("location").unwrap()).await;
    assert_eq!((shown.status, &shown.body), (200, &retried.body));

    // Written by a client in another way, it is the same order.
    let mut same = order.clone();
    same.as_object_mut().unwrap().remove("note");
    service.order(&key, &same).await.assert_replay_of(&retried);

    for (key, order) in
        [(&new_key(), &order), (&key, &in_currency("XQZ")), (&key, &json!({"currency": "XQQ"})), (&key, &json!([]))]
    {
        service.order(key, order).await.assert_problem(422, "invalid-order");
    }
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn a_retry_with_an_added_member_is_refused() {
    applies_to!(Servers, Embedded, Deployment);
    let service = service().start().await;
    let (key, order) = (new_key(), an_order());
    let first = service.order(&key, &order).await;
    first.assert_created();
    for (parent, member) in [("", "giftWrap"), ("", "notes"), ("/items/0", "discount")] {
        let mut more = order.clone();
        more.pointer_mut(parent).unwrap()[member] = json!("cancel");
        let refused = service.order(&key, &more).await;
        refused.assert_problem(422, "invalid-order");
    }
    service.order(&key, &order).await.assert_replay_of(&first);
}

#[tokio::test]
async fn a_retry_of_an_order_of_a_newer_release_gets_the_order() {
    applies_to!(Servers, Embedded);
    let service = service().start().await;
    let (key, mut order) = (new_key(), in_currency("EUR"));
    order["giftWrap"] = json!(true);
    store(&service, &key, &order).await;
    let first = service.order(&key, &order).await;
    assert_eq!((first.status, first.replayed()), (201, true), "{first:?}");
    // Without the optional note, which is stored as null, it is the same order.
    let mut same = order.clone();
    same.as_object_mut().unwrap().remove("note");
    service.order(&key, &same).await.assert_replay_of(&first);
    for wrap in [json!(false), json!(null)] {
        order["giftWrap"] = wrap;
        service.order(&key, &order).await.assert_problem(422, "invalid-order");
    }
    service.order(&key, &in_currency("EUR")).await.assert_problem(422, "idempotency-key-reused");
}

#[tokio::test]
async fn where_keys_may_be_reused_an_invalid_retry_gets_the_first_order() {
    applies_to!(Servers, Embedded);
    let service = service().variable("key_reuse", "replay").start().await;
    let (key, order) = (new_key(), in_currency("XQQ"));
    store(&service, &key, &order).await;
    let first = service.order(&key, &order).await;
    assert_eq!((first.status, first.replayed()), (201, true), "{first:?}");
    for other in [json!({"currency": 1}), json!(null)] {
        service.order(&key, &other).await.assert_replay_of(&first);
    }
}

#[tokio::test]
async fn a_retry_without_the_condition_that_is_required_by_now_gets_the_order() {
    applies_to!(Servers);
    let before = service().start().await;
    let (key, order) = (new_key(), an_order());
    let first = before.order(&key, &order).await;
    first.assert_created();
    for precondition in ["both", "etag"] {
        let after = service()
            .variable("precondition", precondition)
            .variable("database_url", before.database_url())
            .start()
            .await;
        after.order(&key, &order).await.assert_replay_of(&first);
        for (key, order) in [(&new_key(), &order), (&key, &an_order_of(3))] {
            after.order(key, order).await.assert_problem(428, "precondition-required");
        }
    }
    before.assert_stored(&key, 1).await;
}
