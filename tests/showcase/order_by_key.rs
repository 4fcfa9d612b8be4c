//! The ancestor's requests, as its clients send them, and bad input.

use fixtures::Served;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

const PROFILE: &str = "3f2a8f5e-52a3-4c1c-9d0f-0f4b6f6c1a11";

async fn served(name: &str) -> Served {
    Served::start("showcase/order-by-key/spin.toml", name).await.unwrap()
}

async fn post(service: &Served, query: &str, key: Option<&str>, body: &str) -> Response {
    let mut request = Client::new()
        .post(format!("{}/{query}", service.base_url()))
        .header("content-type", "application/json")
        .body(body.to_owned());
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    request.send().await.unwrap()
}

async fn get(service: &Served, path: &str) -> (u16, Value) {
    let url = format!("{}/{path}", service.base_url());
    let response = Client::new().request(Method::GET, url).send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap())
}

async fn id(response: Response) -> String {
    assert_eq!(response.status(), 201);
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_key_has_one_order_whatever_the_body_of_a_retry() {
    let service = served("by_key").await;
    let query = format!("?profileId={PROFILE}");
    let body = r#"{"productQuantity": 2}"#;
    let first = id(post(&service, &query, Some("k1"), body).await).await;
    for body in [body, r#"{"productQuantity": 3}"#, r#"{"productQuantity": 0}"#] {
        let again = id(post(&service, &query, Some("k1"), body).await).await;
        assert_eq!(again, first, "{body}");
    }
    let second = id(post(&service, &query, Some("k2"), body).await).await;
    assert_ne!(first, second);

    let order = json!({"id": first, "productQuantity": 2});
    assert_eq!(get(&service, &format!("{first}{query}")).await, (200, order.clone()));
    let listed = json!([order, {"id": second, "productQuantity": 2}]);
    assert_eq!(get(&service, &query).await, (200, listed));

    let other = "?profileId=00000000-0000-4000-8000-000000000000";
    assert_eq!(get(&service, other).await, (200, json!([])));
    assert_eq!(get(&service, &format!("{first}{other}")).await.0, 404);
    let theirs = id(post(&service, other, Some("k1"), body).await).await;
    assert_ne!(theirs, first, "another profile's key of the same name");
}

#[tokio::test]
async fn bad_input_is_refused_and_reserves_nothing() {
    let service = served("by_key_bad").await;
    let query = format!("?profileId={PROFILE}");
    for body in [
        "{}",
        r#"{"productQuantity": 0}"#,
        r#"{"productQuantity": -1}"#,
        r#"{"productQuantity": 1.5}"#,
        r#"{"productQuantity": "2"}"#,
        r#"{"productQuantity": 1000001}"#,
        r#"{"productQuantity": 1e30}"#,
        r#"{"productQuantity": 2, "colour": 1}"#,
        "[]",
    ] {
        let refused = post(&service, &query, Some("k"), body).await;
        assert_eq!(refused.status(), 422, "{body}");
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
    }
    for query in ["", "?profileId=", "?profileId=nope"] {
        let refused = post(&service, query, Some("k"), r#"{"productQuantity": 2}"#).await;
        assert_eq!(refused.status(), 400, "{query}");
        assert_eq!(get(&service, query).await.0, 400, "{query}");
    }
    let keyless = post(&service, &query, None, r#"{"productQuantity": 2}"#).await;
    assert_eq!(keyless.status(), 400);
    assert_eq!(get(&service, &query).await, (200, json!([])));
    id(post(&service, &query, Some("k"), r#"{"productQuantity": 4}"#).await).await;
}
