//! The state of a key, also when Redis has lost its record.

use reqwest::Method;

use crate::conditional::{ask, assert_locked, current, refused};
use crate::support::{Service, an_order, new_key, service};

async fn state(service: &Service, key: &str) -> crate::support::Answer {
    service.get(&format!("/api/v1/idempotency-keys/{key}")).await
}

#[tokio::test]
async fn a_key_is_unknown_then_completed_whatever_redis_contains() {
    applies_to!(Servers, Partitions);
    let service = service().patient_with_redis().start().await;
    let key = new_key();
    state(&service, &key).await.assert_problem(404, "idempotency-key-not-found");

    let created = service.order(&key, &an_order()).await;
    let order = created.assert_created().json();
    let completed = format!(
        r#"{{"key":"{key}","state":"completed","orderId":{},"createdAt":{}}}"#,
        order["orderId"], order["createdAt"]
    );
    let expect = async |when: &str| {
        let answer = state(&service, &key).await;
        assert_eq!((answer.status, &answer.body), (200, &completed), "{when}");
        assert_eq!(answer.field("cache-control"), Some("no-store"));
    };
    expect("while Redis has it reserved").await;
    service.order(&key, &an_order()).await.assert_replay_of(&created);
    expect("once it is finished").await;
    let path = format!("/api/v1/idempotency-keys/{key}");
    let head = service.request(Method::HEAD, &path, &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));

    let record = service.record_of(&key);
    service.redis_command(&["SET", &record, "nonsense"]).await;
    expect("under nonsense").await;
    service.redis_command(&["DEL", &record]).await;
    expect("when Redis has forgotten").await;
    let exists = service.redis_command(&["EXISTS", &record]).await;
    assert_eq!(exists, Some(redis::Value::Int(0)), "asking leaves nothing");
}

#[tokio::test]
async fn a_reserved_key_is_in_progress_until_its_order_exists() {
    applies_to!(Servers, Partitions);
    let service = service().patient_with_redis().start().await;
    let key = new_key();
    let mut database = service.database().await.unwrap();
    let blockade = database.transaction().await.unwrap();
    // Lets statements read, and none write.
    blockade.batch_execute("LOCK TABLE orders IN SHARE MODE").await.unwrap();
    let record = service.record_of(&key);
    let watch = async {
        while service.redis_command(&["EXISTS", &record]).await != Some(redis::Value::Int(1)) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let begun = state(&service, &key).await;
        blockade.rollback().await.unwrap();
        begun
    };
    let order = an_order();
    let (created, begun) = tokio::join!(service.order(&key, &order), watch);
    created.assert_created();
    let expected = format!(r#"{{"key":"{key}","state":"in_progress"}}"#);
    assert_eq!((begun.status, begun.body), (200, expected));
    assert_eq!(state(&service, &key).await.json()["state"], "completed");

    // A completed record whose order does not exist is ignored.
    let stray = new_key();
    service.order(&key, &order).await.assert_replay_of(&created);
    service.redis_command(&["COPY", &record, &service.record_of(&stray)]).await;
    state(&service, &stray).await.assert_problem(404, "idempotency-key-not-found");
}

#[tokio::test]
async fn a_refused_condition_leaves_no_key_in_progress() {
    applies_to!(Servers, Partitions);
    let service = service().patient_with_redis().start().await;
    let tag = current(&service).await;
    service.order(&new_key(), &an_order()).await.assert_created();
    let stale = new_key();
    let tag_of_now = refused(&ask(&service, &stale, &tag).await);
    let locked = new_key();
    let lock = service.lock();
    let hold = ["SET", &lock, "another request", "PX", "90000"];
    service.redis_command(&hold).await;
    assert_locked(&ask(&service, &locked, &tag_of_now).await, 1..=90);
    for key in [stale, locked] {
        state(&service, &key).await.assert_problem(404, "idempotency-key-not-found");
    }
}

#[tokio::test]
async fn the_state_of_a_key_needs_postgres_and_not_redis() {
    applies_to!(Servers, Partitions);
    let setup = service().own_redis().own_postgres().variable("database_timeout_ms", 1000);
    let mut service = setup.start().await;
    let key = new_key();
    service.order(&key, &an_order()).await.assert_created();
    service.redis().stop().unwrap();
    assert_eq!(state(&service, &key).await.json()["state"], "completed");
    state(&service, &new_key()).await.assert_problem(404, "idempotency-key-not-found");

    service.redis().restart().unwrap();
    service.postgres().stop().unwrap();
    state(&service, &key).await.assert_problem(503, "unavailable");
}

#[tokio::test]
async fn any_key_can_be_named_in_a_path() {
    applies_to!(Servers, Partitions, Embedded, Deployment);
    let service = service().start().await;
    let unique = new_key();
    let visible: String = ('!'..='~').collect();
    for tail in [visible.as_str(), "a/b", "100%", "%2F", "?limit=1#top", "+", ".."] {
        let key = format!("{unique}{tail}");
        let quoted = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
        let created = service.order(&quoted, &an_order()).await;
        let coded: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = state(&service, &coded).await.json();
        assert_eq!(answer["key"], key.as_str());
        assert_eq!(answer["orderId"], created.assert_created().json()["orderId"]);
    }
    for no_key in ["a%20b", "%C3%A9", "%00", &"k".repeat(256)] {
        state(&service, no_key).await.assert_problem(404, "idempotency-key-not-found");
    }
}
