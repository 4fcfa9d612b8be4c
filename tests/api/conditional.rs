//! Orders on the condition that the list is still as the client knows it (`If-Match`).

use std::ops::RangeInclusive;
use std::time::Duration;

use fixtures::client::Asked;
use serde_json::Value;

use crate::support::{Answer, ORDERS, Service, an_order, an_order_of, new_key, service};

/// The list's tag.
pub async fn current(service: &Service) -> String {
    tag_of(&service.get(ORDERS).await)
}

/// The tag of a list or of a rejection, whose body has it too: proxies that compress a response change its tag.
fn tag_of(answer: &Answer) -> String {
    let tag = answer.the("etag");
    assert_eq!(answer.json()["state"], tag.trim_matches('"'));
    tag.to_owned()
}

/// Sends an order to one of several hosts; an empty key means no key.
pub fn ask_at(service: &Service, host: usize, key: &str, tags: &str, order: &Value) -> Asked {
    let asked = service.order_without_key(host, order).field("if-match", tags);
    if key.is_empty() { asked } else { asked.field("idempotency-key", key) }
}

/// Requests an order.
pub fn ask(service: &Service, key: &str, tags: &str) -> Asked {
    ask_at(service, 0, key, tags, &an_order())
}

/// Asserts that the order was rejected for the list's state, and gives the tag to go on with.
pub fn refused(answer: &Answer) -> String {
    tag_of(answer.assert_problem(412, "precondition-failed"))
}

/// Asserts that another request holds the lock for so many seconds.
pub fn assert_locked(answer: &Answer, seconds: RangeInclusive<u64>) {
    answer.assert_problem(409, "collection-locked");
    assert!(seconds.contains(&answer.the("retry-after").parse().unwrap()), "{answer:?}");
}

/// Whether the lock is held. The embedded store has none.
pub async fn is_locked(service: &Service) -> bool {
    !service.is_embedded() && service.redis_has(&service.lock()).await
}

#[tokio::test]
async fn a_conditional_order_is_created_only_on_the_current_list() {
    applies_to!(Servers, Partitions, Distributed, Embedded);
    let service = service().patient_with_redis().start().await;
    let empty = current(&service).await;
    let key = new_key();
    let first = ask(&service, &key, &empty).created().await;
    let after = first.the("etag");
    assert_ne!(after, empty);
    assert_eq!(after, current(&service).await);
    assert!(!is_locked(&service).await, "released after a creation");

    // A retry finds its order although the list has changed because of it; another order is not created.
    for tags in [&empty, &empty, after] {
        ask(&service, &key, tags).replay_of(&first).await;
    }
    service.order(&key, &an_order()).replay_of(&first).await;
    let other = new_key();
    let now = refused(&ask(&service, &other, &empty).await);
    assert_eq!(now, after);
    assert!(!is_locked(&service).await, "released after a refusal");

    // With the tag of the rejection it works, under the same key.
    let second = ask(&service, &other, &now).created().await;
    assert_eq!(second.the("etag"), current(&service).await);

    // Another order under a used key is rejected in any state of the list.
    for tags in [&empty, &current(&service).await] {
        ask_at(&service, 0, &key, tags, &an_order_of(3)).problem(422, "idempotency-key-reused").await;
    }
    assert_eq!(service.all_stored().await, 2);

    // A plain order changes the list, too.
    let before = current(&service).await;
    service.new_order().await;
    let now = refused(&ask(&service, &new_key(), &before).await);
    assert_eq!(now, current(&service).await);
}

#[tokio::test]
async fn the_tag_after_a_creation_is_the_lists_also_when_that_is_long() {
    applies_to!(Servers, Partitions, Distributed, Embedded);
    let service = service().start().await;
    futures::future::join_all((0..255).map(|_| service.new_order())).await;
    let mut tag = current(&service).await;
    for _ in 0..3 {
        tag = ask(&service, &new_key(), &tag).created().await.the("etag").to_owned();
        assert_eq!(tag, current(&service).await);
    }
}

#[tokio::test]
async fn if_match_with_any_several_changed_and_malformed_tags() {
    applies_to!(Servers, Partitions, Distributed, Embedded);
    let service = service().start().await;
    for tags in ["*", " * "] {
        let answer = ask(&service, &new_key(), tags).created().await;
        assert_eq!(answer.the("etag"), current(&service).await);
    }
    let tag = current(&service).await;
    let several = format!("\"x,y\", W/\"z\",, {tag}");
    ask(&service, &new_key(), &several).created().await;

    // As proxies change it when they compress a response.
    for form in [|tag: &str| format!("W/{tag}"), |tag: &str| format!("\"{}-gzip\"", tag.trim_matches('"'))] {
        ask(&service, &new_key(), &form(&current(&service).await)).created().await;
    }
    let tag = current(&service).await;
    for never in ["\"*\"", "\"x\", \"y\"", &tag.replacen('"', "\"0", 1)] {
        assert_eq!(refused(&ask(&service, &new_key(), never).await), tag);
    }
    for malformed in [tag.trim_matches('"'), "nonsense", ""] {
        ask(&service, &new_key(), malformed).problem(400, "malformed-condition").await;
    }
    ask(&service, "", "*").problem(400, "idempotency-key-missing").await;
    assert_eq!(service.all_stored().await, 5);
}

