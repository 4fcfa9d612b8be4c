//! The recorded responses to some 200 requests: all routes and methods, keys, bodies, conditions, replays, queries and
//! preflights. They are the same with Redis, without it, and in SQLite. `UPDATE_RECORDED=1 cargo xtask test recorded`
//! writes them.

use std::fmt::Write;

use fixtures::Numbered;
use regex::Regex;
use reqwest::Method;
use serde_json::{Value, json};

use crate::applies::Place;
use crate::support::{ORDERS, Service, Setup, an_order, an_order_of, service};

const FILE: &str = "tests/api/recorded.txt";

/// What this service always sends, or what differs each time.
const LEFT_OUT: [&str; 5] = ["content-length", "connection", "date", "x-content-type-options", "x-request-id"];

type Fields = Vec<(&'static str, String)>;

/// What a service has answered so far.
struct Record {
    service: Service,
    numbered: Numbered,
    cursor: Regex,
    text: String,
}

impl Record {
    async fn of(setup: Setup) -> Self {
        let setup = setup.variable("cors_origins", "https://shop.example").variable("public_base_path", "/base");
        let cursor = Regex::new("cursor=[[:xdigit:]]{32}").unwrap();
        Self { service: setup.start().await, numbered: Numbered::default(), cursor, text: String::new() }
    }

    /// Sends a request; returns the response's value of a header.
    async fn send(&mut self, method: &str, path: &str, fields: &Fields, body: &str, wanted: &str) -> String {
        let sent: Vec<_> = fields.iter().map(|(name, value)| (*name, &**value)).collect();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let response = self.service.request(method.clone(), path, &sent, body.to_owned()).await;
        let mut lines = format!("{method} {path}");
        sent.iter().for_each(|(name, value)| write!(lines, " | {name}: {value}").unwrap());
        let shown = body.get(..200).unwrap_or(body);
        write!(lines, " | {shown}\n  {}", response.status).unwrap();
        let kept = response.fields.iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()));
        kept.for_each(|(name, value)| write!(lines, " | {name}: {}", value.to_str().unwrap()).unwrap());
        writeln!(lines, "\n  {}", response.body).unwrap();
        // In SQLite the tag of a list has the digits of the newest id.
        self.text += &self.numbered.form(&self.cursor.replace_all(&lines, "cursor=<>"));
        response.field(wanted).unwrap_or_default().to_owned()
    }

    async fn create(&mut self, key: &str, more: &[(&'static str, &str)], body: &str, wanted: &str) -> String {
        let mut fields = vec![("content-type", "application/json".to_owned())];
        fields.extend((!key.is_empty()).then(|| ("idempotency-key", key.to_owned())));
        fields.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        self.send("POST", ORDERS, &fields, body, wanted).await
    }
}

/// Bodies that are no order, each with one mistake.
fn bad_bodies() -> Vec<String> {
    let with = |pointer: &str, value: Value| {
        let mut order = an_order();
        order["note"] = Value::Null;
        *order.pointer_mut(pointer).unwrap() = value;
        order.to_string()
    };
    let item = an_order()["items"][0].clone();
    let values =
        [json!(null), json!(1), json!(-1), json!(1.5), json!(""), json!("EURO"), json!([]), json!({}), json!(true)];
    let places = ["/currency", "/items", "/items/0", "/items/0/sku", "/items/0/quantity", "/items/0/unitPrice"];
    let mut bodies: Vec<String> =
        places.iter().flat_map(|place| values.iter().map(|value| with(place, value.clone()))).collect();
    bodies.extend([
        with("/note", json!(1)),
        with("/note", json!("n".repeat(501))),
        with("/items", json!(vec![item; 101])),
    ]);
    bodies.extend(
        ["", "{", "[]", "null", "1", "{}", "{} {}", r#"{"currency":"EUR","currency":"EUR","items":[]}"#]
            .map(str::to_owned),
    );
    for (at, name) in [("", "giftWrap"), ("/items/0", "discount")] {
        let mut order = an_order();
        order.pointer_mut(at).unwrap()[name] = json!(1);
        bodies.push(order.to_string());
    }
    bodies
}

async fn record(setup: Setup) -> String {
    let mut it = Record::of(setup).await;
    let order = an_order().to_string();
    let none = &Fields::new();
    let empty = it.send("GET", ORDERS, none, "", "etag").await;

    // Keys, replays, reuse.
    let path = it.create("k1", &[], &order, "location").await;
    let path = path.strip_prefix("/base").unwrap().to_owned();
    for key in ["k1", "\"k1\"", "", " ", "\"\"", "a b", "k\"1", "\"k", &"k".repeat(255), &"k".repeat(256), "k1, k1"] {
        it.create(key, &[], &order, "").await;
    }
    it.create("k1", &[], &an_order_of(3).to_string(), "").await;
    it.create("k1", &[("idempotency-key", "k1")], &order, "").await;
    it.create("k1", &[("idempotency-key", "k2")], &order, "").await;
    let spaced = serde_json::to_string_pretty(&an_order()).unwrap();
    it.create("k1", &[], &spaced, "").await;

    // Bodies and what they are said to be.
    for body in bad_bodies() {
        it.create("bad", &[], &body, "").await;
    }
    it.create("bad", &[], &" ".repeat(65_537), "").await;
    for kind in ["", "text/plain", "application/json; charset=utf-8", "application/json; charset=latin1", "json"] {
        it.send(
            "POST",
            ORDERS,
            &vec![("idempotency-key", "t".to_owned()), ("content-type", kind.to_owned())],
            &order,
            "",
        )
        .await;
    }
    it.create("t", &[("content-encoding", "gzip")], &order, "").await;

    // Conditions.
    let tag = it.send("GET", ORDERS, none, "", "etag").await;
    for (number, condition) in [&*empty, "*", "\"00\"", "00", "", "W/\"x\"", "\"a\", \"b\""].into_iter().enumerate() {
        it.create(&format!("c{number}"), &[("if-match", condition)], &order, "").await;
    }
    let after = it.create("c", &[("if-match", &tag)], &order, "etag").await;
    it.create("c", &[("if-match", &tag)], &order, "").await;
    it.create("d", &[("if-match", &tag)], &order, "").await;
    it.create("d", &[("if-match", &format!("W/{after}"))], &order, "").await;
    for condition in ["*", "\"x\""] {
        it.create("n", &[("if-none-match", condition)], &order, "").await;
    }
    for path in [ORDERS, &path] {
        let tag = it.send("GET", path, none, "", "etag").await;
        for value in [&*tag, "*", "\"other\"", &format!("\"other\", W/{tag}"), "nonsense"] {
            for name in ["if-none-match", "if-match"] {
                it.send("GET", path, &vec![(name, value.to_owned())], "", "").await;
            }
        }
    }

    // Queries.
    let queries = "limit=1 limit=100 limit=0 limit=101 limit=x limit=1&limit=1 cursor= cursor=x offset=1 &&limit=2 \
                   createdAfter=2999-01-01T00:00:00Z createdAfter=1999-01-01T00:00:00Z&limit=2 createdAfter=now";
    for query in queries.split_whitespace() {
        it.send("GET", &format!("{ORDERS}?{query}"), none, "", "").await;
    }

    // Routes and methods.
    let unknown = format!("{ORDERS}/01970000-0000-7000-8000-000000000000");
    let others = "/api/v1/orders/x /api/v1/orders/x/y /api/v1/idempotency-keys/k1 /api/v1/idempotency-keys/never \
                  /api/v1/idempotency-keys/a%20b /api/v1/events /healthz /nothing /api/v1/";
    for path in [ORDERS, &path, &unknown].into_iter().chain(others.split_whitespace()) {
        for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            it.send(method, path, none, "", "").await;
        }
    }
    for origin in ["https://shop.example", "https://evil.example"] {
        let asks = vec![("origin", origin.to_owned()), ("access-control-request-method", "POST".to_owned())];
        it.send("OPTIONS", ORDERS, &asks, "", "").await;
        it.send("GET", &path, &vec![("origin", origin.to_owned())], "", "").await;
    }
    it.text
}

#[tokio::test]
async fn recorded_requests_get_the_recorded_responses() {
    applies_to!(Servers, Embedded);
    let mut setups = vec![service().patient_with_redis()];
    if Place::of_this_run() == Place::Servers {
        setups.push(service().variable("redis_url", "redis://127.0.0.1:1"));
    }
    let file = devstack::workspace::root().join(FILE);
    for (number, setup) in setups.into_iter().enumerate() {
        let text = record(setup).await;
        if std::env::var_os("UPDATE_RECORDED").is_some() && number == 0 {
            std::fs::write(&file, &text).unwrap();
        }
        let recorded = std::fs::read_to_string(&file).unwrap();
        let differs = |(recorded, now): &(&str, &str)| recorded != now;
        let first = recorded.lines().zip(text.lines()).enumerate().find(|(_, pair)| differs(pair));
        assert!(recorded == text, "{FILE}, {first:#?}");
    }
}
