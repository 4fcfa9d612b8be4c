//! Input that no client should send: it is rejected, stores nothing, delays no other request and breaks nothing.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::support::{Answer, Service, an_order, new_key, service};

const JSON: &[u8] = b"Content-Type: application/json";
pub const CHUNKED: &[u8] = b"Transfer-Encoding: chunked";

/// Longer than any response may take, even to a body that never comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request on a connection of its own, with bytes that a client library would refuse to send.
pub struct Raw(TcpStream);

impl Raw {
    /// Sends the head; `fields` are whole lines.
    pub async fn post(service: &Service, fields: &[&[u8]]) -> Self {
        let line = &b"POST /api/v1/orders HTTP/1.1"[..];
        let common = [line, b"Host: localhost", b"Connection: close"];
        let head = [&common, fields, &[b"", b""]].concat().join(&b"\r\n"[..]);
        let mut raw = Self(TcpStream::connect(service.address()).await.unwrap());
        raw.send(&head).await;
        raw
    }

    /// Sends a whole request.
    pub async fn order(service: &Service, fields: &[&[u8]], body: &[u8]) -> Answer {
        let length = format!("Content-Length: {}", body.len());
        let fields = [&[length.as_bytes()], fields].concat();
        let mut raw = Self::post(service, &fields).await;
        raw.send(body).await;
        raw.answer().await
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        // A client that got an early response may find the connection closed.
        let _ = self.0.write_all(bytes).await;
    }

