//! Rows that the database has lost: a record in Redis outlives its row, and no client is told that the row exists.

use std::time::{Duration, Instant};

use fixtures::until;

use crate::applies::Place;
use crate::support::{Answer, Service, an_order, new_key, service};

/// Within this time after the loss, a retry creates the order again.
const LIMIT: Duration = Duration::from_secs(5);

/// Retries a lost order until it is created again, and asserts that it is the old one and that it is stored.
async fn assert_created_again(service: &Service, key: &str, first: &Answer, lost: Instant) {
    let mut again = first.clone();
    until("a lost order is created again", async || {
        // A first retry reads the row, and with it the history: the instance never asks for that only.
        completed(service, &new_key()).await;
        again = service.order(key, &an_order()).await;
        assert!(lost.elapsed() < LIMIT, "a lost order is still replayed");
        !again.replayed()
    })
    .await;
    again.assert_created();
    assert_eq!(again.body, first.body, "with its old id");
    assert_eq!(service.get_order(first).await.body, first.body);
    service.state(key).expect(200).await;
    service.order(key, &an_order()).replay_of(first).await;
    service.assert_stored(key, 1).await;
}

/// Creates an order, and lets a retry complete its record.
async fn completed(service: &Service, key: &str) -> Answer {
    let first = service.order(key, &an_order()).created().await;
    for _ in 0..2 {
        service.order(key, &an_order()).replay_of(&first).await;
    }
    first
}

#[tokio::test]
async fn a_lost_order_is_created_again_by_its_retry_and_is_no_phantom() {
    applies_to!(Servers, Partitions, Distributed);
    let service = service().patient_with_redis().start().await;
    let key = new_key();
    let first = completed(&service, &key).await;
    // A distributed table has no triggers.
    let has_triggers = Place::of_this_run() != Place::Distributed;
    for loss in [
        if has_triggers { "DELETE FROM orders" } else { "DELETE FROM orders; SELECT forget_records()" },
        // A restore into the same database, of a dump from before the order. The triggers are those of the dump.
        "SET session_replication_role = replica; TRUNCATE orders; \
         SET session_replication_role = origin; SELECT forget_records()",
    ] {
        service.sql(loss).await;
        assert_created_again(&service, &key, &first, Instant::now()).await;
    }
}

#[tokio::test]
async fn two_databases_that_share_a_prefix_never_answer_for_each_other() {
    applies_to!(Servers, Partitions, Distributed);
    let one = service().patient_with_redis().start().await;
    // The same names in Redis, another database.
    let other = service()
        .patient_with_redis()
        .variable("redis_key_prefix", one.record_of("").replace("orders:9:anonymous:", ""))
        .start()
        .await;
    let key = new_key();
    let first = completed(&one, &key).await;
    // The other database has no such order.
    other.order(&key, &an_order()).created().await;
    other.assert_stored(&key, 1).await;
    one.order(&key, &an_order()).replay_of(&first).await;
    one.assert_stored(&key, 1).await;
}

/// With `replay_during_outage = false`, no response has an order that Postgres may have lost.
#[tokio::test]
async fn in_an_outage_a_completed_order_is_replayed_only_where_that_is_configured() {
    applies_to!(Servers, Partitions, Distributed);
    let setup = service().own_postgres().patient_with_redis();
    let mut service = setup.variable("replay_during_outage", "false").start().await;
    let key = new_key();
    let first = completed(&service, &key).await;
    service.postgres().stop().unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    service.order(&key, &an_order()).expect(503).await;
    service.postgres().restart().unwrap();
    service.order(&key, &an_order()).replay_of(&first).await;
}

/// A promoted standby that lacks the order: its timeline is another history.
#[tokio::test]
async fn an_order_lost_by_a_failover_is_created_again_by_its_retry() {
    applies_to!(Servers, Partitions, Distributed);
    // Otherwise the retry would be replayed from the record until the new primary is there.
    let setup = service().own_postgres().patient_with_redis();
    let mut service = setup.variable("replay_during_outage", "false").start().await;
    let kept = new_key();
    let before = completed(&service, &kept).await;
    let mut standby = service.standby();
    standby.stop().unwrap();
    let key = new_key();
    let first = completed(&service, &key).await;

    service.postgres().kill().unwrap();
    standby.restart().unwrap();
    standby.promote().unwrap();
    standby.take_over(service.postgres()).unwrap();
    *service.postgres() = standby;
    assert_created_again(&service, &key, &first, Instant::now()).await;
    // The record belongs to the old history; Postgres still has the order.
    service.order(&kept, &an_order()).replay_of(&before).await;
}
