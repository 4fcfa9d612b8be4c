//! How the application is hosted: its settings, what it may connect to, and how it ends.

use std::time::Duration;

use devstack::app::Output;
use devstack::{App, Host, process, workspace};

use crate::support::{an_order, new_key, service};

#[tokio::test]
async fn connections_outside_allowed_outbound_hosts_are_refused() {
    let setup = service().variable("redis_allowed_host", "redis://127.0.0.1:1");
    let Some(without_redis) = setup.start().await else {
        return;
    };
    let key = new_key();
    without_redis
        .order(&key, &an_order())
        .await
        .assert_created();
    let record = without_redis.record_of(&key);
    let exists = without_redis.redis_command(&["EXISTS", &record]).await;
    assert_eq!(exists, Some(redis::Value::Int(0)));

    let setup = service().variable("database_allowed_host", "postgres://10.0.0.0/8:5432");
    let without_postgres = setup.start().await.unwrap();
    let refused = without_postgres.order(&new_key(), &an_order()).await;
    refused.assert_problem(503, "unavailable");
}

#[tokio::test]
async fn a_wrong_setting_is_named_in_the_log_and_not_to_the_client() {
    let setup = service().variable("redis_timeout_ms", "soon-s3cret");
    let Some(service) = setup.start().await else {
        return;
    };
    let refused = service.order(&new_key(), &an_order()).await;
    refused.assert_problem(500, "misconfigured");
    assert!(!refused.body.contains("redis_timeout_ms"));
    assert!(service.logs().contains("redis_timeout_ms"));
    assert!(!service.logs().contains("s3cret"));
}

#[tokio::test]
async fn secrets_appear_in_no_log() {
    let secret = "s3cret-in-a-url";
    let setup = service()
        .variable("redis_url", format!("redis://:{secret}@127.0.0.1:1"))
        .variable(
            "database_url",
            format!("postgres://u:{secret}@127.0.0.1:1/db"),
        )
        .variable("database_timeout_ms", 500);
    let Some(service) = setup.start().await else {
        return;
    };
    let refused = service.order(&new_key(), &an_order()).await;
    refused.assert_problem(503, "unavailable");
    service.get("/readyz").await;
    let logs = service.logs();
    assert!(
        logs.contains("redis:") && logs.contains("postgres:"),
        "{logs}"
    );
    assert!(!logs.contains(secret), "{logs}");
}

#[tokio::test]
async fn a_start_without_its_variables_says_which_are_missing() {
    if std::env::var_os("ORDERS_BASE_URL").is_some() {
        return;
    }
    let log = std::env::temp_dir().join(format!("{}.log", new_key()));
    let address = process::local(process::free_port().unwrap());
    let host = Host::Runner(workspace::runner());
    let Err(error) = App::start(&host, address, &[], Output::File(log.clone())) else {
        panic!("started without a database");
    };
    let error = format!("{error:#}");
    assert!(error.contains("SPIN_VARIABLE_REDIS_URL"), "{error}");
    assert!(error.contains("SPIN_VARIABLE_DATABASE_URL"), "{error}");
    std::fs::remove_file(log).unwrap();
}

#[tokio::test]
async fn a_stop_lets_requests_in_flight_finish() {
    let Some(mut service) = service().start().await else {
        return;
    };
    if service.apps.is_empty() {
        return;
    }
    let (key, order) = (new_key(), an_order());
    let mut database = service.database().await.unwrap();
    let blockade = database.transaction().await.unwrap();
    blockade.batch_execute("LOCK TABLE orders").await.unwrap();
    let log = service.folder().join("app-0.log");
    let mut app = service.apps.remove(0);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let stopping = tokio::task::spawn_blocking(move || app.stop().unwrap());
        tokio::time::sleep(Duration::from_millis(300)).await;
        blockade.rollback().await.unwrap();
        stopping.await.unwrap()
    };
    let (answer, status) = tokio::join!(service.order(&key, &order), stop);
    answer.assert_created();
    let logs = std::fs::read_to_string(log).unwrap();
    assert!(status.success(), "{status}");
    assert!(!logs.contains("failed"), "{logs}");
    service.assert_stored(&key, 1).await;
}
