//! The ancestor's requests, as its clients send them, and bad input.

use fixtures::Served;
use fixtures::client::{Answer, Asked};
use serde_json::{Value, json};

const MINE: &str = "/?profileId=3f2a8f5e-52a3-4c1c-9d0f-0f4b6f6c1a11";
const OTHER: &str = "/?profileId=00000000-0000-4000-8000-000000000000";

async fn served(name: &str) -> Served {
    Served::start("showcase/order-by-key/spin.toml", name).await.unwrap()
}

fn post(service: &Served, path: &str, key: &str, body: &str) -> Asked {
    let asked = service.post(path).field("content-type", "application/json").body(body.to_owned());
    asked.field("idempotency-key", key)
}

fn id(created: &Answer) -> String {
    created.json().as_str().unwrap().to_owned()
}

/// What is at a path.
async fn get(service: &Served, path: &str) -> Value {
    service.get(path).expect(200).await.json()
}

#[tokio::test]
async fn a_key_has_one_order_whatever_the_body_of_a_retry() {
    let service = served("by_key").await;
    let body = r#"{"productQuantity": 2}"#;
    let first = id(&post(&service, MINE, "k1", body).expect(201).await);
    for body in [body, r#"{"productQuantity": 3}"#, r#"{"productQuantity": 0}"#] {
        assert_eq!(id(&post(&service, MINE, "k1", body).expect(201).await), first, "{body}");
    }
    let second = id(&post(&service, MINE, "k2", body).expect(201).await);
    assert_ne!(first, second);

    let order = json!({"id": first, "productQuantity": 2});
    assert_eq!(get(&service, &MINE.replace('/', &format!("/{first}"))).await, order);
    assert_eq!(get(&service, MINE).await, json!([order, {"id": second, "productQuantity": 2}]));

    assert_eq!(get(&service, OTHER).await, json!([]));
    service.get(&OTHER.replace('/', &format!("/{first}"))).expect(404).await;
    let theirs = id(&post(&service, OTHER, "k1", body).expect(201).await);
    assert_ne!(theirs, first, "another profile's key of the same name");
}

#[tokio::test]
async fn bad_input_is_refused_and_reserves_nothing() {
    let service = served("by_key_bad").await;
    for body in [
        "{}",
        r#"{"productQuantity": 0}"#,
        r#"{"productQuantity": 1.5}"#,
        r#"{"productQuantity": "2"}"#,
        r#"{"productQuantity": 1000001}"#,
        r#"{"productQuantity": 2, "colour": 1}"#,
        "[]",
    ] {
        let refused = post(&service, MINE, "k", body).expect(422).await;
        assert_eq!(refused.the("content-type"), "application/problem+json");
    }
    let good = r#"{"productQuantity": 2}"#;
    for path in ["/", "/?profileId=", "/?profileId=nope"] {
        post(&service, path, "k", good).expect(400).await;
        service.get(path).expect(400).await;
    }
    service.post(MINE).json(&json!({"productQuantity": 2})).expect(400).await;
    assert_eq!(get(&service, MINE).await, json!([]));
    post(&service, MINE, "k", good).expect(201).await;
}
