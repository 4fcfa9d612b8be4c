//! The ancestor's requests, as its clients send them, its race for one ETag, and bad input.

use fixtures::Served;
use reqwest::{Client, Response};
use serde_json::{Value, json};

async fn served(name: &str) -> Served {
    Served::start("showcase/order-by-etag/spin.toml", name).await.unwrap()
}

async fn send(service: &Served, fields: &[(&str, &str)], body: Option<&str>) -> Response {
    let url = format!("{}/api/v1/ordering/orders", service.base_url());
    let client = Client::new();
    let mut request = match body {
        Some(body) => client.post(url).header("content-type", "application/json").body(body.to_owned()),
        None => client.get(url),
    };
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

const USER: (&str, &str) = ("x-user-id", "user-1");

async fn list(service: &Served) -> (String, Value) {
    let response = send(service, &[USER], None).await;
    assert_eq!(response.status(), 200);
    let etag = response.headers()["etag"].to_str().unwrap().to_owned();
    (etag, json_of(response).await)
}

async fn json_of(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

#[tokio::test]
async fn an_order_is_created_on_the_list_that_was_read() {
    let service = served("by_etag").await;
    let (empty, orders) = list(&service).await;
    assert_eq!(orders, json!([]));

    let body = Some(r#"{"price": 600}"#);
    let created = send(&service, &[USER, ("if-match", &empty)], body).await;
    assert_eq!(created.status(), 202);
    let after = created.headers()["etag"].to_str().unwrap().to_owned();
    let order = json_of(created).await;
    assert_eq!((&order["price"], &order["status"]), (&json!(600), &json!("pending")));
    assert_eq!(order["createdAt"], order["updatedAt"]);
    assert_eq!(list(&service).await, (after.clone(), json!([order])));

    let stale = send(&service, &[USER, ("if-match", &empty)], body).await;
    assert_eq!(stale.status(), 412);
    assert_eq!(send(&service, &[USER], body).await.status(), 428);
    assert_eq!(send(&service, &[("if-match", &after)], body).await.status(), 403);
    assert_eq!(send(&service, &[], None).await.status(), 403);

    let cents = send(&service, &[USER, ("if-match", &after)], Some(r#"{"price": 1.05}"#)).await;
    assert_eq!(json_of(cents).await["price"], json!(1.05));
    let others = send(&service, &[("x-user-id", "user-2")], None).await;
    assert_eq!(json_of(others).await, json!([]));
}

#[tokio::test]
async fn of_ten_requests_with_one_etag_one_succeeds() {
    let service = served("by_etag_race").await;
    let (tag, _) = list(&service).await;
    let fields = [USER, ("if-match", tag.as_str())];
    let race = (0..10).map(|_| send(&service, &fields, Some(r#"{"price": 600}"#)));
    let answers = futures::future::join_all(race).await;
    let statuses: Vec<u16> = answers.iter().map(|a| a.status().as_u16()).collect();
    let count = |status| statuses.iter().filter(|s| **s == status).count();
    assert_eq!(count(202), 1, "{statuses:?}");
    assert_eq!(count(409) + count(412), 9, "{statuses:?}");
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
        r#"{"price": -5}"#,
        r#"{"price": 1.005}"#,
        r#"{"price": "600"}"#,
        r#"{"price": 1e300}"#,
        r#"{"price": 600, "status": "succeeded"}"#,
        "7",
    ] {
        let refused = send(&service, &[USER, ("if-match", &tag)], Some(body)).await;
        assert_eq!(refused.status(), 422, "{body}");
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
    }
    // Every state meets it: each retry would be another order.
    let any = [USER, ("if-match", "*")];
    let refused = send(&service, &any, Some(r#"{"price": 600}"#)).await;
    assert_eq!(refused.status(), 428);
    assert_eq!(list(&service).await, (tag, json!([])));
}
