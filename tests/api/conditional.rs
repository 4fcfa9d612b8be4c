//! Orders on the condition that the list is still as the client knows it (`If-Match`).

use std::ops::RangeInclusive;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::support::{Answer, Service, an_order, an_order_of, new_key, service};

const ORDERS: &str = "/api/v1/orders";

/// The list's tag.
pub async fn current(service: &Service) -> String {
    tag_of(&service.get(ORDERS).await)
}

/// The tag of a list or of a rejection, whose body has it too: proxies that compress a response change its tag.
fn tag_of(answer: &Answer) -> String {
    let tag = answer.field("etag").expect("a tag");
    assert_eq!(answer.json()["state"], tag.trim_matches('"'));
    tag.to_owned()
}

/// Sends an order to one of several hosts; an empty key means no key.
pub async fn ask_at(service: &Service, host: usize, key: &str, tags: &str, order: &Value) -> Answer {
    let fields = [("if-match", tags), ("idempotency-key", key)];
    let fields = &fields[..if key.is_empty() { 1 } else { 2 }];
    let answer = service.try_order_with(host, fields, order).await;
    answer.expect("an answer")
}

/// Requests an order.
pub async fn ask(service: &Service, key: &str, tags: &str) -> Answer {
    ask_at(service, 0, key, tags, &an_order()).await
}

/// Asserts that the order was rejected for the list's state, and gives the tag to go on with.
pub fn refused(answer: &Answer) -> String {
    answer.assert_problem(412, "precondition-failed");
    tag_of(answer)
}

/// Asserts that another request holds the lock for so many seconds.
pub fn assert_locked(answer: &Answer, seconds: RangeInclusive<u64>) {
    answer.assert_problem(409, "collection-locked");
    let after = answer.field("retry-after").expect("a time").parse();
    assert!(seconds.contains(&after.unwrap()), "{answer:?}");
}

async fn redis(service: &Service, command: &[&str]) -> redis::Value {
    service.redis_command(command).await.expect("a Redis")
}

/// Whether the lock is held. The embedded store has none.
pub async fn is_locked(service: &Service) -> bool {
    !service.is_embedded() && redis(service, &["EXISTS", &service.lock()]).await == redis::Value::Int(1)
}

#[tokio::test]
async fn a_conditional_order_is_created_only_on_the_current_list() {
    applies_to!(Servers, Partitions, Embedded);
    let service = service().patient_with_redis().start().await;
    let empty = current(&service).await;
    let key = new_key();
    let first = ask(&service, &key, &empty).await;
    let after = first.assert_created().field("etag").unwrap();
    assert_ne!(after, empty);
    assert_eq!(after, current(&service).await);
    assert!(!is_locked(&service).await, "released after a creation");

    // A retry finds its order although the list has changed because of it; another order is not created.
    for tags in [&empty, &empty, after] {
        ask(&service, &key, tags).await.assert_replay_of(&first);
    }
    let plain = service.order(&key, &an_order()).await;
    plain.assert_replay_of(&first);
    let other = new_key();
    let now = refused(&ask(&service, &other, &empty).await);
    assert_eq!(now, after);
    assert!(!is_locked(&service).await, "released after a refusal");

    // With the tag of the rejection it works, under the same key.
    let second = ask(&service, &other, &now).await;
    second.assert_created();
    assert_eq!(second.field("etag").unwrap(), current(&service).await);

    // Another order under a used key is rejected in any state of the list.
    for tags in [&empty, &current(&service).await] {
        let reused = ask_at(&service, 0, &key, tags, &an_order_of(3)).await;
        reused.assert_problem(422, "idempotency-key-reused");
    }
    assert_eq!(service.all_stored().await, 2);

    // A plain order changes the list, too.
    let before = current(&service).await;
    let plain = service.order(&new_key(), &an_order()).await;
    plain.assert_created();
    let now = refused(&ask(&service, &new_key(), &before).await);
    assert_eq!(now, current(&service).await);
}

