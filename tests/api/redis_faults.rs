//! Failures of Redis: the responses stay the same, and take longer.

use std::time::{Duration, Instant};

use devstack::{Programs, Redis};
use fixtures::until;

use crate::logging::requests;
use crate::support::{ORDERS, Service, an_order, an_order_of, new_key, service};

/// Creation, replay and rejection, as they always are.
async fn assert_normal_service(service: &Service) {
    let (key, order) = (new_key(), an_order());
    let first = service.order(&key, &order).created().await;
    service.order(&key, &order).replay_of(&first).await;
    service.order(&key, &order).replay_of(&first).await;
    service.order(&key, &an_order_of(3)).problem(422, "idempotency-key-reused").await;
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn redis_stopped_before_during_and_after() {
    applies_to!(Servers);
    let mut service = service().own_redis().start().await;
    let (key, first) = service.first_order().await;

    for fault in [Redis::stop, Redis::restart, Redis::kill] {
        fault(service.redis()).unwrap();
        service.order(&key, &an_order()).replay_of(&first).await;
        assert_normal_service(&service).await;
    }
}

#[tokio::test]
async fn redis_that_comes_back_is_used_again() {
    applies_to!(Servers);
    let mut service = service().own_redis().start().await;
    service.redis().stop().unwrap();
    service.new_order().await;
    service.redis().restart().unwrap();
    until("Redis is used again", async || {
        let (key, _) = service.first_order().await;
        service.redis_has(&service.record_of(&key)).await
    })
    .await;
}

#[tokio::test]
async fn redis_that_hangs_costs_one_time_out_and_not_one_per_request() {
    applies_to!(Servers);
    let mut service = service().own_redis().start().await;
    let (key, first) = service.first_order().await;

    service.redis().pause().unwrap();
    let start = Instant::now();
    service.order(&key, &an_order()).replay_of(&first).await;
    assert!(start.elapsed() >= Duration::from_millis(450), "it must have hung");
    let start = Instant::now();
    for _ in 0..20 {
        service.new_order().await;
    }
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_millis(20 * 500 / 2), "20 took {elapsed:?}");
    assert_normal_service(&service).await;

    service.redis().resume().unwrap();
    service.order(&key, &an_order()).replay_of(&first).await;
    assert_normal_service(&service).await;
}

/// A service whose Redis got a command after an order, and serves as always.
async fn assert_normal_after(fault: &[&str]) -> Service {
    let service = service().own_redis().start().await;
    let (key, first) = service.first_order().await;
    service.redis_command(fault).await;
    service.order(&key, &an_order()).replay_of(&first).await;
    assert_normal_service(&service).await;
    service
}

#[tokio::test]
async fn redis_out_of_memory() {
    applies_to!(Servers);
    let service = assert_normal_after(&["CONFIG", "SET", "maxmemory", "1"]).await;
    service.redis_command(&["CONFIG", "SET", "maxmemory", "256mb"]).await;
    assert_normal_service(&service).await;
}

#[tokio::test]
async fn redis_read_only() {
    applies_to!(Servers);
    // A replica of a server that does not exist: it rejects writes.
    assert_normal_after(&["REPLICAOF", "127.0.0.1", "1"]).await;
}

#[tokio::test]
async fn redis_that_drops_its_connections() {
    applies_to!(Servers);
    let service = service().own_redis().patient_with_redis().start().await;
    for _ in 0..5 {
        let (key, first) = service.first_order().await;
        service.redis_command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        service.order(&key, &an_order()).replay_of(&first).await;
        // Connected again at once: no request had to do without Redis.
        service.assert_redis_was_used();
    }
}

