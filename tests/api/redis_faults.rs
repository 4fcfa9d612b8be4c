//! Failures of Redis: the answers stay the same, and take longer.

use std::time::{Duration, Instant};

use crate::support::{Service, an_order, an_order_of, new_key, service};

/// Creation, replay and rejection, as they always are.
async fn assert_normal_service(service: &Service) {
    let (key, order) = (new_key(), an_order());
    let first = service.order(&key, &order).await;
    first.assert_created();
    service.order(&key, &order).await.assert_replay_of(&first);
    service.order(&key, &order).await.assert_replay_of(&first);
    let other = service.order(&key, &an_order_of(3)).await;
    other.assert_problem(422, "idempotency-key-reused");
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn redis_stopped_before_during_and_after() {
    applies_to!(Servers);
    let mut service = service().own_redis().start().await;
    let (key, order) = (new_key(), an_order());
    let first = service.order(&key, &order).await;
    first.assert_created();

    service.redis().stop().unwrap();
    service.order(&key, &order).await.assert_replay_of(&first);
    assert_normal_service(&service).await;

    service.redis().restart().unwrap();
    service.order(&key, &order).await.assert_replay_of(&first);
    assert_normal_service(&service).await;

    service.redis().kill().unwrap();
    assert_normal_service(&service).await;
    service.order(&key, &order).await.assert_replay_of(&first);
}

#[tokio::test]
async fn redis_that_comes_back_is_used_again() {
    applies_to!(Servers);
    let mut service = service().own_redis().start().await;
    service.redis().stop().unwrap();
    service.order(&new_key(), &an_order()).await.assert_created();
    service.redis().restart().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let key = new_key();
        service.order(&key, &an_order()).await.assert_created();
        let record = service.record_of(&key);
        if service.redis_command(&["EXISTS", &record]).await == Some(redis::Value::Int(1)) {
            break;
        }
        assert!(Instant::now() < deadline, "still without Redis");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn redis_that_hangs_costs_one_time_out_and_not_one_per_request() {
    applies_to!(Servers);
    let mut service = service().own_redis().start().await;
    let (key, order) = (new_key(), an_order());
    let first = service.order(&key, &order).await;
    first.assert_created();

    service.redis().pause().unwrap();
    let start = Instant::now();
    service.order(&key, &order).await.assert_replay_of(&first);
    assert!(start.elapsed() >= Duration::from_millis(450), "it must have hung");
    let start = Instant::now();
    for _ in 0..20 {
        service.order(&new_key(), &order).await.assert_created();
    }
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_millis(20 * 500 / 2), "20 took {elapsed:?}");
    assert_normal_service(&service).await;

    service.redis().resume().unwrap();
    service.order(&key, &order).await.assert_replay_of(&first);
    assert_normal_service(&service).await;
}

#[tokio::test]
async fn redis_that_hangs_from_the_start() {
    applies_to!(Servers);
    let mut service = service().own_redis().start().await;
    service.redis().pause().unwrap();
    assert_normal_service(&service).await;
}

#[tokio::test]
async fn redis_out_of_memory() {
    applies_to!(Servers);
    let service = service().own_redis().start().await;
    let (key, order) = (new_key(), an_order());
    let first = service.order(&key, &order).await;
    first.assert_created();
    service.redis_command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    service.order(&key, &order).await.assert_replay_of(&first);
    assert_normal_service(&service).await;
    service.redis_command(&["CONFIG", "SET", "maxmemory", "256mb"]).await;
    assert_normal_service(&service).await;
}

#[tokio::test]
async fn redis_read_only() {
    applies_to!(Servers);
    let service = service().own_redis().start().await;
    let (key, order) = (new_key(), an_order());
    let first = service.order(&key, &order).await;
    first.assert_created();
    // A replica of a server that does not exist: it rejects writes.
    service.redis_command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    service.order(&key, &order).await.assert_replay_of(&first);
    assert_normal_service(&service).await;
}

#[tokio::test]
async fn redis_that_drops_its_connections() {
    applies_to!(Servers);
    let setup = service().own_redis().patient_with_redis();
    let service = setup.start().await;
    for _ in 0..5 {
        let (key, order) = (new_key(), an_order());
        let first = service.order(&key, &order).await;
        first.assert_created();
        service.redis_command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        service.order(&key, &order).await.assert_replay_of(&first);
        // Connected again at once: no request had to do without Redis.
        service.assert_redis_was_used();
    }
}

#[tokio::test]
async fn an_unreadable_record_is_ignored() {
    applies_to!(Servers);
    let setup = service().own_redis().patient_with_redis();
    let service = setup.start().await;
    let future = "\u{2}f-a-record-of-a-version-that-is-not-there-yet-123";
    let (list, string): (&[&str], &[&str]) = (&["RPUSH"], &["SET"]);
    for (command, value) in
        [(string, "garbage"), (string, ""), (string, future), (list, "an element"), (&["SADD"], "a member")]
    {
        let (key, order) = (new_key(), an_order());
        let record = service.record_of(&key);
        service.redis_command(&[command[0], &record, value]).await;
        let first = service.order(&key, &order).await;
        first.assert_created();
        service.order(&key, &order).await.assert_replay_of(&first);
        let other = service.order(&key, &an_order_of(3)).await;
        other.assert_problem(422, "idempotency-key-reused");
        service.assert_stored(&key, 1).await;
        // Requests with other keys still use Redis.
        assert_normal_service(&service).await;
        service.assert_redis_was_used();
    }
}

#[tokio::test]
async fn a_record_of_another_key_is_ignored() {
    applies_to!(Servers);
    let service = service().own_redis().start().await;
    let (theirs, ours) = (new_key(), new_key());
    let order = an_order();
    let their_first = service.order(&theirs, &order).await;
    service.order(&theirs, &order).await.assert_replay_of(&their_first);
    let (source, target) = (service.record_of(&theirs), service.record_of(&ours));
    service.redis_command(&["COPY", &source, &target]).await;
    let our_first = service.order(&ours, &order).await;
    our_first.assert_created();
    assert_ne!(our_first.body, their_first.body);
    service.order(&ours, &order).await.assert_replay_of(&our_first);
}

/// The lock's script is not allowed: plain orders and replays need none.
#[tokio::test]
async fn a_command_that_redis_does_not_allow_is_no_outage() {
    applies_to!(Servers; on the runner);
    let service = service().own_redis().start().await;
    service.redis_command(&["ACL", "SETUSER", "default", "-eval"]).await;
    let readiness = service.get("/readyz").await.json();
    assert_eq!(readiness["checks"]["redis"]["status"], "down");
    let list = service.get("/api/v1/orders").await;
    let tag = list.field("etag").unwrap();
    let key = new_key();
    let fields = [("idempotency-key", &*key), ("if-match", tag)];
    let conditional = service.try_order_with(0, &fields, &an_order()).await.unwrap();
    conditional.assert_created();
    let sets = async || service.redis_command(&["INFO", "commandstats"]).await;
    let before = format!("{:?}", sets().await);
    assert_normal_service(&service).await;
    assert_ne!(before, format!("{:?}", sets().await), "Redis is still asked");
    service.order(&key, &an_order()).await.assert_replay_of(&conditional);
    assert!(service.logs().contains("redis: EVAL is refused: NOPERM"), "{}", service.logs());
}
