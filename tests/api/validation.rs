//! Orders that break a rule, or are at its limit, and bodies that are too long or do not end.

use reqwest::Method;
use serde_json::json;

use crate::bad_input::{CHUNKED, Raw, key_field};
use crate::support::{ORDERS, an_order, new_key, service};

/// What else is no order, and how that is said: `src/order.rs`.
#[tokio::test]
async fn an_order_beyond_a_limit_is_refused_and_its_key_stays_free() {
    applies_to!(Servers, Embedded, Deployment);
    let service = service().start().await;
    let key = format!("{:k<255}", new_key());
    let item = json!({"sku": "€".repeat(64), "quantity": 10_000, "unitPrice": 0});
    let mut order = json!({"currency": "JPY", "items": vec![item.clone(); 101], "note": "ñ".repeat(500)});
    let refused = service.order(&key, &order).problem(422, "invalid-order").await.json();
    assert_eq!(refused["violations"][0]["pointer"], "/items", "{refused}");
    service.assert_stored(&key, 0).await;
    order["items"] = json!(vec![item; 100]);
    let first = service.order(&key, &order).created().await;
    service.order(&key, &order).replay_of(&first).await;
}

#[tokio::test]
async fn a_body_may_have_64_kib_and_not_a_byte_more() {
    applies_to!(Servers, Embedded, Deployment);
    let service = service().start().await;
    let key = new_key();
    let order = an_order().to_string();
    let whole = |length: usize| format!("{order}{}", " ".repeat(length - order.len()));
    // In chunks, no length is declared.
    let chunks = |length: usize| {
        let chunk = |chunk: &[u8]| Ok::<_, std::io::Error>(chunk.to_vec());
        let chunks: Vec<_> = whole(length).as_bytes().chunks(10_000).map(chunk).collect();
        reqwest::Body::wrap_stream(futures::stream::iter(chunks))
    };
    let post = |body: reqwest::Body| service.request(Method::POST, ORDERS, &[("idempotency-key", &key)], body);
    post(whole(65_537).into()).problem(413, "body-too-large").await;
    post(chunks(65_537)).problem(413, "body-too-large").await;
    service.assert_stored(&key, 0).await;
    let fits = post(chunks(65_536)).created().await;
    post(whole(65_536).into()).replay_of(&fits).await;
}

#[tokio::test]
async fn a_body_ends_as_it_says_or_is_refused() {
    applies_to!(Servers, Embedded);
    let service = service().start().await;
    let (key, order) = (new_key(), an_order().to_string());
    let length = order.len();
    // It is shorter: the connection may just be closed; a response must be a rejection.
    let declared = format!("Content-Length: {}", length + 1);
    let mut raw = Raw::post(&service, &[&key_field(&key), declared.as_bytes()]).await;
    raw.send(order.as_bytes()).await;
    raw.end().await;
    let status = raw.try_answer().await.map(|answer| answer.status);
    assert!(matches!(status, None | Some(400)), "{status:?}");
    service.assert_stored(&key, 0).await;
    // A length beside chunks is ignored.
    for (rest, status) in [("x", 400), (" ", 201)] {
        let declared = format!("Content-Length: {length}");
        let mut raw = Raw::post(&service, &[&key_field(&key), declared.as_bytes(), CHUNKED]).await;
        raw.send(format!("{length:x}\r\n{order}\r\n1\r\n{rest}\r\n0\r\n\r\n").as_bytes()).await;
        assert_eq!(raw.answer().await.status, status);
    }
    // It never ends: a response must come all the same.
    let mut raw = Raw::post(&service, &[&key_field("k"), CHUNKED]).await;
    for _ in 0..17 {
        raw.send(format!("1000\r\n{}\r\n", " ".repeat(0x1000)).as_bytes()).await;
    }
    raw.answer().await.assert_problem(413, "body-too-large");
}
