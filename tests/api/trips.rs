//! What a request costs: exact numbers of round trips to the stores, counted by the runner.

use fixtures::client::Asked;
use serde_json::Value;

use crate::support::{Answer, ORDERS, Service, an_order, an_order_of, new_key, service};

/// Commands to Redis, statements to the database, by the runner's counts.
async fn trips(service: &Service) -> (u64, u64) {
    let calls = service.get("/.well-known/runner/calls").await.json();
    let count = |name: &str| calls[name].as_u64().unwrap();
    (count("redisCommands"), count("postgresStatements") + count("sqliteStatements"))
}

/// Asserts what a request adds to them; returns its response.
pub async fn costs(service: &Service, asked: Asked, expected: (u64, u64), what: &str) -> Answer {
    let before = trips(service).await;
    let answer = asked.await;
    let after = trips(service).await;
    assert_eq!((after.0 - before.0, after.1 - before.1), expected, "{what}");
    answer
}

#[tokio::test]
async fn a_creation_is_one_trip_to_each_store_and_a_finished_replay_one_to_redis() {
    applies_to!(Servers; on the runner);
    let service = service().patient_with_redis().start().await;
    for _ in 0..3 {
        let (key, order) = (new_key(), an_order());
        let asked = || service.order(&key, &order);
        let first = costs(&service, asked().created(), (1, 1), "a creation").await;
        costs(&service, asked().replay_of(&first), (2, 1), "the first retry, which finishes the record").await;
        for _ in 0..2 {
            costs(&service, asked().replay_of(&first), (1, 0), "a replay of a finished order").await;
        }
        let other = service.order(&key, &an_order_of(3)).problem(422, "idempotency-key-reused");
        costs(&service, other, (1, 1), "a refusal, which Postgres has to confirm").await;
        let malformed = service.order("two words", &order).problem(400, "idempotency-key-malformed");
        costs(&service, malformed, (0, 0), "a bad request").await;
        let mut invalid = an_order();
        invalid["currency"] = "XQQ".into();
        let invalid = service.order(&key, &invalid).problem(422, "invalid-order");
        costs(&service, invalid, (0, 1), "an order that may once have been valid").await;
        let never = service.order(&key, &Value::Null).problem(422, "invalid-order");
        costs(&service, never, (0, 0), "no order under any rules").await;
        costs(&service, service.state(&key).expect(200), (1, 1), "a key's state").await;
        costs(&service, service.get(ORDERS).expect(200), (0, 1), "a list and its tag").await;
    }
}

#[tokio::test]
async fn any_text_reaches_postgres_at_the_first_attempt() {
    applies_to!(Servers; on the runner);
    let service = service().patient_with_redis().start().await;
    let controls: String = ('\u{1}'..='\u{1f}').chain(['\u{7f}', '\u{9f}']).collect();
    for text in
        [r#"say "no" \ 'yes' $1 \u0000 \x00"#, "æ – 漢字 🦀 \u{200f}\u{2028}\u{fffd}\u{10ffff}", &controls, "\\", ""]
    {
        let mut order = an_order();
        order["note"] = text.into();
        order["items"][0]["sku"] = format!("x{text}").into();
        let answer = costs(&service, service.order(&new_key(), &order).created(), (1, 1), text).await;
        let shown = service.get_order(&answer).await;
        assert_eq!(shown.body, answer.body);
        assert_eq!(shown.json()["note"], text);
    }
}

#[tokio::test]
async fn a_conditional_creation_costs_two_trips_more_for_its_lock() {
    applies_to!(Servers; on the runner);
    let service = service().patient_with_redis().start().await;
    let (key, list) = (new_key(), service.get(ORDERS).await);
    let tag = list.the("etag");
    let ask = |key: &str, tags: &str| service.order(key, &an_order()).field("if-match", tags);
    let first = costs(&service, ask(&key, tag).created(), (3, 1), "reserve, lock, insert, release").await;
    costs(&service, ask(&key, tag).replay_of(&first), (4, 1), "the first retry, which finishes the record").await;
    costs(&service, ask(&key, tag).replay_of(&first), (1, 0), "a replay of a finished order").await;
    let refused = ask(&new_key(), tag).problem(412, "precondition-failed");
    costs(&service, refused, (4, 1), "a refusal, which withdraws its record").await;
    costs(&service, ask(&new_key(), "*").created(), (1, 1), "an order on any state needs no lock").await;
}
