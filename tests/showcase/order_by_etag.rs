//! The ancestor's requests, as its clients send them, its race for one ETag, and bad input.

use fixtures::Served;
use fixtures::client::Asked;
use serde_json::{Value, json};

const ORDERS: &str = "/api/v1/ordering/orders";
const USER: (&str, &str) = ("x-user-id", "user-1");

async fn served(name: &str) -> Served {
    Served::start("showcase/order-by-etag/spin.toml", name).await.unwrap()
}

/// Asks for an order on a condition.
fn order(service: &Served, tag: &str, body: &str) -> Asked {
    let asked = service.post(ORDERS).field("content-type", "application/json").body(body.to_owned());
    asked.fields(&[USER, ("if-match", tag)])
}

/// The list's tag, and the list.
async fn list(service: &Served) -> (String, Value) {
    let list = service.get(ORDERS).fields(&[USER]).expect(200).await;
    (list.the("etag").to_owned(), list.json())
}

#[tokio::test]
async fn an_order_is_created_on_the_list_that_was_read() {
    let service = served("by_etag").await;
    let (empty, orders) = list(&service).await;
    assert_eq!(orders, json!([]));

    let body = r#"{"price": 600}"#;
    let created = order(&service, &empty, body).expect(202).await;
    let (after, created) = (created.the("etag").to_owned(), created.json());
    assert_eq!((&created["price"], &created["status"]), (&json!(600), &json!("pending")));
    assert_eq!(created["createdAt"], created["updatedAt"]);
    assert_eq!(list(&service).await, (after.clone(), json!([created])));

    order(&service, &empty, body).expect(412).await;
    let plain = || service.post(ORDERS).json(&json!({"price": 600}));
    plain().fields(&[USER]).expect(428).await;
    plain().field("if-match", &after).expect(403).await;
    service.get(ORDERS).expect(403).await;

    let cents = order(&service, &after, r#"{"price": 1.05}"#).expect(202).await;
    assert_eq!(cents.json()["price"], json!(1.05));
    assert_eq!(service.get(ORDERS).field("x-user-id", "user-2").await.json(), json!([]));
}

#[tokio::test]
async fn of_ten_requests_with_one_etag_one_succeeds() {
    let service = served("by_etag_race").await;
    let (tag, _) = list(&service).await;
    let answers = futures::future::join_all((0..10).map(|_| order(&service, &tag, r#"{"price": 600}"#))).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    let count = |status| statuses.iter().filter(|s| **s == status).count();
    assert_eq!((count(202), count(409) + count(412)), (1, 9), "{statuses:?}");
    assert_eq!(list(&service).await.1.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn bad_input_is_refused_and_stores_nothing() {
    let service = served("by_etag_bad").await;
    let (tag, _) = list(&service).await;
    for body in [
        "{}",
        r#"{"price": 0}"#,
        r#"{"price": 0.99}"#,
        r#"{"price": 1.005}"#,
        r#"{"price": "600"}"#,
        r#"{"price": 1e300}"#,
        r#"{"price": 600, "status": "succeeded"}"#,
        "7",
    ] {
        let refused = order(&service, &tag, body).expect(422).await;
        assert_eq!(refused.the("content-type"), "application/problem+json");
    }
    // Every state meets it: each retry would be another order.
    order(&service, "*", r#"{"price": 600}"#).expect(428).await;
    assert_eq!(list(&service).await, (tag, json!([])));
}