#[tokio::test]
async fn the_tag_after_a_creation_is_the_lists_also_when_that_is_long() {
    applies_to!(Servers, Partitions, Embedded);
    let service = service().start().await;
    let keys: Vec<_> = (0..255).map(|_| new_key()).collect();
    let order = an_order();
    let orders = keys.iter().map(|key| service.order(key, &order));
    for answer in futures::future::join_all(orders).await {
        answer.assert_created();
    }
    let mut tag = current(&service).await;
    for _ in 0..3 {
        let next = ask(&service, &new_key(), &tag).await;
        tag = next.assert_created().field("etag").unwrap().to_owned();
        assert_eq!(tag, current(&service).await);
    }
}

#[tokio::test]
async fn if_match_with_any_several_changed_and_malformed_tags() {
    applies_to!(Servers, Partitions, Embedded);
    let service = service().start().await;
    for tags in ["*", " * "] {
        let answer = ask(&service, &new_key(), tags).await;
        answer.assert_created();
        assert_eq!(answer.field("etag").unwrap(), current(&service).await);
    }
    let tag = current(&service).await;
    let several = format!("\"x,y\", W/\"z\",, {tag}");
    let answer = ask(&service, &new_key(), &several).await;
    answer.assert_created();

    // As proxies change it when they compress a response.
    for form in [|tag: &str| format!("W/{tag}"), |tag: &str| format!("\"{}-gzip\"", tag.trim_matches('"'))] {
        let tag = current(&service).await;
        let list = service.get(ORDERS).await;
        assert_eq!(list.field("cache-control"), Some("private, no-cache, no-transform"));
        let answer = ask(&service, &new_key(), &form(&tag)).await;
        answer.assert_created();
    }
    let tag = current(&service).await;
    for never in ["\"*\"", "\"x\", \"y\"", &tag.replacen('"', "\"0", 1)] {
        assert_eq!(refused(&ask(&service, &new_key(), never).await), tag);
    }
    for malformed in [tag.trim_matches('"'), "nonsense", ""] {
        let answer = ask(&service, &new_key(), malformed).await;
        answer.assert_problem(400, "malformed-condition");
    }
    assert_eq!(service.all_stored().await, 5);
}

#[tokio::test]
async fn a_condition_can_be_required_and_stand_in_for_the_key() {
    applies_to!(Servers, Partitions, Embedded);
    let service = service().variable("precondition", "etag").start().await;
    let plain = service.order(&new_key(), &an_order()).await;
    plain.assert_problem(428, "precondition-required");
    let empty = current(&service).await;
    let first = ask(&service, "", &empty).await;
    let tag = first.assert_created().field("etag").unwrap();
    assert_eq!(refused(&ask(&service, "", &empty).await), tag, "a retry");
    ask(&service, "", tag).await.assert_created();
    // Every state meets it: each retry would be another order.
    let any = ask(&service, "", "*").await;
    any.assert_problem(428, "precondition-required");

    // A key is heeded nevertheless.
    let (key, tag) = (new_key(), current(&service).await);
    let keyed = ask(&service, &key, &tag).await;
    keyed.assert_created();
    ask(&service, &key, &tag).await.assert_replay_of(&keyed);
    assert_eq!(service.all_stored().await, 3);
    let malformed = ask(&service, "two words", &tag).await;
    malformed.assert_problem(400, "idempotency-key-malformed");
}

#[tokio::test]
async fn key_and_condition_can_both_be_required() {
    applies_to!(Servers, Partitions, Embedded);
    let service = service().variable("precondition", "both").start().await;
    let (key, empty) = (new_key(), current(&service).await);
    let keyless = ask(&service, "", &empty).await;
    keyless.assert_problem(400, "idempotency-key-missing");
    let unconditional = service.order(&key, &an_order()).await;
    unconditional.assert_problem(428, "precondition-required");
    let first = ask(&service, &key, &empty).await;
    first.assert_created();
    ask(&service, &key, &empty).await.assert_replay_of(&first);
}

