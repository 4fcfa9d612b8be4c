//! Notifications over HTTP: one per payment, and customers read their own.

use fixtures::Served;
use fixtures::client::Asked;
use futures::future::join_all;
use serde_json::{Value, json};

const NOTIFICATIONS: &str = "/api/v1/notifications";

async fn served(name: &str) -> Served {
    Served::start_with("showcase/notifications/spin.toml", name, &[("operator_token", "t0ken")]).await.unwrap()
}

fn deliver(service: &Served, event: &Value) -> Asked {
    let asked = service.post(NOTIFICATIONS).field("authorization", "Bearer t0ken");
    asked.field("content-type", "application/cloudevents+json").body(event.to_string())
}

async fn read(service: &Served, customer: &str) -> Vec<Value> {
    let list = service.get(NOTIFICATIONS).field("x-user-id", customer).await.json();
    list.as_array().unwrap().clone()
}

fn event(id: &str, customer: &str) -> Value {
    json!({
        "specversion": "1.0",
        "type": "payments.payment.failed.v1",
        "source": "/api/v1/payments",
        "id": id,
        "partitionkey": customer,
        "data": {
            "orderId": id, "status": "failed", "reason": "insufficient_funds",
            "currency": "EUR", "amount": 600, "decidedAt": "2026-11-22T00:29:50.527Z",
        },
    })
}

#[tokio::test]
async fn one_notification_per_payment_however_often_it_is_delivered() {
    let service = served("notifications").await;
    join_all((0..20).map(|_| deliver(&service, &event("p1", "user-1")).expect(201))).await;
    deliver(&service, &event("p2", "user-2")).expect(201).await;
    let read = read(&service, "user-1").await;
    assert_eq!(read.len(), 1);
    assert_eq!(read[0]["orderId"], "p1");
    assert_eq!(read[0]["message"], "Your order for 6.00EUR was not fulfilled due to: not enough money.");
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let service = served("notifications_bad").await;
    let good = event("p1", "user-1");
    let with = |pointer: &str, value: Value| {
        let mut event = good.clone();
        *event.pointer_mut(pointer).unwrap() = value;
        deliver(&service, &event)
    };
    let unidentified = service.post(NOTIFICATIONS).field("content-type", "application/cloudevents+json");
    for (refused, status) in [
        (unidentified.field("authorization", "Bearer guess").body(good.to_string()), 401),
        (deliver(&service, &json!({})), 400),
        (with("/type", json!("payments.payment.failed.v2")), 422),
        (with("/type", json!("payments.payment.succeeded.v1")), 422),
        (with("/partitionkey", Value::Null), 422),
        (with("/data/amount", json!("600")), 422),
        (with("/data", Value::Null), 422),
    ] {
        assert_eq!(refused.expect(status).await.the("content-type"), "application/problem+json");
    }
    assert!(read(&service, "user-1").await.is_empty());
    deliver(&service, &good).expect(201).await;
    // The same payment cannot have had two amounts.
    with("/data/amount", json!(601)).expect(422).await;
    service.get(NOTIFICATIONS).expect(401).await;
}
