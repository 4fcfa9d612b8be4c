//! The state of a key, also when Redis has lost its record.

use fixtures::until;
use reqwest::Method;

use crate::conditional::{ask, assert_locked, current, refused};
use crate::support::{an_order, begin, new_key, service};

#[tokio::test]
async fn a_key_is_unknown_then_completed_whatever_redis_contains() {
    applies_to!(Servers, Partitions, Distributed);
    let service = service().patient_with_redis().start().await;
    let key = new_key();
    service.state(&key).problem(404, "idempotency-key-not-found").await;

    let created = service.order(&key, &an_order()).created().await;
    let order = created.json();
    let completed = format!(
        r#"{{"key":"{key}","state":"completed","orderId":{},"createdAt":{}}}"#,
        order["orderId"], order["createdAt"]
    );
    let expect = async |when: &str| {
        let answer = service.state(&key).expect(200).await;
        assert_eq!((&answer.body, answer.the("cache-control")), (&completed, "no-store"), "{when}");
    };
    expect("while Redis has it reserved").await;
    service.order(&key, &an_order()).replay_of(&created).await;
    expect("once it is finished").await;
    let path = format!("/api/v1/idempotency-keys/{key}");
    let head = service.request(Method::HEAD, &path, &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));

    let record = service.record_of(&key);
    service.redis_command(&["SET", &record, "nonsense"]).await;
    expect("under nonsense").await;
    service.redis_command(&["DEL", &record]).await;
    expect("when Redis has forgotten").await;
    assert!(!service.redis_has(&record).await, "asking leaves nothing");
}

#[tokio::test]
async fn a_reserved_key_is_in_progress_until_its_order_exists() {
    applies_to!(Servers, Partitions, Distributed);
    let service = service().patient_with_redis().start().await;
    let (key, mut database) = (new_key(), service.database().await.unwrap());
    // Lets statements read, and none write.
    let blockade = begin(&mut database, "LOCK TABLE orders IN SHARE MODE").await;
    let record = service.record_of(&key);
    let watch = async {
        until("the key is reserved", async || service.redis_has(&record).await).await;
        let begun = service.state(&key).await;
        blockade.rollback().await.unwrap();
        begun
    };
    let (created, begun) = tokio::join!(service.order(&key, &an_order()).created(), watch);
    let expected = format!(r#"{{"key":"{key}","state":"in_progress"}}"#);
    assert_eq!((begun.status, begun.body), (200, expected));
    assert_eq!(service.state(&key).await.json()["state"], "completed");

    // A completed record whose order does not exist is ignored.
    let stray = new_key();
    service.order(&key, &an_order()).replay_of(&created).await;
    service.redis_command(&["COPY", &record, &service.record_of(&stray)]).await;
    service.state(&stray).problem(404, "idempotency-key-not-found").await;
}

#[tokio::test]
async fn a_refused_condition_leaves_no_key_in_progress() {
    applies_to!(Servers, Partitions, Distributed);
    let service = service().patient_with_redis().start().await;
    let tag = current(&service).await;
    service.new_order().await;
    let stale = new_key();
    let tag_of_now = refused(&ask(&service, &stale, &tag).await);
    let locked = new_key();
    service.redis_command(&["SET", &service.lock(), "another request", "PX", "90000"]).await;
    assert_locked(&ask(&service, &locked, &tag_of_now).await, 1..=90);
    for key in [stale, locked] {
        service.state(&key).problem(404, "idempotency-key-not-found").await;
    }
}

#[tokio::test]
async fn the_state_of_a_key_needs_postgres_and_not_redis() {
    applies_to!(Servers, Partitions, Distributed);
    let mut service = service().own_redis().own_postgres().variable("database_timeout_ms", 1000).start().await;
    let key = new_key();
    service.order(&key, &an_order()).created().await;
    service.redis().stop().unwrap();
    assert_eq!(service.state(&key).await.json()["state"], "completed");
    service.state(&new_key()).problem(404, "idempotency-key-not-found").await;

    service.redis().restart().unwrap();
    service.postgres().stop().unwrap();
    service.state(&key).problem(503, "unavailable").await;
}

#[tokio::test]
async fn any_key_can_be_named_in_a_path() {
    applies_to!(Servers, Partitions, Distributed, Embedded, Deployment);
    let service = service().start().await;
    let unique = new_key();
    let visible: String = ('!'..='~').collect();
    for tail in [visible.as_str(), "a/b", "100%", "%2F", "?limit=1#top", "+", ".."] {
        let key = format!("{unique}{tail}");
        let quoted = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
        let created = service.order(&quoted, &an_order()).created().await;
        let coded: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let state = service.state(&coded).await;
        assert_eq!((&state.json()["key"], state.order_id()), (&key.into(), created.order_id()));
    }
    for no_key in ["a%20b", "%C3%A9", "%00", &"k".repeat(256)] {
        service.state(no_key).problem(404, "idempotency-key-not-found").await;
    }
}