    /// Sends nothing more.
    pub async fn end(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    pub async fn answer(self) -> Answer {
        self.try_answer().await.expect("an answer")
    }

    /// The response; nothing if the connection is closed without one.
    pub async fn try_answer(mut self) -> Option<Answer> {
        let mut bytes = Vec::new();
        let read = timeout(PATIENCE, self.0.read_to_end(&mut bytes)).await;
        let text = String::from_utf8(bytes).unwrap();
        assert!(read.is_ok(), "no whole answer: {text:?}");
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap();
        let fields = lines.map(|line| line.split_once(':').unwrap());
        let fields = fields.map(|(name, value)| (name.parse().unwrap(), value.trim().parse().unwrap())).collect();
        Some(Answer { status: status.parse().unwrap(), fields, body: body.to_owned() })
    }
}

pub fn key_field(key: impl AsRef<[u8]>) -> Vec<u8> {
    [b"Idempotency-Key: ", key.as_ref()].concat()
}

/// Nothing was stored, no instance failed, and the service goes on.
async fn assert_untouched(service: &Service, key: &str) {
    assert_eq!(service.redis_command(&["DBSIZE"]).await, Some(redis::Value::Int(0)));
    assert_eq!(service.all_stored().await, 0);
    service.order(key, &an_order()).created().await;
    assert_nothing_failed(service);
}

fn assert_nothing_failed(service: &Service) {
    let logs = service.logs();
    for failure in ["instance failed", "request failed", "trap", "panicked"] {
        assert!(!logs.contains(failure), "{logs}");
    }
}

/// What else is no key: `tests/properties/key_header.rs`.
#[tokio::test]
async fn fields_that_are_no_key_or_no_text() {
    applies_to!(Servers);
    let service = service().own_redis().start().await;
    let order = an_order().to_string();
    let missing = Raw::order(&service, &[JSON], order.as_bytes()).await;
    missing.assert_problem(400, "idempotency-key-missing");
    for (key, problem) in [
        (&b""[..], "malformed"),
        (b"\"\"", "malformed"),
        (b"two words", "malformed"),
        (&b"k".repeat(256), "malformed"),
        (&b"k".repeat(20_000), "malformed"),
        (b"k\xc3\xa9", "malformed"),
        (b"a\tb", "malformed"),
        (b"a,,a", "malformed"),
        (b"\"a\";q=1", "malformed"),
        (b"k\r\nidempotency-key: \"k", "malformed"),
        (b"k\r\nIDEMPOTENCY-KEY:", "malformed"),
        (b"\"a\",b", "ambiguous"),
        (b"one\r\nIdempotency-Key: two", "ambiguous"),
    ] {
        let refused = Raw::order(&service, &[&key_field(key), JSON], order.as_bytes()).await;
        refused.assert_problem(400, &format!("idempotency-key-{problem}"));
    }

    let key = new_key();
    for content_type in [
        &b"Content-Type: application/json\r\nContent-Type: text/plain"[..],
        b"Content-Type: application/json\r\nContent-Type: application/json",
        b"Content-Type: application/json, application/json",
        b"Content-Type: application/json; x=\"\xc3\xa9\"",
        b"Content-Type: text/plain",
        b"Content-Type:",
        b"Content-Type: application/jsonl",
    ] {
        let refused = Raw::order(&service, &[&key_field(&key), content_type], order.as_bytes()).await;
        refused.assert_problem(415, "unsupported-media-type");
    }
    for coding in ["gzip", "identity, gzip"] {
        let coding = format!("Content-Encoding: {coding}");
        let refused = Raw::order(&service, &[&key_field(&key), JSON, coding.as_bytes()], order.as_bytes()).await;
        refused.assert_problem(415, "unsupported-content-encoding");
        assert_eq!(refused.the("accept-encoding"), "identity");
    }
    assert_untouched(&service, &key).await;
}

#[tokio::test]
async fn heads_that_are_no_http() {
    applies_to!(Servers);
    let service = service().own_redis().start().await;
    let key = new_key();
    let order = an_order().to_string();
    // The host may choose the response, as long as it rejects.
    for field in [
        &b"Idempotency-Key: k\0"[..],
        b"Idempotency-Key: a\rb",
        b"Idempotency-Key: a\x7fb",
        b"Idempotency-Key : k",
        b"Idempotency-Key: a\r\n folded",
        b"X-Other: a\0b",
        b"X-No-Colon",
        b"Content-Length: -1",
        b"Transfer-Encoding: gzip",
        &b"X-Many: 1\r\n".repeat(2_000)[..21_998],
    ] {
        let fields = [&key_field(&key), JSON, field];
        let refused = Raw::order(&service, &fields, order.as_bytes()).await;
        assert!((400..500).contains(&refused.status), "{field:?}: {refused:?}");
    }
    // Spin answers bytes that are not UTF-8 with an error of its own (workshop/runner/README.md).
    for field in [&b"Idempotency-Key: k\xff"[..], b"Idempotency-Key: \xe9", b"X-Other: \xff", b"X-Other: \xed\xa0\x80"]
    {
        let fields = [JSON, field];
        let refused = Raw::order(&service, &fields, order.as_bytes()).await;
        let status = if crate::applies::is_on_spin() { 500 } else { 400 };
        assert_eq!(refused.status, status, "{field:?}: {refused:?}");
    }
    assert_untouched(&service, &key).await;
}

#[tokio::test]
async fn fields_that_are_only_odd_are_accepted() {
    applies_to!(Servers);
    let service = service().start().await;
    let order = an_order().to_string();
    let longest = format!("{:k<255}", new_key());
    let special = format!(r#"{}!#$%&'()*+-./:;<=>?@[]^_`{{|}}~"#, new_key());
    for (key, again) in [
        (longest.clone(), format!("\"{longest}\"")),
        (format!("{special}\\"), format!("\"{special}\\\\\"")),
        (format!("\"{special},\""), format!("\"{special},\", \"{special},\"")),
    ] {
        let first = Raw::order(&service, &[&key_field(&key), JSON], order.as_bytes()).await;
        first.assert_created();
        let replay = Raw::order(&service, &[&key_field(&again), JSON], order.as_bytes()).await;
        replay.assert_replay_of(&first);
        service.assert_stored(key.trim_matches('"'), 1).await;
    }

    let key = new_key();
    let (bare, quoted) = (key_field(&key), key_field(format!("  \"{key}\"\t")));
    let fields = [&bare[..], &bare, JSON];
    let first = Raw::order(&service, &fields, order.as_bytes()).await;
    first.assert_created();
    for odd in [&quoted[..], b"X-Other: \xc3\xa9", b"X-Empty:", b"Accept: nothing/at-all", b"Expect: 100-something"] {
        let fields = [&bare[..], JSON, odd];
        let replay = Raw::order(&service, &fields, order.as_bytes()).await;
        replay.assert_replay_of(&first);
    }
    service.assert_stored(&key, 1).await;
    assert_nothing_failed(&service);
}

/// An order with this text in the place of a note.
fn noted(note: impl AsRef<[u8]>) -> Vec<u8> {
    let start = br#"{"currency":"EUR","items":[{"sku":"A","quantity":1,"unitPrice":1}],"note":"#;
    [start, note.as_ref(), b"}"].concat()
}

/// An order with these texts in the place of a quantity and a price.
fn numbered(quantity: &str, price: &str) -> String {
    format!(r#"{{"currency":"EUR","items":[{{"sku":"A","quantity":{quantity},"unitPrice":{price}}}]}}"#)
}

async fn post(service: &Service, key: &str, body: impl AsRef<[u8]>) -> Answer {
    Raw::order(service, &[&key_field(key), JSON], body.as_ref()).await
}

/// What else is no JSON: `tests/properties/json_body.rs`.
#[tokio::test]
async fn bodies_that_are_no_json() {
    applies_to!(Servers);
    let service = service().own_redis().start().await;
    let key = new_key();
    let order = an_order().to_string();
    for body in [
        b"".to_vec(),
        b" \r\n\t".to_vec(),
        b"{}{}".to_vec(),
        [b"\xef\xbb\xbf", order.as_bytes()].concat(),
        [order.as_bytes(), b"\0"].concat(),
        order.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        noted(b"\"\xff\""),
        noted(br#""\ud800""#),
        noted(br#""\ud800\u0041""#),
        noted("-1e400"),
        noted("[".repeat(127) + "0" + &"]".repeat(127)),
        noted("[".repeat(30_000) + "0" + &"]".repeat(30_000)),
        noted("{\"a\":".repeat(10_000)),
        noted(r#"null,"n\u006fte":"x""#),
        noted(r#"{"a":{"b":[{"c":1,"c":1}]}}"#),
        numbered("1", "NaN").into(),
    ] {
        post(&service, &key, &body).await.assert_problem(400, "malformed-json");
    }
    assert_untouched(&service, &key).await;
}

/// What else is no order: `src/order.rs`, `tests/openapi/document.rs` and `tests/properties/json_body.rs`.
#[tokio::test]
async fn json_that_is_no_order() {
    applies_to!(Servers);
    let service = service().own_redis().start().await;
    let key = new_key();
    for (body, pointer) in [
        ("9007199254740993".to_owned(), ""),
        (numbered("-0", "1"), "/items/0/quantity"),
        (numbered("1e3", "1"), "/items/0/quantity"),
        (numbered("1", "9223372036854775808"), "/items/0/unitPrice"),
        (numbered("9999", "9223372036854775807"), "/items"),
        (String::from_utf8(noted("[".repeat(126) + "0" + &"]".repeat(126))).unwrap(), "/note"),
    ] {
        let refused = post(&service, &key, &body).await;
        let violations = &refused.assert_problem(422, "invalid-order").json()["violations"];
        assert_eq!(violations[0]["pointer"], pointer, "{body}: {violations}");
    }
    // As many faults as fit into a body, and one name as long as a body.
    let members: Vec<_> = (0..7_000).map(|n| format!("\"{n}\":0")).collect();
    let many = post(&service, &key, format!("{{{}}}", members.join(","))).await;
    let long = post(&service, &key, format!("{{\"{}\":0}}", "/".repeat(65_000))).await;
    for refused in [&many, &long] {
        assert!(refused.assert_problem(422, "invalid-order").body.len() < 16 * 1024, "{}", refused.body.len());
    }
    assert_eq!(many.json()["violations"].as_array().map(Vec::len), Some(50));
    assert_eq!(many.json()["violationCount"], 7_002);
    assert_untouched(&service, &key).await;

    let created = post(&service, &new_key(), numbered("1", "9223372036854775807")).await;
    assert_eq!(created.assert_created().json()["total"], i64::MAX);
}

#[tokio::test]
async fn a_slow_body_is_waited_for_and_one_that_stalls_is_not() {
    applies_to!(Servers);
    let service = service().start().await;
    let order = an_order().to_string();
    let length = format!("Content-Length: {}", order.len());
    let length = length.as_bytes();
    let chunk = format!("{:x}\r\n{order}\r\n", order.len());
    let (slow, half, open, dripping, neighbour) = (new_key(), new_key(), new_key(), new_key(), new_key());
    let begin = async |key: &str, length: &[u8]| Raw::post(&service, &[&key_field(key), JSON, length]).await;

    let start = Instant::now();
    let slow_but_whole = async {
        let mut raw = begin(&slow, length).await;
        for piece in order.as_bytes().chunks(8) {
            sleep(Duration::from_millis(300)).await;
            raw.send(piece).await;
        }
        raw.answer().await.assert_created();
        assert!(start.elapsed() < Duration::from_secs(9));
    };
    let timed_out = async |raw: Raw| {
        raw.answer().await.assert_problem(408, "body-timed-out");
        let elapsed = start.elapsed().as_secs_f64();
        assert!((9.5..15.0).contains(&elapsed), "after {elapsed} s");
    };
    let half_a_body = async {
        let mut raw = begin(&half, length).await;
        raw.send(&order.as_bytes()[..order.len() / 2]).await;
        timed_out(raw).await;
    };
    let all_but_the_end = async {
        let mut raw = begin(&open, CHUNKED).await;
        raw.send(chunk.as_bytes()).await;
        timed_out(raw).await;
    };
    // Progress alone buys no time.
    let drop_by_drop = async {
        let mut raw = begin(&dripping, length).await;
        for byte in order.as_bytes().chunks(1).take(20) {
            raw.send(byte).await;
            sleep(Duration::from_millis(480)).await;
        }
        timed_out(raw).await;
    };
    // More than an instance takes at once.
    let nothing_at_all =
        futures::future::join_all((0..40).map(|_| async { timed_out(begin(&new_key(), length).await).await }));
    let meanwhile = async {
        sleep(Duration::from_secs(2)).await;
        let asked = Instant::now();
        service.order(&neighbour, &an_order()).created().await;
        assert!(asked.elapsed() < Duration::from_secs(3));
    };
    tokio::join!(slow_but_whole, half_a_body, all_but_the_end, drop_by_drop, nothing_at_all, meanwhile);

    for (key, orders) in [(&slow, 1), (&neighbour, 1), (&half, 0), (&open, 0), (&dripping, 0)] {
        service.assert_stored(key, orders).await;
    }
    service.order(&half, &an_order()).created().await;
    assert_nothing_failed(&service);
}
