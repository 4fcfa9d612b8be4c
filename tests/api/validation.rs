//! What is rejected before any store is touched.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Answer, Service, an_order, new_key, service};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn post(service: &Service, fields: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Answer {
    service.request(Method::POST, "/api/v1/orders", fields, body).await
}

#[tokio::test]
async fn bad_requests_are_refused_and_reserve_nothing() {
    applies_to!(Servers);
    let service = service().own_redis().start().await;
    let order = an_order().to_string();
    let too_long = "k".repeat(256);
    for (keys, problem) in [
        (&[][..], "idempotency-key-missing"),
        (&[""][..], "idempotency-key-malformed"),
        (&["\"\""], "idempotency-key-malformed"),
        (&["two words"], "idempotency-key-malformed"),
        (&["\"open"], "idempotency-key-malformed"),
        (&[too_long.as_str()], "idempotency-key-malformed"),
        (&["one", "two"], "idempotency-key-ambiguous"),
    ] {
        let mut fields = vec![JSON];
        fields.extend(keys.iter().map(|key| ("idempotency-key", *key)));
        let refused = post(&service, &fields, order.clone()).await;
        refused.assert_problem(400, problem);
    }

    let key = new_key();
    let key = ("idempotency-key", key.as_str());
    let plain = ("content-type", "text/plain");
    let refused = post(&service, &[key, plain], order.clone()).await;
    refused.assert_problem(415, "unsupported-media-type");
    for body in ["", "{", "[1,]", "{}{}", "{\"currency\":\"EUR\",\"currency\":\"EUR\"}", "1e999"] {
        let refused = post(&service, &[key, JSON], body).await;
        refused.assert_problem(400, "malformed-json");
    }
    for deep in ["[".repeat(60_000), format!("{}{}", "[".repeat(30_000), "]".repeat(30_000))] {
        let refused = post(&service, &[key, JSON], deep).await;
        refused.assert_problem(400, "malformed-json");
    }

    let keys = service.redis_command(&["DBSIZE"]).await;
    assert_eq!(keys, Some(redis::Value::Int(0)));
    let database = service.database().await.unwrap();
    let row = database.query_one("SELECT count(*) FROM orders", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn an_invalid_order_is_refused_field_by_field_and_its_key_stays_free() {
    applies_to!(Servers, Embedded, Deployment);
    let service = service().start().await;
    let key = new_key();
    let body = json!({
        "currency": "XYZ",
        "items": [
            {"sku": "", "quantity": 0, "unitPrice": -1},
            {"sku": "a\u{0}", "quantity": 10_001, "unitPrice": 1.5, "colour": "red"},
            {"sku": "s".repeat(65), "quantity": "1"},
        ],
        "note": "n".repeat(501),
        "extra": true,
    });
    let refused = service.order(&key, &body).await;
    refused.assert_problem(422, "invalid-order");
    let mut pointers: Vec<Value> =
        refused.json()["violations"].as_array().unwrap().iter().map(|violation| violation["pointer"].clone()).collect();
    pointers.sort_by_key(ToString::to_string);
    assert_eq!(
        pointers,
        [
            "/currency",
            "/extra",
            "/items/0/quantity",
            "/items/0/sku",
            "/items/0/unitPrice",
            "/items/1/colour",
            "/items/1/quantity",
            "/items/1/sku",
            "/items/1/unitPrice",
            "/items/2/quantity",
            "/items/2/sku",
            "/items/2/unitPrice",
            "/note",
        ]
    );
    let too_much = json!({"currency": "EUR", "items": [{"sku": "A", "quantity": 2, "unitPrice": i64::MAX}]});
    let refused = service.order(&key, &too_much).await;
    refused.assert_problem(422, "invalid-order");
    assert_eq!(refused.json()["violations"][0]["pointer"], "/items");

    service.assert_stored(&key, 0).await;
    service.order(&key, &an_order()).await.assert_created();
}

#[tokio::test]
async fn orders_at_the_limits_are_accepted() {
    applies_to!(Servers, Embedded, Deployment);
    let service = service().start().await;
    let item = json!({"sku": "€".repeat(64), "quantity": 10_000, "unitPrice": 0});
    let mut order = json!({"currency": "JPY", "items": vec![item.clone(); 100], "note": "ñ".repeat(500)});
    let longest_key = format!("{}{}", new_key(), "k".repeat(255 - 36));
    let first = service.order(&longest_key, &order).await;
    first.assert_created();
    service.order(&longest_key, &order).await.assert_replay_of(&first);
    order["items"] = json!(vec![item; 101]);
    let refused = service.order(&new_key(), &order).await;
    refused.assert_problem(422, "invalid-order");
}

#[tokio::test]
async fn a_body_may_have_64_kib_and_not_a_byte_more() {
    applies_to!(Servers, Embedded, Deployment);
    let service = service().start().await;
    let padded = |length: usize| {
        let order = an_order().to_string();
        format!("{order}{}", " ".repeat(length - order.len()))
    };
    let key = new_key();
    let fields = [("idempotency-key", key.as_str()), JSON];
    let declared = post(&service, &fields, padded(65_537)).await;
    declared.assert_problem(413, "body-too-large");
    // In chunks, so that no length is declared.
    let chunked = post(&service, &fields, chunks(padded(65_537))).await;
    chunked.assert_problem(413, "body-too-large");
    service.assert_stored(&key, 0).await;

    let fits = post(&service, &fields, chunks(padded(65_536))).await;
    fits.assert_created();
    post(&service, &fields, padded(65_536)).await.assert_replay_of(&fits);
}

fn chunks(text: String) -> reqwest::Body {
    let chunks: Vec<_> =
        text.into_bytes().chunks(10_000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
    reqwest::Body::wrap_stream(futures::stream::iter(chunks))
}

#[tokio::test]
async fn reading_stops_at_the_limit() {
    applies_to!(Servers, Embedded);
    let service = service().start().await;
    // A body that never ends: a response must come all the same.
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    let head = "POST /api/v1/orders HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\n\
                Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    for _ in 0..17 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_length_beside_chunks_is_ignored() {
    applies_to!(Servers, Embedded);
    let service = service().start().await;
    let order = an_order().to_string();
    for (rest, status) in [("x", "400"), (" ", "201")] {
        let mut stream = TcpStream::connect(service.address()).await.unwrap();
        let length = order.len();
        let request = format!(
            "POST /api/v1/orders HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {}\r\nContent-Length: {length}\r\n\
             Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{order}\r\n1\r\n{rest}\r\n0\r\n\r\n",
            new_key()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(str::from_utf8(&answer).unwrap(), format!("HTTP/1.1 {status}"));
    }
}

#[tokio::test]
async fn a_truncated_body_stores_nothing() {
    applies_to!(Servers, Embedded);
    let service = service().start().await;
    let key = new_key();
    let order = an_order().to_string();
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    let head = format!(
        "POST /api/v1/orders HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{order}",
        order.len() + 1
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    // The connection may just be closed; a response must be a rejection.
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    service.assert_stored(&key, 0).await;
    service.order(&key, &an_order()).await.assert_created();
}
