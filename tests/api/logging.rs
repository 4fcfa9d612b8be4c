//! The log: a line per request where that is wanted, with nothing in it that belongs to a customer, and two lines per
//! outage.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Service, Setup, an_order, an_order_of, new_key, service};

const ORDERS: &str = "/api/v1/orders";
const FIELDS: [&str; 10] =
    ["time", "route", "status", "outcome", "duration_ms", "redis_ms", "postgres_ms", "trips", "breaker", "trace_id"];
/// No line may be longer.
const MAX_LINE: usize = 400;

fn logged() -> Setup {
    service().variable("log_requests", "true")
}

/// The lines about requests so far.
fn requests(service: &Service) -> Vec<Value> {
    let logs = service.logs();
    let lines = logs.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The line about the latest request, which is line `number`. It is written before the response is sent.
fn line(service: &Service, number: usize) -> Value {
    let mut lines = requests(service);
    assert_eq!(lines.len(), number, "{lines:?}");
    let line = lines.pop().unwrap();
    let mut names: Vec<&str> = line.as_object().unwrap().keys().map(|k| &**k).collect();
    let mut expected = FIELDS.to_vec();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
    for name in ["duration_ms", "redis_ms", "postgres_ms"] {
        let time = line[name].as_f64().unwrap();
        assert!(time >= 0.0 && time <= line["duration_ms"].as_f64().unwrap(), "{line}");
    }
    let time = line["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
    line
}

fn assert_short_lines(logs: &str) {
    for line in logs.lines() {
        assert!(line.len() <= MAX_LINE, "{line}");
    }
}

/// How many lines begin so.
fn count(logs: &str, start: &str) -> usize {
    logs.lines().filter(|line| line.starts_with(start)).count()
}

#[tokio::test]
async fn each_outcome_is_a_line() {
    applies_to!(Servers);
    let service = logged().patient_with_redis().start().await;
    let (key, order) = (new_key(), an_order());
    let ask = async |fields: &[(&str, &str)], body: Value| service.try_order_with(0, fields, &body).await.unwrap();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let mut number = requests(&service).len();
    let mut expect = |answer: Answer, route: &str, outcome: &str, trips: u64| {
        number += 1;
        let line = line(&service, number);
        let seen = [&line["route"], &line["status"], &line["outcome"], &line["trips"]];
        let expected = [json!(route), json!(answer.status), json!(outcome), json!(trips)];
        assert_eq!(seen, expected.each_ref(), "{line}");
        assert_eq!(line["breaker"], "closed", "{line}");
        (answer, line)
    };

    let fields = [("idempotency-key", &*key), ("traceparent", &*parent)];
    let (_, line) = expect(ask(&fields, order.clone()).await, ORDERS, "created", 2);
    assert_eq!(line["trace_id"], trace);
    assert!(line["redis_ms"].as_f64().unwrap() > 0.0, "{line}");
    assert!(line["postgres_ms"].as_f64().unwrap() > 0.0, "{line}");
    let keyed = [("idempotency-key", &*key)];
    let (first, line) = expect(ask(&keyed, order.clone()).await, ORDERS, "replayed", 3);
    assert_eq!(line["trace_id"], Value::Null);
    let (_, line) = expect(ask(&keyed, order.clone()).await, ORDERS, "replayed", 1);
    assert_eq!(line["postgres_ms"], 0.0);
    expect(ask(&keyed, an_order_of(3)).await, ORDERS, "reused", 2);

    let list = service.get(&format!("{ORDERS}?limit=5")).await;
    let (list, _) = expect(list, ORDERS, "read", 1);
    let tag = list.field("etag").unwrap().to_owned();
    let known = [("if-none-match", &*tag)];
    let known = service.request(Method::GET, ORDERS, &known, "").await;
    expect(known, ORDERS, "read", 1);
    let one = service.get(first.field("location").unwrap()).await;
    expect(one, "/api/v1/orders/{}", "read", 1);
    let path = format!("/api/v1/idempotency-keys/{key}");
    expect(service.get(&path).await, "/api/v1/idempotency-keys/{}", "read", 2);

    let new = new_key();
    // A tag of no state: nothing to lock. The third round trip withdraws the record.
    let based_on = [("idempotency-key", &*new), ("if-match", "\"00\"")];
    expect(ask(&based_on, order.clone()).await, ORDERS, "stale", 3);
    let lock = service.lock();
    let other = "01970000-0000-7000-8000-00000000000a";
    service.redis_command(&["SET", &lock, other, "PX", "60000"]).await;
    let based_on = [("idempotency-key", &*new), ("if-match", &*tag)];
    let locked = ask(&based_on, order.clone()).await;
    assert_eq!(locked.status, 409, "{locked:?}");
    let trips = requests(&service).last().unwrap()["trips"].as_u64();
    expect(locked, ORDERS, "locked", trips.unwrap());

    expect(ask(&[], order.clone()).await, ORDERS, "invalid", 0);
    let keyed = [("idempotency-key", &*new)];
    expect(ask(&keyed, json!({})).await, ORDERS, "invalid", 0);
    expect(service.get("/nothing").await, "other", "not_found", 0);
    expect(service.get("/healthz").await, "/healthz", "read", 0);
    expect(service.get("/readyz").await, "/readyz", "read", 2);
    expect(service.get("/readyz").await, "/readyz", "read", 0);
}

#[tokio::test]
async fn a_wrong_variable_is_logged_and_so_are_its_requests() {
    applies_to!(Servers);
    let setup = logged().variable("redis_timeout_ms", "soon");
    let service = setup.start().await;
    // The fixture has asked for /healthz as well.
    let before = requests(&service).len();
    service.get("/healthz").await;
    assert_eq!(line(&service, before + 1)["outcome"], "read");
    let refused = service.get(ORDERS).await;
    refused.assert_problem(500, "misconfigured");
    let line = line(&service, before + 2);
    assert_eq!((&line["status"], &line["outcome"]), (&json!(500), &json!("failed")));
}

#[tokio::test]
async fn requests_are_not_logged_by_default() {
    applies_to!(Servers);
    let service = service().start().await;
    service.get("/healthz").await;
    service.order(&new_key(), &an_order()).await.assert_created();
    service.get("/nothing").await;
    assert_eq!(requests(&service), Vec::<Value>::new());
}

#[tokio::test]
async fn nothing_of_a_customer_and_no_secret_is_logged() {
    applies_to!(Servers);
    let jwt_key = "czNjcmV0LXMzY3JldC1zM2NyZXQtczNjcmV0LXMzY3JldA";
    let keys = format!(r#"{{"keys":[{{"kty":"oct","k":"{jwt_key}"}}]}}"#);
    let urls = |setup: Setup| {
        setup
            .variable("redis_url", "redis://:s3cret@127.0.0.1:1")
            .variable("database_url", "postgres://u:s3cret@127.0.0.1:1/db")
    };
    let by_header = || logged().variable("identity", "header");
    let by_token = || {
        let setup = logged().variable("identity", "jwt");
        setup.variable("jwt_keys", &keys)
    };
    for setup in [by_header(), urls(by_header()), by_token(), urls(by_token())] {
        let service = setup.start().await;
        exercise(&service).await;
        let logs = service.logs();
        assert!(requests(&service).len() >= 19, "{logs}");
        for word in ["s3cret", "customer-1", jwt_key, "czNjcmV0", "CHF", "1250", "A-1"] {
            assert!(!logs.contains(word), "{word}: {logs}");
        }
        assert_short_lines(&logs);
    }
}

/// Every route, with keys, customers, bodies, tokens and fields that all contain `s3cret`.
async fn exercise(service: &Service) {
    let who = [
        ("x-user-id", "customer-1-s3cret"),
        ("authorization", "Bearer s3cret.s3cret.s3cret"),
        ("traceparent", "00-s3cret"),
        ("content-type", "application/json"),
    ];
    let note = |note: &str| {
        let mut order = an_order();
        order["currency"] = "CHF".into();
        order["note"] = note.into();
        order.to_string()
    };
    for (fields, body) in [
        (&[("idempotency-key", "s3cret-1")][..], note("s3cret")),
        (&[("idempotency-key", "s3cret-1")], note("s3cret")),
        (&[("idempotency-key", "s3cret-1")], note("s3cret 2")),
        (&[("idempotency-key", "s3cret 2")], note("s3cret")),
        (&[], note("s3cret")),
        (&[("idempotency-key", "s3cret-2")], "{\"s3cret\"".to_owned()),
        (&[("idempotency-key", "s3cret-2")], "{\"s3cret\":1}".to_owned()),
        (&[("idempotency-key", "s3cret-3"), ("if-match", "\"s3cret\"")], note("x")),
        (&[("if-match", "\"s3cret\"")], note("x")),
        (&[("idempotency-key", "s3cret-4"), ("if-match", "*")], note("x")),
    ] {
        let fields = [&who, fields].concat();
        service.request(Method::POST, ORDERS, &fields, body).await;
    }
    for path in [
        "/api/v1/orders?limit=2",
        "/api/v1/orders?s3cret=1",
        "/api/v1/orders/s3cret",
        "/api/v1/orders/01970000-0000-7000-8000-00000000000a",
        "/api/v1/idempotency-keys/s3cret-1",
        "/api/v1/idempotency-keys/s3cret-5",
        "/s3cret/s3cret",
        "/healthz?s3cret",
        "/readyz",
    ] {
        service.request(Method::GET, path, &who, "").await;
    }
}

#[tokio::test]
async fn an_outage_of_redis_is_two_lines() {
    applies_to!(Servers);
    let mut service = logged().own_redis().start().await;
    service.order(&new_key(), &an_order()).await.assert_created();
    service.redis().stop().unwrap();
    let start = Instant::now();
    // Longer than the breaker is open: its probes fail as well.
    while start.elapsed() < Duration::from_secs(5) {
        service.order(&new_key(), &an_order()).await.assert_created();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let lines = requests(&service);
    let open = lines.iter().filter(|line| line["breaker"] == "open").count();
    assert!(open * 10 >= lines.len() * 8, "{lines:?}");
    service.redis().restart().unwrap();
    assert_two_lines(&service, "redis").await;
    assert_eq!(requests(&service).last().unwrap()["breaker"], "closed");
}

#[tokio::test]
async fn an_outage_of_postgres_is_two_lines() {
    applies_to!(Servers);
    let mut service = logged().own_postgres().start().await;
    let order = an_order();
    service.order(&new_key(), &order).await.assert_created();
    service.postgres().stop().unwrap();
    for _ in 0..20 {
        let refused = service.order(&new_key(), &order).await;
        refused.assert_problem(503, "unavailable");
    }
    let lines = requests(&service);
    assert_eq!(lines.last().unwrap()["outcome"], "unavailable");
    service.postgres().restart().unwrap();
    assert_two_lines(&service, "postgres").await;
}

/// Asks until the store is said to be back, and asserts that nothing else was said about it.
async fn assert_two_lines(service: &Service, store: &str) {
    let (down, back) = (format!("{store}: down: "), format!("{store}: back after "));
    assert_eq!(count(&service.logs(), &back), 0);
    let deadline = Instant::now() + Duration::from_secs(15);
    while count(&service.logs(), &back) == 0 {
        assert!(Instant::now() < deadline, "{}", service.logs());
        service.order(&new_key(), &an_order()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let logs = service.logs();
    assert_eq!(count(&logs, &down), 1, "{logs}");
    assert_eq!(count(&logs, &back), 1, "{logs}");
    assert_eq!(count(&logs, store), 2, "{logs}");
    assert_short_lines(&logs);
}

#[tokio::test]
async fn a_refused_statement_is_said_once_and_is_no_outage() {
    applies_to!(Servers);
    let service = logged().start().await;
    let database = service.database().await.unwrap();
    database.batch_execute("ALTER TABLE orders RENAME TO other").await.unwrap();
    for _ in 0..5 {
        let refused = service.get(ORDERS).await;
        refused.assert_problem(503, "unavailable");
        assert_eq!(service.get("/healthz").await.status, 200);
    }
    let logs = service.logs();
    assert_eq!(count(&logs, "postgres: 42P01 "), 1, "{logs}");
    assert_eq!(count(&logs, "postgres"), 1, "{logs}");
    assert!(logs.contains("apply the migrations"), "{logs}");
}
