//! Retries of orders that were valid when they were created, and would not be today: a key that has an order returns
//! it.

use serde_json::{Value, json};

use crate::support::{ORDERS, Service, an_order, an_order_of, new_key, service};

/// An order in a currency that no list has.
fn in_currency(currency: &str) -> Value {
    json!({"currency": currency, "items": [{"quantity": 2, "sku": "A-1", "unitPrice": 1250}], "note": null})
}

/// Stores an order as another release has.
async fn store(service: &Service, key: &str, document: &Value) -> String {
    let (id, document) = (uuid::Uuid::now_v7(), document.to_string());
    let insert = "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, document, created_at)";
    if service.is_embedded() {
        // The table is created.
        service.get("/readyz").expect(200).await;
        let sql = format!("{insert} VALUES ('{id}', 'anonymous', ?1, zeroblob(32), ?2, '')");
        service.file().execute(&sql, [key, &document]).unwrap();
    } else {
        let sql = format!("{insert} VALUES ('{id}', 'anonymous', $1, sha256(''), $2::text::json, now())");
        service.database().await.unwrap().execute(&sql, &[&key, &document]).await.unwrap();
    }
    id.to_string()
}

#[tokio::test]
async fn a_retry_of_an_order_that_is_not_valid_here_gets_the_order() {
    applies_to!(Servers, Embedded);
    let service = service().start().await;
    // No longer, or not yet.
    let (old, mut newer) = (in_currency("XQQ"), in_currency("EUR"));
    newer["giftWrap"] = json!(true);
    for (order, member) in [(old, "currency"), (newer, "giftWrap")] {
        let key = new_key();
        service.order(&key, &order).problem(422, "invalid-order").await;
        store(&service, &key, &order).await;
        let retried = service.order(&key, &order).replayed().await;
        assert_eq!(service.get_order(&retried).await.body, retried.body);
        // Without the optional note, for which the other release has stored null, it is the same order.
        let mut same = order.clone();
        same.as_object_mut().unwrap().remove("note");
        service.order(&key, &same).replay_of(&retried).await;
        let mut other = order.clone();
        other[member] = json!("XQZ");
        for (key, order) in
            [(&new_key(), &order), (&key, &other), (&key, &json!({"currency": "XQQ"})), (&key, &json!([]))]
        {
            service.order(key, order).problem(422, "invalid-order").await;
        }
        service.order(&key, &in_currency("EUR")).problem(422, "idempotency-key-reused").await;
        service.assert_stored(&key, 1).await;
    }
}

#[tokio::test]
async fn a_retry_with_an_added_member_is_refused() {
    applies_to!(Servers, Embedded, Deployment);
    let service = service().start().await;
    let (key, order) = (new_key(), an_order());
    let first = service.order(&key, &order).created().await;
    for (parent, member) in [("", "giftWrap"), ("", "notes"), ("/items/0", "discount")] {
        let mut more = order.clone();
        more.pointer_mut(parent).unwrap()[member] = json!("cancel");
        service.order(&key, &more).problem(422, "invalid-order").await;
    }
    service.order(&key, &order).replay_of(&first).await;
}

#[tokio::test]
async fn orders_of_other_releases_leave_a_page_complete() {
    applies_to!(Servers, Embedded);
    let service = service().start().await;
    let known = service.new_order().await;
    // With members that this release does not know.
    let newer = json!({"items": [{"unitPrice": 5, "sku": "A", "quantity": 3, "colour": "red"}], "giftWrap": true,
                       "currency": "EUR"});
    let shown = store(&service, "newer", &newer).await;
    let unreadable = store(&service, "unreadable", &json!({"currency": "EUR"})).await;
    let page = service.get(&format!("{ORDERS}?limit=2")).await.json();
    let [first, second] = &page["orders"].as_array().unwrap()[..] else { panic!("{page}") };
    let time = |order: &Value| order["createdAt"].clone();
    assert_eq!(*first, json!({"orderId": unreadable, "status": "unreadable", "createdAt": time(first)}));
    let mut expected = json!({"orderId": shown, "status": "accepted", "note": null, "total": 15,
                              "createdAt": time(second)});
    expected.as_object_mut().unwrap().extend(newer.as_object().unwrap().clone());
    assert_eq!(*second, expected);
    let rest = service.get(page["next"].as_str().unwrap()).await.json();
    assert_eq!((&rest["orders"], &rest["next"]), (&json!([known.json()]), &Value::Null));
}

#[tokio::test]
async fn where_keys_may_be_reused_any_retry_gets_the_first_order() {
    applies_to!(Servers, Embedded);
    let service = service().variable("key_reuse", "replay").start().await;
    let (key, order) = (new_key(), in_currency("XQQ"));
    store(&service, &key, &order).await;
    let first = service.order(&key, &order).replayed().await;
    for other in [an_order_of(3), json!({"currency": 1}), json!(null)] {
        service.order(&key, &other).replay_of(&first).await;
    }
}

#[tokio::test]
async fn a_retry_without_the_condition_that_is_required_by_now_gets_the_order() {
    applies_to!(Servers);
    let before = service().start().await;
    let (key, order) = (new_key(), an_order());
    let first = before.order(&key, &order).created().await;
    for precondition in ["both", "etag"] {
        let setup = service().variable("precondition", precondition);
        let after = setup.variable("database_url", before.database_url()).start().await;
        after.order(&key, &order).replay_of(&first).await;
        for (key, order) in [(&new_key(), &order), (&key, &an_order_of(3))] {
            after.order(key, order).problem(428, "precondition-required").await;
        }
    }
    before.assert_stored(&key, 1).await;
}