#[tokio::test]
async fn by_default_a_key_is_required_with_a_condition_as_without() {
    applies_to!(Servers, Partitions, Embedded, Deployment);
    let service = service().start().await;
    let keyless = ask(&service, "", "*").await;
    keyless.assert_problem(400, "idempotency-key-missing");
}

#[tokio::test]
async fn while_the_lock_is_held_other_creations_get_retry_after() {
    applies_to!(Servers, Partitions);
    let service = service().patient_with_redis().start().await;
    let (key, empty) = (new_key(), current(&service).await);
    let first = ask(&service, &key, &empty).await;
    first.assert_created();
    let tag = current(&service).await;

    let lock = service.lock();
    redis(&service, &["SET", &lock, "somebody", "PX", "90000"]).await;
    assert_locked(&ask(&service, &new_key(), &tag).await, 80..=90);
    // A retry finds its order: first in Postgres, since no request has completed the record yet.
    ask(&service, &key, &empty).await.assert_replay_of(&first);
    ask(&service, &key, &empty).await.assert_replay_of(&first);
    // Also if Redis has lost its record.
    redis(&service, &["DEL", &service.record_of(&key)]).await;
    ask(&service, &key, &empty).await.assert_replay_of(&first);
    let other = ask_at(&service, 0, &key, &tag, &an_order_of(3)).await;
    other.assert_problem(422, "idempotency-key-reused");
    // Creations that are based on no particular state do not need the lock.
    let plain = service.order(&new_key(), &an_order()).await;
    plain.assert_created();
    let any = ask(&service, &new_key(), "*").await;
    any.assert_created();
    refused(&ask(&service, &new_key(), "\"x\"").await);
    assert!(is_locked(&service).await, "another request holds it");

    let tag = current(&service).await;
    redis(&service, &["PEXPIRE", &lock, "1500"]).await;
    let (later, answer) = (new_key(), ask(&service, &new_key(), &tag).await);
    assert_locked(&answer, 1..=2);
    let seconds = answer.field("retry-after").unwrap().parse().unwrap();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    ask(&service, &later, &tag).await.assert_created();
}

#[tokio::test]
async fn a_value_without_an_expiry_is_not_a_lock() {
    applies_to!(Servers, Partitions);
    let service = service().start().await;
    let lock = service.lock();
    for invalid in [&["SET", &lock, "for ever"][..], &["RPUSH", &lock, "x"]] {
        redis(&service, invalid).await;
        let tag = current(&service).await;
        let answer = ask(&service, &new_key(), &tag).await;
        answer.assert_created();
        assert!(is_locked(&service).await, "it is not touched");
        redis(&service, &["DEL", &lock]).await;
    }
}

#[tokio::test]
async fn a_condition_is_on_the_customers_own_orders() {
    applies_to!(Servers, Partitions, Embedded);
    let service = service().variable("identity", "header").start().await;
    let list = async |name: &str| {
        let fields = [("x-user-id", name)];
        let list = service.request(Method::GET, ORDERS, &fields, "");
        list.await.field("etag").unwrap().to_owned()
    };
    let ask = async |name: &str, tags: &str| {
        let key = new_key();
        let fields = [("x-user-id", name), ("if-match", tags), ("idempotency-key", &key)];
        let answer = service.try_order_with(0, &fields, &an_order()).await;
        answer.unwrap()
    };
    let (mine, theirs) = (list("me").await, list("they").await);
    assert_ne!(mine, theirs);
    assert_eq!(refused(&ask("me", &theirs).await), mine);
    ask("me", &mine).await.assert_created();
    assert_eq!(list("they").await, theirs);
    ask("they", &theirs).await.assert_created();
    refused(&ask("me", &mine).await);
}
