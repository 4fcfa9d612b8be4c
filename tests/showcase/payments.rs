//! Deposits and payments over HTTP: each happens once, also when it is repeated, and no account is overdrawn.

use fixtures::Served;
use fixtures::client::{Answer, Asked};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

const BEARER: (&str, &str) = ("authorization", "Bearer t0ken");
const EVENT: (&str, &str) = ("content-type", "application/cloudevents+json");
const PAYMENTS: &str = "/api/v1/payments";

async fn served(name: &str) -> Served {
    Served::start_with("showcase/payments/spin.toml", name, &[("operator_token", "t0ken")]).await.unwrap()
}

fn deposit(service: &Served, key: &str, amount: i64) -> Asked {
    let asked = service.post("/api/v1/accounts/c/deposits").json(&json!({"amount": amount, "currency": "EUR"}));
    asked.fields(&[BEARER, ("idempotency-key", key)])
}

/// What the operator reads.
fn get(service: &Served, path: &str) -> Asked {
    service.get(path).fields(&[BEARER])
}

async fn balances(service: &Served) -> Value {
    get(service, "/api/v1/accounts/c").await.json()["balances"].clone()
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

fn pay(service: &Served, event: &Value) -> Asked {
    service.post(PAYMENTS).fields(&[BEARER, EVENT]).body(event.to_string())
}

/// The last part of an outcome's type, and its data.
async fn outcome(service: &Served, event: &Value) -> (String, Value) {
    let response = pay(service, event).expect(201).await;
    assert_eq!(response.the("content-type"), "application/cloudevents+json");
    let outcome = response.json();
    assert_eq!((&outcome["id"], &outcome["partitionkey"]), (&event["id"], &event["partitionkey"]));
    let kind = outcome["type"].as_str().unwrap().strip_prefix("payments.payment.").unwrap();
    (kind.to_owned(), outcome["data"].clone())
}

#[tokio::test]
async fn a_deposit_counts_once_and_so_does_a_payment() {
    let service = served("payments").await;
    assert_eq!(balances(&service).await, json!({}));
    let first = deposit(&service, "d1", 1000).created().await;
    assert_eq!(deposit(&service, "d1", 1000).replayed().await.body, first.body);
    deposit(&service, "d1", 1).expect(422).await;
    assert_eq!(balances(&service).await, json!({"EUR": 1000}));

    let order = event(1, "c", 600, "EUR");
    let (kind, data) = outcome(&service, &order).await;
    assert_eq!(kind, "succeeded.v1");
    assert_eq!((&data["status"], &data["amount"]), (&json!("succeeded"), &json!(600)));
    for _ in 0..3 {
        assert_eq!(pay(&service, &order).replayed().await.json()["data"], data);
    }
    assert_eq!(balances(&service).await, json!({"EUR": 400}));
    assert_eq!(get(&service, &format!("{PAYMENTS}/{}", order_id(1))).await.json(), data);
}

#[tokio::test]
async fn a_refusal_has_a_reason_and_is_final() {
    let service = served("payments_refused").await;
    deposit(&service, "d1", 500).created().await;
    for (number, customer, total, currency, reason) in [
        (1, "c", 501, "EUR", "insufficient_funds"),
        (2, "c", 1, "USD", "another_currency"),
        (3, "nobody", 1, "EUR", "no_account"),
    ] {
        let (kind, data) = outcome(&service, &event(number, customer, total, currency)).await;
        assert_eq!(kind, "failed.v1");
        assert_eq!((&data["status"], &data["reason"]), (&json!("failed"), &json!(reason)));
    }
    deposit(&service, "d2", 500).created().await;
    let (_, data) = outcome(&service, &event(1, "c", 501, "EUR")).await;
    assert_eq!(data["status"], "failed");
    assert_eq!(balances(&service).await, json!({"EUR": 1000}));
}

#[tokio::test]
async fn one_event_delivered_by_many_at_once_is_paid_once() {
    let service = served("payments_race").await;
    deposit(&service, "d1", 100_000).created().await;
    for number in 1..=5 {
        // Also of a customer without an account, whose deliveries have no row to wait for.
        for customer in ["c", "nobody"] {
            let order = event(number + u32::from(customer == "c") * 100, customer, 70, "EUR");
            let answers = join_all((0..20).map(|_| pay(&service, &order).expect(201))).await;
            assert_eq!(answers.iter().filter(|answer: &&Answer| !answer.replayed()).count(), 1);
        }
    }
    assert_eq!(balances(&service).await, json!({"EUR": 100_000 - 5 * 70}));
}

#[tokio::test]
async fn of_many_payments_only_as_many_succeed_as_there_is_money_for() {
    let service = served("payments_last").await;
    deposit(&service, "d1", 1000).created().await;
    let events: Vec<Value> = (1..=30).map(|n| event(n, "c", 150, "EUR")).collect();
    // Every event twice: a repeated one must not take the place of another.
    let outcomes = join_all(events.iter().chain(&events).map(|e| outcome(&service, e))).await;
    let succeeded = outcomes.iter().filter(|(kind, _)| kind == "succeeded.v1").count();
    assert_eq!(succeeded, 6 * 2);
    assert_eq!(balances(&service).await, json!({"EUR": 100}));
}

#[tokio::test]
async fn what_is_no_event_or_does_not_fit_has_no_effect() {
    let service = served("payments_bad").await;
    let good = event(1, "c", 600, "EUR");
    let post = |fields: &[(&str, &str)], body: &str| service.post(PAYMENTS).fields(fields).body(body.to_owned());
    let (text, wrong) = (good.to_string(), ("authorization", "Bearer guess"));
    for (refused, status) in [
        (post(&[EVENT], &text), 401),
        (post(&[EVENT, wrong], &text), 401),
        (post(&[("content-type", "application/json"), BEARER], &text), 415),
        (post(&[EVENT, BEARER], "{"), 400),
        (post(&[EVENT, BEARER], "[]"), 400),
        (post(&[EVENT, BEARER], r#"{"specversion": "1.0", "id": "1"}"#), 400),
        (post(&[EVENT, BEARER], &"x".repeat(600 * 1024)), 413),
    ] {
        assert_eq!(refused.expect(status).await.the("content-type"), "application/problem+json");
    }
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
        let named = pay(&service, &bad).expect(422).await.json()["violations"][0]["pointer"].clone();
        assert!(named.as_str().unwrap().starts_with(pointer), "{named}");
    }
    get(&service, &format!("{PAYMENTS}/{}", order_id(1))).expect(404).await;

    let asks = service.request(Method::OPTIONS, PAYMENTS).field("webhook-request-origin", "events.example");
    assert_eq!(asks.expect(200).await.the("webhook-allowed-origin"), "*");

    outcome(&service, &good).await;
    // The same event in binary mode, as SDKs send it by default.
    let binary = ["specversion", "id", "source", "type", "partitionkey"]
        .iter()
        .fold(service.post(PAYMENTS).fields(&[BEARER]).json(&good["data"]), |asked, name| {
            asked.field(&format!("ce-{name}"), good[name].as_str().unwrap())
        });
    binary.replayed().await;
    pay(&service, &event(1, "c", 601, "EUR")).expect(422).await;
    pay(&service, &event(1, "d", 600, "EUR")).expect(422).await;
    for body in [r#"{"amount": 0, "currency": "EUR"}"#, r#"{"amount": 1}"#, "{", "7"] {
        let refused = deposit(&service, "d1", 1).body(body).await;
        assert!((400..500).contains(&refused.status), "{body}");
    }
    assert_eq!(balances(&service).await, json!({}));
}
