//! How the application is hosted: its settings, what it may connect to, and how it ends.

use std::time::Duration;

use crate::support::{an_order, new_key, service};

#[tokio::test]
async fn connections_outside_allowed_outbound_hosts_are_refused() {
    applies_to!(Servers);
    let setup = service().variable("redis_allowed_host", "redis://127.0.0.1:1");
    let without_redis = setup.start().await;
    let key = new_key();
    without_redis.order(&key, &an_order()).await.assert_created();
    let record = without_redis.record_of(&key);
    let exists = without_redis.redis_command(&["EXISTS", &record]).await;
    assert_eq!(exists, Some(redis::Value::Int(0)));

    let setup = service().variable("database_allowed_host", "postgres://10.0.0.0/8:5432");
    let without_postgres = setup.start().await;
    let refused = without_postgres.order(&new_key(), &an_order()).await;
    refused.assert_problem(500, "misconfigured");
    let ready = without_postgres.get("/readyz").await;
    ready.assert_problem(500, "misconfigured");
    assert!(ready.body.contains("database_allowed_host"), "{ready:?}");
    let logs = without_postgres.logs();
    assert!(logs.contains("postgres: down: misconfigured: database_allowed_host"), "{logs}");
    let logs = without_redis.logs();
    assert!(logs.contains("redis: down: misconfigured: redis_url"), "{logs}");
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
        let refused = service.order(&new_key(), &an_order()).await;
        refused.assert_problem(503, "unavailable");
        let logs = service.logs();
        assert!(logs.contains("postgres: down: ") && logs.contains(why), "{logs}");
        assert!(!logs.contains("s3cret"), "{logs}");
    }
}

#[tokio::test]
async fn a_wrong_setting_is_named_in_the_log_and_not_to_the_client() {
    applies_to!(Servers, Embedded);
    let setup = service().variable("redis_timeout_ms", "soon-s3cret");
    let service = setup.start().await;
    let refused = service.order(&new_key(), &an_order()).await;
    refused.assert_problem(500, "misconfigured");
    assert!(!refused.body.contains("redis_timeout_ms"));
    assert!(service.logs().contains("redis_timeout_ms"));
    assert!(!service.logs().contains("s3cret"));
}

#[tokio::test]
async fn secrets_appear_in_no_log() {
    applies_to!(Servers);
    let secret = "s3cret-in-a-url";
    let setup =
        service().own_redis().own_postgres().password(secret).patient_with_redis().variable("log_requests", true);
    let mut service = setup.start().await;
    let (key, order) = (new_key(), an_order());
    let first = service.order(&key, &order).await;
    first.assert_created();
    service.order(&key, &order).await.assert_replay_of(&first);
    // The component logged in: it has its record in a Redis that requires the password.
    let record = service.record_of(&key);
    let exists = service.redis_command(&["EXISTS", &record]).await;
    assert_eq!(exists, Some(redis::Value::Int(1)));
    assert_eq!(service.get("/readyz").await.status, 200);

    service.redis().stop().unwrap();
    service.order(&new_key(), &order).await.assert_created();
    service.postgres().stop().unwrap();
    let refused = service.order(&new_key(), &order).await;
    refused.assert_problem(503, "unavailable");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(service.get("/readyz").await.status, 503);
    let logs = service.logs();
    assert!(logs.contains("redis:") && logs.contains("postgres:"), "{logs}");
    assert!(!logs.contains(secret), "{logs}");
}

#[tokio::test]
async fn without_its_variables_it_is_not_ready_and_the_log_says_both_ways_to_set_them() {
    applies_to!(Servers, Embedded);
    let setup = service().variable("redis_url", "").variable("key_reuse", "s3cret");
    let service = setup.variable("store", "postgres").start().await;
    for (path, names) in [("/readyz", true), ("/api/v1/orders", false)] {
        let refused = service.get(path).await;
        refused.assert_problem(500, "misconfigured");
        let named = ["redis_url", "key_reuse"].iter().all(|name| refused.body.contains(name));
        assert_eq!(named, names, "{}", refused.body);
        assert!(!refused.body.contains("s3cret"), "{}", refused.body);
    }
    let logs = service.logs();
    for said in ["variable redis_url must be set; or leave store and both URLs out", "variable key_reuse must be"] {
        assert!(logs.contains(said), "{logs}");
    }
    assert!(!logs.contains("s3cret"), "{logs}");
}

#[tokio::test]
async fn without_any_variable_it_serves_one_customer_from_a_file_and_says_so() {
    applies_to!(Servers);
    let setup = ["redis_url", "database_url", "store", "identity"]
        .into_iter()
        .fold(service(), |setup, name| setup.variable(name, ""));
    let service = setup.start().await;
    let (key, order) = (new_key(), an_order());
    let first = service.order(&key, &order).await;
    first.assert_created();
    service.order(&key, &order).await.assert_replay_of(&first);
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
    let blockade = database.transaction().await.unwrap();
    blockade.batch_execute("LOCK TABLE orders").await.unwrap();
    let mut app = service.apps.remove(0);
    let stop = async {
        service.wait_for_lock_waiter().await;
        tokio::task::spawn_blocking(move || app.stop().unwrap()).await.unwrap()
    };
    let (aborted, status) = tokio::join!(service.try_order_at(0, &key, &order), stop);
    assert!(aborted.is_err(), "{aborted:?}");
    assert!(status.success(), "{status}");

    blockade.rollback().await.unwrap();
    service.serve_another();
    let retried = service.order_at(1, &key, &order).await;
    assert_eq!(retried.status, 201, "{retried:?}");
    let again = service.order_at(1, &key, &order).await;
    again.assert_replay_of(&retried);
    service.assert_stored(&key, 1).await;
}
