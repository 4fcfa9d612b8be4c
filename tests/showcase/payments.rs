//! Deposits and payments over HTTP: each happens once, also when it is repeated, and no account is overdrawn.

use fixtures::Served;
use futures::future::join_all;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

const TOKEN: &str = "t0ken";

async fn served(name: &str) -> Served {
    let token = [("operator_token", TOKEN)];
    Served::start_with("showcase/payments/spin.toml", name, &token).await.unwrap()
}

async fn send(service: &Served, path: &str, fields: &[(&str, &str)], body: &str) -> Response {
    let url = format!("{}{path}", service.base_url());
    let mut request = match body {
        "" => Client::new().get(url),
        body => Client::new().post(url).body(body.to_owned()),
    };
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

const BEARER: (&str, &str) = ("authorization", "Bearer t0ken");
const EVENT: (&str, &str) = ("content-type", "application/cloudevents+json");
const JSON: (&str, &str) = ("content-type", "application/json");

async fn json_of(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

async fn deposit(service: &Served, customer: &str, key: &str, body: &str) -> Response {
    let path = format!("/api/v1/accounts/{customer}/deposits");
    let fields = [BEARER, JSON, ("idempotency-key", key)];
    send(service, &path, &fields, body).await
}

async fn balances(service: &Served, customer: &str) -> Value {
    let path = format!("/api/v1/accounts/{customer}");
    let account = send(service, &path, &[BEARER], "").await;
    json_of(account).await["balances"].clone()
}

fn order_id(number: u32) -> String {
    format!("01970000-0000-7000-8000-{number:012x}")
}

fn event(number: u32, customer: &str, total: i64, currency: &str) -> Value {
    json!({
        "specversion": "1.0",
        "type": "orders.order.created.v1",
        "source": "/api/v1/orders",
        "id": order_id(number),
        "time": "2026-11-22T00:29:50.527Z",
        "partitionkey": customer,
        "datacontenttype": "application/json",
        "data": {"orderId": order_id(number), "total": total, "currency": currency, "note": null},
    })
}

async fn pay(service: &Served, event: &Value) -> Response {
    let fields = [BEARER, EVENT];
    send(service, "/api/v1/payments", &fields, &event.to_string()).await
}

async fn outcome(service: &Served, event: &Value) -> (String, Value) {
    let response = pay(service, event).await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["content-type"], "application/cloudevents+json");
    let outcome = json_of(response).await;
    assert_eq!(outcome["id"], event["id"]);
    assert_eq!(outcome["partitionkey"], event["partitionkey"]);
    let kind = outcome["type"].as_str().unwrap().to_owned();
    (kind, outcome["data"].clone())
}

#[tokio::test]
async fn a_deposit_counts_once_and_so_does_a_payment() {
    let service = served("payments").await;
    assert_eq!(balances(&service, "c").await, json!({}));
    let money = r#"{"amount": 1000, "currency": "EUR"}"#;
    let first = deposit(&service, "c", "d1", money).await;
    assert_eq!(first.status(), 201);
    let first = first.text().await.unwrap();
    let again = deposit(&service, "c", "d1", money).await;
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(again.text().await.unwrap(), first);
    let other = deposit(&service, "c", "d1", r#"{"amount": 1, "currency": "EUR"}"#).await;
    assert_eq!(other.status(), 422);
    assert_eq!(balances(&service, "c").await, json!({"EUR": 1000}));

    let order = event(1, "c", 600, "EUR");
    let (kind, data) = outcome(&service, &order).await;
    assert_eq!(kind, "payments.payment.succeeded.v1");
    assert_eq!((&data["status"], &data["amount"]), (&json!("succeeded"), &json!(600)));
    for _ in 0..3 {
        let again = pay(&service, &order).await;
        assert_eq!(again.headers()["idempotent-replayed"], "true");
        assert_eq!(json_of(again).await["data"], data);
    }
    assert_eq!(balances(&service, "c").await, json!({"EUR": 400}));
    let path = format!("/api/v1/payments/{}", order_id(1));
    let shown = send(&service, &path, &[BEARER], "").await;
    assert_eq!(json_of(shown).await, data);
}

#[tokio::test]
async fn a_refusal_has_a_reason_and_is_final() {
    let service = served("payments_refused").await;
    deposit(&service, "c", "d1", r#"{"amount": 500, "currency": "EUR"}"#).await;
    let cases = [
        (1, "c", 501, "EUR", "insufficient_funds"),
        (2, "c", 1, "USD", "another_currency"),
        (3, "nobody", 1, "EUR", "no_account"),
    ];
    for (number, customer, total, currency, reason) in cases {
        let (kind, data) = outcome(&service, &event(number, customer, total, currency)).await;
        assert_eq!(kind, "payments.payment.failed.v1");
        assert_eq!((&data["status"], &data["reason"]), (&json!("failed"), &json!(reason)));
    }
    deposit(&service, "c", "d2", r#"{"amount": 500, "currency": "EUR"}"#).await;
    let (_, data) = outcome(&service, &event(1, "c", 501, "EUR")).await;
    assert_eq!(data["status"], "failed");
    assert_eq!(balances(&service, "c").await, json!({"EUR": 1000}));
}

#[tokio::test]
async fn one_event_delivered_by_many_at_once_is_paid_once() {
    let service = served("payments_race").await;
    let money = r#"{"amount": 100000, "currency": "EUR"}"#;
    deposit(&service, "c", "d1", money).await;
    for number in 1..=5 {
        // Also of a customer without an account, whose deliveries have no row to wait for.
        for customer in ["c", "nobody"] {
            let order = event(number + u32::from(customer == "c") * 100, customer, 70, "EUR");
            let answers = join_all((0..20).map(|_| pay(&service, &order))).await;
            assert!(answers.iter().all(|answer| answer.status() == 201));
            let is_new = |answer: &&Response| !answer.headers().contains_key("idempotent-replayed");
            assert_eq!(answers.iter().filter(is_new).count(), 1);
        }
    }
    let left = 100_000 - 5 * 70;
    assert_eq!(balances(&service, "c").await, json!({"EUR": left}));
}

#[tokio::test]
async fn of_many_payments_only_as_many_succeed_as_there_is_money_for() {
    let service = served("payments_last").await;
    deposit(&service, "c", "d1", r#"{"amount": 1000, "currency": "EUR"}"#).await;
    let events: Vec<Value> = (1..=30).map(|n| event(n, "c", 150, "EUR")).collect();
    // Every event twice: a repeated one must not take the place of another.
    let outcomes = join_all(events.iter().chain(&events).map(|e| outcome(&service, e))).await;
    let succeeded = outcomes.iter().filter(|(kind, _)| kind == "payments.payment.succeeded.v1").count();
    assert_eq!(succeeded, 6 * 2);
    assert_eq!(balances(&service, "c").await, json!({"EUR": 100}));
}

#[tokio::test]
async fn what_is_no_event_or_does_not_fit_has_no_effect() {
    let service = served("payments_bad").await;
    let post = async |fields: &[(&str, &str)], body: &str| {
        let answer = send(&service, "/api/v1/payments", fields, body).await;
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        answer.status().as_u16()
    };
    let good = event(1, "c", 600, "EUR");
    assert_eq!(post(&[EVENT], &good.to_string()).await, 401);
    let wrong = ("authorization", "Bearer guess");
    assert_eq!(post(&[EVENT, wrong], &good.to_string()).await, 401);
    assert_eq!(post(&[JSON, BEARER], &good.to_string()).await, 415);
    let fields = [EVENT, BEARER];
    for body in ["{", "[]", "{}", r#"{"specversion": "1.0", "id": "1"}"#] {
        assert_eq!(post(&fields, body).await, 400, "{body}");
    }
    let longest = "x".repeat(600 * 1024);
    assert_eq!(post(&fields, &longest).await, 413);
    for (pointer, value) in [
        ("/type", json!("orders.order.created.v2")),
        ("/id", json!("7")),
        ("/partitionkey", json!("")),
        ("/data/total", json!(-1)),
        ("/data/total", json!("600")),
        ("/data/total", json!(1.5)),
        ("/data/currency", Value::Null),
        ("/data", json!([])),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        let answer = pay(&service, &bad).await;
        assert_eq!(answer.status(), 422, "{pointer}");
        let named = json_of(answer).await["violations"][0]["pointer"].clone();
        assert!(named.as_str().unwrap().starts_with(pointer), "{named}");
    }
    let path = format!("/api/v1/payments/{}", order_id(1));
    assert_eq!(send(&service, &path, &[BEARER], "").await.status(), 404);

    let url = format!("{}/api/v1/payments", service.base_url());
    let asks = Client::new().request(Method::OPTIONS, url);
    let may = asks.header("webhook-request-origin", "events.example").send().await.unwrap();
    assert_eq!(may.status(), 200);
    assert_eq!(may.headers()["webhook-allowed-origin"], "*");

    outcome(&service, &good).await;
    // The same event in binary mode, as SDKs send it by default.
    let binary = [
        JSON,
        BEARER,
        ("ce-specversion", "1.0"),
        ("ce-id", good["id"].as_str().unwrap()),
        ("ce-source", good["source"].as_str().unwrap()),
        ("ce-type", good["type"].as_str().unwrap()),
        ("ce-partitionkey", "c"),
    ];
    let again = send(&service, "/api/v1/payments", &binary, &good["data"].to_string()).await;
    assert_eq!((again.status().as_u16(), again.headers().contains_key("idempotent-replayed")), (201, true));
    assert_eq!(pay(&service, &event(1, "c", 601, "EUR")).await.status(), 422);
    assert_eq!(pay(&service, &event(1, "d", 600, "EUR")).await.status(), 422);
    for body in [r#"{"amount": 0, "currency": "EUR"}"#, r#"{"amount": 1}"#, "{", "7"] {
        let refused = deposit(&service, "c", "d1", body).await;
        assert!(refused.status().is_client_error(), "{body}");
    }
    assert_eq!(balances(&service, "c").await, json!({}));
}
