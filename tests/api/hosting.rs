//! How the application is hosted: its settings, what it may connect to, and how it ends.

use crate::support::{an_order, begin, new_key, service};

#[tokio::test]
async fn connections_outside_allowed_outbound_hosts_are_refused() {
    applies_to!(Servers);
    let without_redis = service().variable("redis_allowed_host", "redis://127.0.0.1:1").start().await;
    let (key, _) = without_redis.first_order().await;
    assert!(!without_redis.redis_has(&without_redis.record_of(&key)).await);
    let setup = service().variable("database_allowed_host", "postgres://10.0.0.0/8:5432");
    let without_postgres = setup.start().await;
    without_postgres.new_order().problem(500, "misconfigured").await;
    let ready = without_postgres.get("/readyz").problem(500, "misconfigured").await;
    assert!(ready.body.contains("database_allowed_host"), "{ready:?}");
    for (service, said) in [
        (without_redis, "redis: down: misconfigured: redis_url"),
        (without_postgres, "postgres: down: misconfigured: database_allowed_host"),
    ] {
        assert!(service.logs().contains(said), "{}", service.logs());
    }
}

#[tokio::test]
async fn the_log_says_why_there_is_no_connection() {
    applies_to!(Servers);
    let whole = service().own_postgres().start().await;
    let database = whole.database().await.unwrap();
    // The others need no password.
    let file = database.query_one("SHOW hba_file", &[]).await.unwrap().get::<_, String>(0);
    let setup = format!(
        "CREATE ROLE limited LOGIN CONNECTION LIMIT 0;
         COPY (VALUES ('host all guarded all scram-sha-256'), ('host all all all trust')) TO '{file}';
         SELECT pg_reload_conf()"
    );
    database.batch_execute(&setup).await.unwrap();
    let (own, place) = whole.database_url().split_once('@').unwrap();
    let (server, _) = place.split_once('/').unwrap();
    for (url, why) in [
        (format!("postgres://guarded:s3cret-and-wrong@{place}"), "FATAL: password authentication failed"),
        (format!("{own}:s3cret-unused@{server}/missing"), "FATAL: database \"missing\" does not exist"),
        (format!("postgres://limited@{place}"), "FATAL: too many connections for role"),
        ("postgres://u:s3cret-too@127.0.0.1:1/orders".to_owned(), "Connection refused"),
    ] {
        let service = service().variable("database_url", url).start().await;
        service.new_order().problem(503, "unavailable").await;
        let logs = service.logs();
        assert!(logs.contains("postgres: down: ") && logs.contains(why), "{logs}");
        assert!(!logs.contains("s3cret"), "{logs}");
    }
}

#[tokio::test]
async fn without_its_variables_it_is_not_ready_and_the_log_says_both_ways_to_set_them() {
    applies_to!(Servers, Embedded);
    let setup = service().variable("redis_url", "").variable("key_reuse", "s3cret").variable("store", "postgres");
    let service = setup.variable("log_requests", true).start().await;
    for (path, names) in [("/readyz", true), ("/api/v1/orders", false)] {
        let refused = service.get(path).problem(500, "misconfigured").await;
        let named = ["redis_url", "key_reuse"].iter().all(|name| refused.body.contains(name));
        assert_eq!(named, names, "{}", refused.body);
        assert!(!refused.body.contains("s3cret"), "{}", refused.body);
    }
    let logs = service.logs();
    let ways = "variable redis_url must be set; or leave store and both URLs out";
    for said in [ways, "variable key_reuse must be", r#""status":500,"outcome":"failed""#] {
        assert!(logs.contains(said), "{logs}");
    }
    assert!(!logs.contains("s3cret"), "{logs}");
}

#[tokio::test]
async fn without_any_variable_it_serves_one_customer_from_a_file_and_says_so() {
    applies_to!(Servers);
    let names = ["redis_url", "database_url", "store", "identity"];
    let service = names.into_iter().fold(service(), |setup, name| setup.variable(name, "")).start().await;
    let (key, first) = service.first_order().await;
    service.order(&key, &an_order()).replay_of(&first).await;
    let logs = service.logs();
    assert!(logs.contains("identity is none") && logs.contains("store is embedded"), "{logs}");
}

/// Spin aborts requests in flight when it is stopped, and so does the runner. The client's retry repairs that:
/// whether or not the aborted statement was committed, the key gets one order.
#[tokio::test]
async fn a_request_aborted_by_a_stop_is_repaired_by_its_retry() {
    applies_to!(Servers);
    let mut service = service().start().await;
    let (key, order) = (new_key(), an_order());
    let mut database = service.database().await.unwrap();
    let blockade = begin(&mut database, "LOCK TABLE orders").await;
    let mut app = service.apps.remove(0);
    let stop = async {
        service.wait_for_lock_waiter().await;
        tokio::task::spawn_blocking(move || app.stop().unwrap()).await.unwrap()
    };
    let (aborted, status) = tokio::join!(service.order(&key, &order).tried(), stop);
    assert!(aborted.is_err(), "{aborted:?}");
    assert!(status.success(), "{status}");

    blockade.rollback().await.unwrap();
    service.serve_another();
    let retried = service.order_at(1, &key, &order).expect(201).await;
    service.order_at(1, &key, &order).replay_of(&retried).await;
    service.assert_stored(&key, 1).await;
}