#[tokio::test]
async fn an_unreadable_record_is_ignored() {
    applies_to!(Servers);
    let service = service().own_redis().patient_with_redis().start().await;
    let future = "\u{2}f-a-record-of-a-version-that-is-not-there-yet-123";
    for (command, value) in
        [("SET", "garbage"), ("SET", ""), ("SET", future), ("RPUSH", "an element"), ("SADD", "a member")]
    {
        let (key, order) = (new_key(), an_order());
        service.redis_command(&[command, &service.record_of(&key), value]).await;
        let first = service.order(&key, &order).created().await;
        service.order(&key, &order).replay_of(&first).await;
        service.order(&key, &an_order_of(3)).problem(422, "idempotency-key-reused").await;
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
    let their_first = service.order(&theirs, &order).created().await;
    service.order(&theirs, &order).replay_of(&their_first).await;
    let (source, target) = (service.record_of(&theirs), service.record_of(&ours));
    service.redis_command(&["COPY", &source, &target]).await;
    let our_first = service.order(&ours, &order).created().await;
    assert_ne!(our_first.body, their_first.body);
    service.order(&ours, &order).replay_of(&our_first).await;
}

/// The lock's script is not allowed: plain orders and replays need none.
#[tokio::test]
async fn a_command_that_redis_does_not_allow_is_no_outage() {
    applies_to!(Servers; on the runner);
    let service = service().own_redis().start().await;
    service.redis_command(&["ACL", "SETUSER", "default", "-eval"]).await;
    let readiness = service.get("/readyz").await.json();
    assert_eq!(readiness["checks"]["redis"]["status"], "down");
    let (key, list) = (new_key(), service.get(ORDERS).await);
    let conditional = service.order(&key, &an_order()).field("if-match", list.the("etag")).created().await;
    let sets = async || service.redis_command(&["INFO", "commandstats"]).await;
    let before = format!("{:?}", sets().await);
    assert_normal_service(&service).await;
    assert_ne!(before, format!("{:?}", sets().await), "Redis is still asked");
    service.order(&key, &an_order()).replay_of(&conditional).await;
    assert!(service.logs().contains("redis: EVAL is refused: NOPERM"), "{}", service.logs());
}

/// How many requests have asked Postgres since there were so many lines, and how often the stores were asked in all.
fn asked(service: &Service, since: usize) -> (usize, u64) {
    let lines = requests(service).split_off(since);
    let of_postgres = lines.iter().filter(|line| line["postgres_ms"].as_f64() > Some(0.0));
    (of_postgres.count(), lines.iter().map(|line| line["trips"].as_u64().unwrap()).sum())
}

/// Three masters of Redis Cluster. Each key is at one of them, and the others say `MOVED`.
#[tokio::test]
async fn a_cluster_replays_without_postgres_and_does_without_a_node_that_is_down() {
    applies_to!(Servers);
    let stores = service().start().await;
    let programs = Programs::find_or_install(false).unwrap();
    let mut nodes = Redis::start_cluster(&programs, &stores.folder().join("cluster")).unwrap();
    let setup = service().patient_with_redis().variable("log_requests", true).variable("redis_url", nodes[0].url());
    let service = setup.variable("database_url", stores.database_url()).start().await;
    let order = an_order();
    let mut firsts = Vec::new();
    for _ in 0..100 {
        let (key, first) = service.first_order().await;
        service.order(&key, &order).replay_of(&first).await;
        firsts.push((key, first));
    }
    for (key, first) in &firsts {
        service.order(key, &order).replay_of(first).await;
    }
    let (of_postgres, trips) = asked(&service, 200);
    assert!(of_postgres <= 5 && trips <= 120, "of 100 replays {of_postgres} asked Postgres; {trips} trips");
    assert!(service.get("/readyz").expect(200).await.body.contains("ready"));
    service.assert_redis_was_used();

    let before = requests(&service).len();
    nodes[2].kill().unwrap();
    for (key, first) in &firsts {
        service.order(key, &order).replay_of(first).await;
        assert_eq!(stores.stored(&[key]).await, Some((1, 1)));
    }
    let (of_postgres, _) = asked(&service, before);
    assert!(of_postgres > 10 && of_postgres < 70, "{of_postgres} of 100 replays asked Postgres");
}
