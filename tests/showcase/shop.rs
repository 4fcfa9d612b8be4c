//! From order to payment and notification over HTTP: once each, also when deliveries are repeated or rejected.

pub mod support;

use devstack::scheduler::Puller;
use serde_json::json;
use support::Shop;

#[tokio::test]
async fn an_order_is_paid_and_its_customer_notified() {
    let shop = Shop::served("shop").await;
    shop.deposit("user-1", "d1", 1000, "USD").await;
    let order = shop.order("user-1", "o1", 6.5).await;
    let (tag, list) = shop.list("user-1").await;
    assert_eq!(list[0]["status"], "pending");
    assert_eq!(shop.pull(), (1, 0));
    assert_eq!(shop.balances("user-1").await, json!({"USD": 350}));

    let paid = shop.shown("user-1", &order).await;
    assert_eq!((&paid["status"], &paid["price"]), (&json!("succeeded"), &json!(6.5)));
    assert!(paid["updatedAt"].as_str() > paid["createdAt"].as_str(), "{paid}");
    // The tag is the state of the list of orders, which has not changed.
    assert_eq!(shop.list("user-1").await, (tag, json!([paid])));

    let refused = shop.order("user-1", "o2", 6.5).await;
    assert_eq!(shop.pull(), (1, 0));
    assert_eq!(shop.shown("user-1", &refused).await["status"], "failed");
    assert_eq!(shop.balances("user-1").await, json!({"USD": 350}));

    let notifications = shop.notifications("user-1").await;
    let told = notifications.iter().map(|told| json!([told["orderId"], told["status"], told["reason"]]));
    let expected = [json!([refused, "failed", "insufficient_funds"]), json!([order, "succeeded", null])];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert!(shop.notifications("user-2").await.is_empty());
    assert_eq!(shop.pull(), (0, 0));

    // The page is served with its scripts.
    for path in ["/shop.html", "/console/shop.js", "/console/dom.js", "/console/console.css"] {
        assert!(shop.0.get(path).expect(200).await.field("content-security-policy").is_some(), "{path}");
    }
}

#[tokio::test]
async fn a_page_that_is_delivered_again_changes_nothing() {
    let shop = Shop::served("shop_again").await;
    shop.deposit("user-1", "d1", 100_000, "USD").await;
    for number in 0..60 {
        shop.order("user-1", &format!("o{number}"), 10.0).await;
    }
    assert_eq!((shop.pull(), shop.pull(), shop.pull()), ((50, 0), (10, 0), (0, 0)));
    // As after a crash between the deliveries and the storage of the cursor.
    shop.sql("DELETE FROM cursors").await;
    assert_eq!((shop.pull(), shop.pull()), ((50, 0), (10, 0)));
    assert_eq!(shop.balances("user-1").await, json!({"USD": 40_000}));
    assert_eq!(shop.notifications("user-1").await.len(), 60);
}

#[tokio::test]
async fn two_pullers_at_once_deliver_each_customers_orders_once_and_in_order() {
    let shop = Shop::served("shop_two").await;
    let pullers = [(); 2].map(|()| Puller::start(shop.0.address(), support::TOKEN));
    for number in 0..40 {
        shop.order("user-1", &format!("o{number}"), 10.0).await;
        shop.order("user-2", &format!("o{number}"), 10.0).await;
    }
    drop(pullers);
    while shop.pull() != (0, 0) {}
    let out_of_order = "SELECT count(*), count(*) FILTER (WHERE decided_at < before) FROM ( \
         SELECT decided_at, lag(decided_at) OVER (PARTITION BY orders.customer_id ORDER BY seq) AS before \
         FROM orders JOIN payments USING (order_id)) AS payments";
    let counts = shop.database().await.query_one(out_of_order, &[]).await.unwrap();
    assert_eq!((counts.get::<_, i64>(0), counts.get::<_, i64>(1)), (80, 0));
    assert_eq!(shop.notifications("user-1").await.len(), 40);
}

#[tokio::test]
async fn a_refused_event_is_kept_and_delivered_after_its_correction() {
    let shop = Shop::served("shop_dead_letter").await;
    shop.deposit("user-1", "d1", 1000, "USD").await;
    // An order of another program's, which this release of the order service cannot read.
    shop.sql(
        "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, created_at, document) \
         VALUES ('01970000-0000-7000-8000-000000000001', 'user-1', 'k', sha256('k'), now(), '{\"euros\": 2}')",
    )
    .await;
    let order = shop.order("user-1", "o1", 6.5).await;
    assert_eq!(shop.pull(), (1, 1));
    assert_eq!(shop.shown("user-1", &order).await["status"], "succeeded");
    let letters = shop.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0]["consumer"], &letters[0]["status"]), (&json!("payments"), &json!("422")));
    let reason = letters[0]["reason"].as_str().unwrap();
    assert!(reason.contains("/data/total"), "{reason}");

    assert_eq!(shop.replay().await, r#"{"delivered":0,"refused":1}"#);
    assert_eq!(shop.dead_letters().await.len(), 1);
    // The order service shows the order again once it can read it; here the operator corrects the event.
    let data = r#"{"total": 200, "currency": "USD"}"#;
    shop.sql(&format!("UPDATE dead_letters SET event = jsonb_set(event::jsonb, '{{data}}', '{data}')")).await;
    for delivered in [1, 0] {
        assert_eq!(shop.replay().await, format!(r#"{{"delivered":{delivered},"refused":0}}"#));
    }
    assert!(shop.dead_letters().await.is_empty());
    assert_eq!(shop.balances("user-1").await, json!({"USD": 150}));
    assert_eq!(shop.notifications("user-1").await.len(), 2);
}

#[tokio::test]
async fn the_puller_goes_on_where_it_stopped_when_a_service_did_not_answer() {
    let shop = Shop::served("shop_outage").await;
    shop.deposit("user-1", "d1", 1000, "USD").await;
    shop.order("user-1", "o1", 1.0).await;
    shop.order("user-1", "o2", 2.0).await;
    // Paid, and not notified.
    shop.sql("ALTER TABLE notifications RENAME TO away").await;
    let failed = devstack::scheduler::pull(shop.0.address(), support::TOKEN, 0);
    let failed = failed.unwrap_err().to_string();
    assert!(failed.contains("503") && failed.contains("notifications"), "{failed}");
    shop.sql("ALTER TABLE away RENAME TO notifications").await;
    assert_eq!(shop.pull(), (2, 0));
    assert_eq!(shop.balances("user-1").await, json!({"USD": 700}));
    assert_eq!(shop.notifications("user-1").await.len(), 2);
}

#[tokio::test]
async fn a_cursor_of_another_history_starts_again() {
    let shop = Shop::served("shop_history").await;
    shop.deposit("user-1", "d1", 1000, "USD").await;
    shop.order("user-1", "o1", 1.0).await;
    assert_eq!(shop.pull(), (1, 0));
    shop.sql("SELECT forget_records()").await;
    shop.order("user-1", "o2", 1.0).await;
    let first = shop.pull();
    assert!(first == (0, 0) && shop.pull() == (2, 0) || first == (1, 0), "{first:?}");
    assert_eq!(shop.balances("user-1").await, json!({"USD": 800}));
    assert_eq!(shop.notifications("user-1").await.len(), 2);
}