#[tokio::test]
async fn a_condition_can_be_required_and_stand_in_for_the_key() {
    applies_to!(Servers, Partitions, Distributed, Embedded);
    let service = service().variable("precondition", "etag").start().await;
    service.new_order().problem(428, "precondition-required").await;
    let empty = current(&service).await;
    let first = ask(&service, "", &empty).created().await;
    let tag = first.the("etag");
    assert_eq!(refused(&ask(&service, "", &empty).await), tag, "a retry");
    ask(&service, "", tag).created().await;
    // Every state meets it: each retry would be another order.
    ask(&service, "", "*").problem(428, "precondition-required").await;

    // A key is heeded nevertheless.
    let (key, tag) = (new_key(), current(&service).await);
    let keyed = ask(&service, &key, &tag).created().await;
    ask(&service, &key, &tag).replay_of(&keyed).await;
    assert_eq!(service.all_stored().await, 3);
    ask(&service, "two words", &tag).problem(400, "idempotency-key-malformed").await;
}

#[tokio::test]
async fn while_the_lock_is_held_other_creations_get_retry_after() {
    applies_to!(Servers, Partitions, Distributed);
    let service = service().patient_with_redis().start().await;
    let (key, empty) = (new_key(), current(&service).await);
    let first = ask(&service, &key, &empty).created().await;
    let tag = current(&service).await;

    let lock = service.lock();
    service.redis_command(&["SET", &lock, "somebody", "PX", "90000"]).await;
    assert_locked(&ask(&service, &new_key(), &tag).await, 80..=90);
    // A retry finds its order: first in Postgres, since no request has completed the record yet.
    ask(&service, &key, &empty).replay_of(&first).await;
    ask(&service, &key, &empty).replay_of(&first).await;
    // Also if Redis has lost its record.
    service.redis_command(&["DEL", &service.record_of(&key)]).await;
    ask(&service, &key, &empty).replay_of(&first).await;
    ask_at(&service, 0, &key, &tag, &an_order_of(3)).problem(422, "idempotency-key-reused").await;
    // Creations that are based on no particular state do not need the lock.
    service.new_order().await;
    ask(&service, &new_key(), "*").created().await;
    refused(&ask(&service, &new_key(), "\"x\"").await);
    assert!(is_locked(&service).await, "another request holds it");

    let tag = current(&service).await;
    service.redis_command(&["PEXPIRE", &lock, "1500"]).await;
    let (later, answer) = (new_key(), ask(&service, &new_key(), &tag).await);
    assert_locked(&answer, 1..=2);
    tokio::time::sleep(Duration::from_secs(answer.the("retry-after").parse().unwrap())).await;
    ask(&service, &later, &tag).created().await;
}

#[tokio::test]
async fn a_value_without_an_expiry_is_not_a_lock() {
    applies_to!(Servers, Partitions, Distributed);
    let service = service().start().await;
    let lock = service.lock();
    for invalid in [&["SET", &lock, "for ever"][..], &["RPUSH", &lock, "x"]] {
        service.redis_command(invalid).await;
        let tag = current(&service).await;
        ask(&service, &new_key(), &tag).created().await;
        assert!(is_locked(&service).await, "it is not touched");
        service.redis_command(&["DEL", &lock]).await;
    }
}

#[tokio::test]
async fn a_condition_is_on_the_customers_own_orders() {
    applies_to!(Servers, Partitions, Distributed, Embedded);
    let service = service().variable("identity", "header").start().await;
    let list = async |name: &str| service.get(ORDERS).field("x-user-id", name).await.the("etag").to_owned();
    let ask = |name: &str, tags: &str| ask(&service, &new_key(), tags).field("x-user-id", name);
    let (mine, theirs) = (list("me").await, list("they").await);
    assert_ne!(mine, theirs);
    assert_eq!(refused(&ask("me", &theirs).await), mine);
    ask("me", &mine).created().await;
    assert_eq!(list("they").await, theirs);
    ask("they", &theirs).created().await;
    refused(&ask("me", &mine).await);
}
