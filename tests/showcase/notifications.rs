//! Notifications over HTTP: one per payment, and customers read their own.

use fixtures::Served;
use futures::future::join_all;
use reqwest::{Client, Response};
use serde_json::{Value, json};

async fn served(name: &str) -> Served {
    let token = [("operator_token", "t0ken")];
    Served::start_with("showcase/notifications/spin.toml", name, &token).await.unwrap()
}

fn url(service: &Served) -> String {
    format!("{}/api/v1/notifications", service.base_url())
}

async fn deliver(service: &Served, token: &str, body: String) -> Response {
    Client::new()
        .post(url(service))
        .header("content-type", "application/cloudevents+json")
        .header("authorization", format!("Bearer {token}"))
        .body(body)
        .send()
        .await
        .unwrap()
}

async fn read(service: &Served, customer: &str) -> Vec<Value> {
    let request = Client::new().get(url(service));
    let answer = request.header("x-user-id", customer).send().await.unwrap();
    let list: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    list["notifications"].as_array().unwrap().clone()
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
    let text = event("p1", "user-1").to_string();
    let answers = join_all((0..20).map(|_| deliver(&service, "t0ken", text.clone()))).await;
    assert!(answers.iter().all(|answer| answer.status() == 201));
    deliver(&service, "t0ken", event("p2", "user-2").to_string()).await;
    let read = read(&service, "user-1").await;
    assert_eq!(read.len(), 1);
    assert_eq!(read[0]["orderId"], "p1");
    assert_eq!(read[0]["text"], "Your order could not be paid: insufficient funds.");
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let service = served("notifications_bad").await;
    let good = event("p1", "user-1");
    let status = async |token, body: String| {
        let answer = deliver(&service, token, body).await;
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        answer.status().as_u16()
    };
    assert_eq!(status("guess", good.to_string()).await, 401);
    assert_eq!(status("", good.to_string()).await, 401);
    assert_eq!(status("t0ken", "{}".into()).await, 400);
    for (pointer, value) in [
        ("/type", json!("payments.payment.failed.v2")),
        ("/type", json!("payments.payment.succeeded.v1")),
        ("/partitionkey", Value::Null),
        ("/data/amount", json!("600")),
        ("/data", Value::Null),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert_eq!(status("t0ken", bad.to_string()).await, 422, "{bad}");
    }
    assert!(read(&service, "user-1").await.is_empty());
    deliver(&service, "t0ken", good.to_string()).await;
    // The same payment cannot have had two amounts.
    let mut other = good;
    other["data"]["amount"] = json!(601);
    assert_eq!(status("t0ken", other.to_string()).await, 422);
    let nobody = Client::new().get(url(&service)).send().await.unwrap();
    assert_eq!(nobody.status(), 401);
}
