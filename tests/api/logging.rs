//! The log: a line per request where that is wanted, with nothing in it that belongs to a customer, and two lines per
//! outage.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fixtures::client::Asked;
use fixtures::until;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{ORDERS, Service, Setup, an_order, an_order_of, new_key, service};

const FIELDS: [&str; 11] = [
    "time",
    "route",
    "status",
    "outcome",
    "duration_ms",
    "redis_ms",
    "postgres_ms",
    "trips",
    "breaker",
    "request_id",
    "trace_id",
];
/// No line may be longer.
const MAX_LINE: usize = 400;

fn logged() -> Setup {
    service().variable("log_requests", "true")
}

/// The lines about requests so far.
pub fn requests(service: &Service) -> Vec<Value> {
    let logs = service.logs();
    let lines = logs.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The line about the latest request, which is line `number`. It is written before the response is sent.
fn line(service: &Service, number: usize) -> Value {
    let mut lines = requests(service);
    assert_eq!(lines.len(), number, "{lines:?}");
    let line = lines.pop().unwrap();
    let names: HashSet<&str> = line.as_object().unwrap().keys().map(|name| &**name).collect();
    assert_eq!(names, HashSet::from(FIELDS));
    for name in ["duration_ms", "redis_ms", "postgres_ms"] {
        let time = line[name].as_f64().unwrap();
        assert!(time >= 0.0 && time <= line["duration_ms"].as_f64().unwrap(), "{line}");
    }
    let time = line["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
    line
}

fn assert_short_lines(logs: &str) {
    assert!(logs.lines().all(|line| line.len() <= MAX_LINE), "{logs}");
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
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut number = requests(&service).len();
    let mut expect = async |asked: Asked, route: &str, outcome: &str, trips: u64| {
        let answer = asked.await;
        number += 1;
        let line = line(&service, number);
        let seen = [&line["route"], &line["status"], &line["outcome"], &line["breaker"]];
        let expected = [json!(route), json!(answer.status), json!(outcome), json!("closed")];
        assert_eq!(seen, expected.each_ref(), "{line}");
        // On a busy machine the host takes a new instance, which knows neither the history nor the readiness.
        let of_new_instance = match (outcome, route) {
            ("replayed" | "reused", _) => trips + 1,
            (_, "/readyz") => 9,
            _ => trips,
        };
        assert!([trips, of_new_instance].contains(&line["trips"].as_u64().unwrap()), "{line}");
        (answer, line)
    };
    let asked = || service.order(&key, &order);

    let traced = asked().field("traceparent", format!("00-{trace}-00f067aa0ba902b7-01")).field("x-request-id", "7:a");
    let (created, line) = expect(traced, ORDERS, "created", 2).await;
    assert_eq!((&line["trace_id"], &line["request_id"]), (&json!(trace), &json!("7:a")));
    assert_eq!(created.the("x-request-id"), "7:a");
    assert!(line["redis_ms"].as_f64() > Some(0.0) && line["postgres_ms"].as_f64() > Some(0.0), "{line}");
    let (first, line) = expect(asked().field("x-request-id", "not one word"), ORDERS, "replayed", 3).await;
    assert_eq!((&line["trace_id"], &line["request_id"]), (&Value::Null, &json!(first.the("x-request-id"))));
    let (second, line) = expect(asked(), ORDERS, "replayed", 1).await;
    assert_eq!(line["postgres_ms"] == 0.0, line["trips"] == 1, "{line}");
    assert_eq!(line["request_id"], second.the("x-request-id"));
    assert_ne!(first.the("x-request-id"), second.the("x-request-id"));
    expect(service.order(&key, &an_order_of(3)), ORDERS, "reused", 2).await;

    let (list, _) = expect(service.get(&format!("{ORDERS}?limit=5")), ORDERS, "read", 1).await;
    let tag = list.the("etag");
    expect(service.get(ORDERS).field("if-none-match", tag), ORDERS, "read", 1).await;
    expect(service.get(first.the("location")), "/api/v1/orders/{}", "read", 1).await;
    expect(service.state(&key), "/api/v1/idempotency-keys/{}", "read", 2).await;

    let new = new_key();
    let based_on = |tag: &str| service.order(&new, &order).field("if-match", tag);
    // A tag of no state: nothing to lock. The third round trip withdraws the record.
    expect(based_on("\"00\""), ORDERS, "stale", 3).await;
    service.redis_command(&["SET", &service.lock(), "another request", "PX", "60000"]).await;
    expect(based_on(tag).expect(409), ORDERS, "locked", 4).await;

    expect(service.order_without_key(0, &order), ORDERS, "invalid", 0).await;
    expect(service.order(&new, &json!({})), ORDERS, "invalid", 0).await;
    expect(service.get("/nothing"), "other", "not_found", 0).await;
    expect(service.get("/healthz"), "/healthz", "read", 0).await;
    expect(service.get("/readyz"), "/readyz", "read", 9).await;
    expect(service.get("/readyz"), "/readyz", "read", 0).await;
}

#[tokio::test]
async fn nothing_of_a_customer_and_no_secret_is_logged() {
    applies_to!(Servers);
    let jwt_key = "czNjcmV0LXMzY3JldC1zM2NyZXQtczNjcmV0LXMzY3JldA";
    let keys = format!(r#"{{"keys":[{{"kty":"oct","k":"{jwt_key}"}}]}}"#);
    let nowhere = |setup: Setup| {
        let setup = setup.variable("redis_url", "redis://:s3cret@127.0.0.1:1");
        setup.variable("database_url", "postgres://u:s3cret@127.0.0.1:1/db")
    };
    let by_header = || logged().variable("identity", "header").patient_with_redis();
    let by_token = || logged().variable("identity", "jwt").variable("jwt_keys", &keys);
    let mut stores = service().own_redis().start().await;
    stores.redis_command(&["CONFIG", "SET", "requirepass", "s3cret"]).await;
    let redis_url = stores.redis().url().replace("redis://", "redis://:s3cret@");
    let with_password = by_header().variable("redis_url", redis_url);
    let with_password = with_password.variable("database_url", stores.database_url().replace('@', ":s3cret@"));
    for (setup, ready) in
        [(with_password, 200), (nowhere(by_header()), 503), (by_token(), 200), (nowhere(by_token()), 503)]
    {
        let service = setup.start().await;
        let readiness = service.get("/readyz").expect(ready).await;
        // The component logs in: the first Redis requires the password.
        assert_eq!(readiness.json()["status"] == "ready", ready == 200, "{readiness:?}");
        exercise(&service).await;
        let logs = service.logs();
        assert!(requests(&service).len() >= 14, "{logs}");
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
        ("x-request-id", "s3cret, s3cret"),
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
        (&[("idempotency-key", "s3cret-1")], note("s3cret 2")),
        (&[("idempotency-key", "s3cret 2")], note("s3cret")),
        (&[], note("s3cret")),
        (&[("idempotency-key", "s3cret-2")], "{\"s3cret\"".to_owned()),
        (&[("idempotency-key", "s3cret-2")], "{\"s3cret\":1}".to_owned()),
        (&[("idempotency-key", "s3cret-3"), ("if-match", "\"s3cret\"")], note("x")),
    ] {
        let fields = [&who, fields].concat();
        service.request(Method::POST, ORDERS, &fields, body).await;
    }
    for path in [
        "/api/v1/orders?limit=2",
        "/api/v1/orders?s3cret=1",
        "/api/v1/orders/s3cret",
        "/api/v1/idempotency-keys/s3cret-1",
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
    service.new_order().await;
    service.redis().stop().unwrap();
    let start = Instant::now();
    // Longer than the breaker is open: its probes fail as well.
    while start.elapsed() < Duration::from_secs(5) {
        service.new_order().await;
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
    service.new_order().await;
    service.postgres().stop().unwrap();
    for _ in 0..20 {
        service.new_order().problem(503, "unavailable").await;
    }
    assert_eq!(requests(&service).last().unwrap()["outcome"], "unavailable");
    service.postgres().restart().unwrap();
    assert_two_lines(&service, "postgres").await;
}

/// Asks until the store is said to be back, and asserts that nothing else was said about it.
async fn assert_two_lines(service: &Service, store: &str) {
    let (down, back) = (format!("{store}: down: "), format!("{store}: back after "));
    assert_eq!(count(&service.logs(), &back), 0);
    until("the store is back", async || {
        // An instance serves 128 requests: the one that has seen the outage has to see its end.
        tokio::time::sleep(Duration::from_millis(100)).await;
        service.order(&new_key(), &an_order()).await;
        count(&service.logs(), &back) > 0
    })
    .await;
    let logs = service.logs();
    assert_eq!([count(&logs, &down), count(&logs, &back), count(&logs, store)], [1, 1, 2], "{logs}");
    assert_short_lines(&logs);
}
