//! What a request costs: exact numbers of round trips to the stores, counted by the runner.

use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;

use crate::support::{Service, an_order, an_order_of, new_key, service};

/// The runner's counts.
async fn calls(service: &Service) -> Value {
    service.get("/.well-known/runner/calls").await.json()
}

fn count(calls: &Value, name: &str) -> u64 {
    calls[name].as_u64().unwrap()
}

/// Commands to Redis, statements to Postgres.
async fn trips(service: &Service) -> (u64, u64) {
    let calls = calls(service).await;
    (count(&calls, "redisCommands"), count(&calls, "postgresStatements"))
}

/// What a request adds to them.
async fn cost<T>(service: &Service, request: impl Future<Output = T>) -> ((u64, u64), T) {
    let before = trips(service).await;
    let answer = request.await;
    let after = trips(service).await;
    ((after.0 - before.0, after.1 - before.1), answer)
}

#[tokio::test]
async fn a_creation_is_one_trip_to_each_store_and_a_finished_replay_one_to_redis() {
    applies_to!(Servers; on the runner);
    let service = service().patient_with_redis().start().await;
    for _ in 0..3 {
        let (key, order) = (new_key(), an_order());
        let (creation, first) = cost(&service, service.order(&key, &order)).await;
        first.assert_created();
        assert_eq!(creation, (1, 1), "a creation");

        let (retry, answer) = cost(&service, service.order(&key, &order)).await;
        answer.assert_replay_of(&first);
        assert_eq!(retry, (2, 1), "the first retry, which finishes the record");

        for _ in 0..2 {
            let (replay, answer) = cost(&service, service.order(&key, &order)).await;
            answer.assert_replay_of(&first);
            assert_eq!(replay, (1, 0), "a replay of a finished order");
        }
        let (refusal, answer) = cost(&service, service.order(&key, &an_order_of(3))).await;
        answer.assert_problem(422, "idempotency-key-reused");
        assert_eq!(refusal, (1, 1), "a refusal, which Postgres has to confirm");

        let (nothing, answer) = cost(&service, service.order("two words", &order)).await;
        answer.assert_problem(400, "idempotency-key-malformed");
        assert_eq!(nothing, (0, 0), "a bad request");

        let mut invalid = an_order();
        invalid["currency"] = "XQQ".into();
        let (refusal, answer) = cost(&service, service.order(&key, &invalid)).await;
        answer.assert_problem(422, "invalid-order");
        assert_eq!(refusal, (0, 1), "an order that may once have been valid");
        let (nothing, answer) = cost(&service, service.order(&key, &Value::Null)).await;
        answer.assert_problem(422, "invalid-order");
        assert_eq!(nothing, (0, 0), "no order under any rules");

        let path = format!("/api/v1/idempotency-keys/{key}");
        let (state, answer) = cost(&service, service.get(&path)).await;
        assert_eq!((state, answer.status), ((1, 1), 200), "a key's state");
        let (list, answer) = cost(&service, service.get("/api/v1/orders")).await;
        assert_eq!((list, answer.status), ((0, 1), 200), "a list and its tag");
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
        let (creation, answer) = cost(&service, service.order(&new_key(), &order)).await;
        answer.assert_created();
        assert_eq!(creation, (1, 1), "{text:?}");
        let shown = service.get(answer.field("location").unwrap()).await;
        assert_eq!((shown.status, &shown.body), (200, &answer.body));
        assert_eq!(shown.json()["note"], text);
    }
}

#[tokio::test]
async fn a_conditional_creation_costs_two_trips_more_for_its_lock() {
    applies_to!(Servers; on the runner);
    let service = service().patient_with_redis().start().await;
    let order = an_order();
    let (key, list) = (new_key(), service.get("/api/v1/orders").await);
    let tag = list.field("etag").unwrap();
    let ask = async |key: &str, tags: &str| {
        let fields = [("idempotency-key", key), ("if-match", tags)];
        service.try_order_with(0, &fields, &order).await.unwrap()
    };
    let (creation, first) = cost(&service, ask(&key, tag)).await;
    first.assert_created();
    assert_eq!(creation, (3, 1), "reserve, lock, insert, release");
    let (retry, answer) = cost(&service, ask(&key, tag)).await;
    answer.assert_replay_of(&first);
    assert_eq!(retry, (4, 1), "the first retry, which finishes the record");
    let (replay, answer) = cost(&service, ask(&key, tag)).await;
    answer.assert_replay_of(&first);
    assert_eq!(replay, (1, 0), "a replay of a finished order");
    let (refusal, answer) = cost(&service, ask(&new_key(), tag)).await;
    answer.assert_problem(412, "precondition-failed");
    assert_eq!(refusal, (4, 1), "a refusal, which withdraws its record");
    let (creation, answer) = cost(&service, ask(&new_key(), "*")).await;
    answer.assert_created();
    assert_eq!(creation, (1, 1), "an order on any state needs no lock");
}

/// An instance lives for 1 s without a request. The next ones have heard nothing of Postgres, and believe no record.
#[tokio::test]
async fn replays_that_come_to_a_new_instance_at_once_share_one_question() {
    applies_to!(Servers; on the runner);
    let service = service().patient_with_redis().start().await;
    let (key, order) = (new_key(), an_order());
    let first = service.order(&key, &order).await;
    service.order(&key, &order).await.assert_replay_of(&first);
    tokio::time::sleep(Duration::from_millis(1500)).await;

    let before = calls(&service).await;
    for answer in join_all((0..64).map(|_| service.order(&key, &order))).await {
        answer.assert_replay_of(&first);
    }
    let after = calls(&service).await;
    let added = |name: &str| count(&after, name) - count(&before, name);
    assert_eq!(added("redisCommands"), 64);
    // The host starts several instances. Each connects to Redis once.
    let instances = added("redisOpened");
    assert!((1..64).contains(&instances), "{instances}");
    assert_eq!(added("postgresStatements"), instances);
}
