//! Failures of Postgres: without it no order is acknowledged, and after its return none is missing or duplicated.

use std::time::{Duration, Instant};

use chaos::proxy::Link;
use devstack::process::local;
use fixtures::replication::fence;
use futures::future::join_all;

use crate::support::{an_order, insert_and_stay, new_key, service};

#[tokio::test]
async fn postgres_stopped_then_started() {
    applies_to!(Servers);
    let mut service = service().own_postgres().start().await;
    let (key, order) = (new_key(), an_order());
    for immediately in [false, true] {
        let before = service.order(&new_key(), &order).await;
        before.assert_created();
        if immediately {
            service.postgres().stop_immediately().unwrap();
        } else {
            service.postgres().stop().unwrap();
        }
        let refused = service.order(&key, &order).await;
        refused.assert_problem(503, "unavailable");
        // Every instance has lost it: to take this one out of service would help nobody.
        assert_eq!(service.get("/readyz").await.status, 503);
        let degraded = service.get("/readyz?lost-store=degraded").await;
        assert_eq!((degraded.status, &degraded.json()["status"]), (200, &"degraded".into()));
        assert!(refused.field("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        for word in ["postgres", "Connect", "127.0.0.1", "orders@"] {
            assert!(!refused.body.contains(word), "{}", refused.body);
        }
        let location = before.field("location").unwrap();
        service.get(location).await.assert_problem(503, "unavailable");

        service.postgres().restart().unwrap();
        let shown = service.get(location).await;
        assert_eq!((shown.status, shown.body), (200, before.body));
    }
    let first = service.order(&key, &order).await;
    first.assert_created();
    service.order(&key, &order).await.assert_replay_of(&first);
    service.assert_stored(&key, 1).await;
}

/// As with a character that the database's encoding lacks: no retry can succeed, and none is asked for.
#[tokio::test]
async fn an_order_that_postgres_can_never_store_is_rejected_for_good() {
    applies_to!(Servers);
    let service = service().own_postgres().start().await;
    let database = service.database().await.unwrap();
    let check = "ALTER TABLE orders ADD CHECK (position('\u{20ac}' in document::text) = 0)";
    database.batch_execute(check).await.unwrap();
    let (key, mut order) = (new_key(), an_order());
    order["note"] = "5 \u{20ac}".into();
    // They share a statement, which fails for both.
    let plain = an_order();
    let other = new_key();
    let (rejected, created) = tokio::join!(service.order(&key, &order), service.order(&other, &plain));
    created.assert_created();
    for rejected in [rejected, service.order(&key, &order).await] {
        rejected.assert_problem(500, "value-rejected");
        assert_eq!(rejected.field("retry-after"), None);
    }
    service.get(&format!("/api/v1/idempotency-keys/{key}")).await.assert_problem(404, "idempotency-key-not-found");
    service.order(&key, &plain).await.assert_created();
}

/// The old primary stays up and takes no writes, its connections stay open, and the address leads to the new one.
#[tokio::test]
async fn after_a_switchover_connections_to_the_old_primary_are_given_up() {
    applies_to!(Servers);
    let mut before = service().own_postgres().start().await;
    let old = local(before.postgres().port());
    let link = Link::open(old).await.unwrap();
    let url = before.database_url().replace(&old.to_string(), &link.address().to_string());
    let service = service().variable("database_url", url).start().await;
    // While they wait for the table, each list has a connection: the host's pool gets more than one request tries.
    let mut blocker = before.database().await.unwrap();
    let transaction = blocker.transaction().await.unwrap();
    transaction.batch_execute("LOCK TABLE orders").await.unwrap();
    let release = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        transaction.commit().await.unwrap();
    };
    let lists = join_all((0..40).map(|_| service.get("/api/v1/orders")));
    let (lists, ()) = tokio::join!(lists, release);
    assert!(lists.iter().all(|list| list.status == 200));

    let standby = before.standby();
    fence(before.postgres()).await.unwrap();
    standby.promote().unwrap();
    link.lead_new_to(local(standby.port()));
    let switched = Instant::now();
    while service.order(&new_key(), &an_order()).await.status != 201 {
        assert!(switched.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for answer in join_all((0..40).map(|_| service.get("/api/v1/orders"))).await {
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn postgres_that_hangs_is_given_up_at_the_deadline() {
    applies_to!(Servers);
    let setup = service().own_postgres();
    let mut service = setup.variable("database_timeout_ms", 700).start().await;
    let (key, order) = (new_key(), an_order());
    service.postgres().pause().unwrap();
    // A busy machine only ever delays a response: the fastest of three shows the limit.
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        let refused = service.order(&key, &order).await;
        refused.assert_problem(503, "unavailable");
        let elapsed = start.elapsed();
        assert!(elapsed >= Duration::from_millis(650), "{elapsed:?}");
        fastest = fastest.min(elapsed);
    }
    assert!(fastest < Duration::from_millis(1000), "{fastest:?}");
    service.postgres().resume().unwrap();

    let first = service.order(&key, &order).await;
    assert_eq!(first.status, 201, "{first:?}");
    service.order(&key, &order).await.assert_replay_of(&first);
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn a_write_that_lands_after_the_deadline_is_the_one_order() {
    applies_to!(Servers);
    let setup = service().variable("database_timeout_ms", 500);
    let service = setup.start().await;
    let (key, order) = (new_key(), an_order());
    let database = service.database().await.unwrap();
    // An insertion commits long after every deadline here.
    let slow = "CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql \
                    AS 'BEGIN PERFORM pg_sleep(3); RETURN NEW; END'; \
                CREATE TRIGGER slow BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION sleep()";
    database.batch_execute(slow).await.unwrap();
    for _ in 0..3 {
        let refused = service.order(&key, &order).await;
        refused.assert_problem(503, "unavailable");
    }
    service.assert_stored(&key, 0).await;

    let deadline = Instant::now() + Duration::from_secs(20);
    let stored = "SELECT count(*) FROM orders WHERE idempotency_key = $1";
    loop {
        let row = database.query_one(stored, &[&key]).await.unwrap();
        if row.get::<_, i64>(0) == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "no insertion was committed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Waits for the insertions that are still running.
    let fast = "DROP TRIGGER slow ON orders";
    database.batch_execute(fast).await.unwrap();
    // On a busy machine a request may take longer than its half second: a client repeats it.
    let retried = loop {
        let retried = service.order(&key, &order).await;
        if retried.status != 503 {
            break retried;
        }
        assert!(Instant::now() < deadline, "{retried:?}");
    };
    assert_eq!((retried.status, retried.replayed()), (201, true), "{retried:?}");
    service.assert_stored(&key, 1).await;
}

/// The request waits for its shared statement, and sends no second one.
#[tokio::test]
async fn an_insertion_that_commits_late_but_in_time_is_a_creation() {
    applies_to!(Servers);
    let service = service().patient_with_redis().start().await;
    let database = service.database().await.unwrap();
    let slow = "CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql \
                    AS 'BEGIN PERFORM pg_sleep(3); RETURN NEW; END'; \
                CREATE TRIGGER slow AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION sleep()";
    database.batch_execute(slow).await.unwrap();
    let (key, order) = (new_key(), an_order());
    let first = service.order(&key, &order).await;
    first.assert_created();
    service.order(&key, &order).await.assert_replay_of(&first);
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn an_open_transaction_on_a_key_delays_no_other_key() {
    applies_to!(Servers);
    let setup = service().variable("database_timeout_ms", 20_000);
    let service = setup.start().await;
    let (key, order) = (new_key(), an_order());
    let mut database = service.database().await.unwrap();
    let other = insert_and_stay(&mut database, &key, None).await;
    let neighbours = async {
        let start = Instant::now();
        for _ in 0..3 {
            let keys: Vec<_> = (0..10).map(|_| new_key()).collect();
            for answer in join_all(keys.iter().map(|key| service.order(key, &order))).await {
                answer.assert_created();
            }
        }
        let elapsed = start.elapsed();
        // A shared statement gives up after 200 ms.
        assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
        other.rollback().await.unwrap();
    };
    let (first, ()) = tokio::join!(service.order(&key, &order), neighbours);
    first.assert_created();
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn a_statement_that_waits_for_a_lock_ends_before_its_request() {
    applies_to!(Servers);
    let setup = service().variable("database_timeout_ms", 1000);
    let service = setup.start().await;
    let (key, order) = (new_key(), an_order());
    let mut database = service.database().await.unwrap();
    let other = insert_and_stay(&mut database, &key, None).await;
    let keys = [&key; 6];
    for refused in join_all(keys.iter().map(|key| service.order(key, &order))).await {
        refused.assert_problem(503, "unavailable");
    }
    // A statement that still waited would hold up the next request that gets its connection.
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let row = other.query_one(waiting, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
    for _ in 0..40 {
        let start = Instant::now();
        let list = service.get("/api/v1/orders").await;
        assert_eq!(list.status, 200, "{list:?}");
        // The statements would have waited for another 400 ms at least.
        let elapsed = start.elapsed();
        assert!(elapsed < Duration::from_millis(300), "{elapsed:?}");
    }
    other.rollback().await.unwrap();
    service.order(&key, &order).await.assert_created();
    assert!(!service.logs().contains("down"), "{}", service.logs());
}

#[tokio::test]
async fn a_default_isolation_level_of_the_database_refuses_no_duplicate() {
    applies_to!(Servers);
    for level in ["serializable", "repeatable read"] {
        let service = service().start().await;
        let database = service.database().await.unwrap();
        let name: String = database.query_one("SELECT current_database()", &[]).await.unwrap().get(0);
        let set = format!(r#"ALTER DATABASE "{name}" SET default_transaction_isolation = '{level}'"#);
        database.batch_execute(&set).await.unwrap();
        for duplicates in [50, 200] {
            let (key, order) = (new_key(), an_order());
            let answers = join_all((0..duplicates).map(|_| service.order(&key, &order))).await;
            let created = answers.iter().filter(|answer| !answer.replayed()).count();
            assert_eq!(created, 1, "{level}, {duplicates}");
            for answer in &answers {
                assert_eq!((answer.status, &answer.body), (201, &answers[0].body));
            }
            service.assert_stored(&key, 1).await;
        }
    }
}

#[tokio::test]
async fn waiting_for_postgres_takes_no_time_from_redis() {
    applies_to!(Servers);
    let setup = service().variable("database_timeout_ms", 20_000);
    let service = setup.variable("redis_timeout_ms", 1500).start().await;
    let (key, order) = (new_key(), an_order());
    let first = service.order(&key, &order).await;
    first.assert_created();
    let mut database = service.database().await.unwrap();
    let open = database.transaction().await.unwrap();
    open.batch_execute("LOCK TABLE orders").await.unwrap();
    let unlock = async {
        service.wait_for_lock_waiter().await;
        // Longer than the request has for Redis.
        tokio::time::sleep(Duration::from_millis(2000)).await;
        open.rollback().await.unwrap();
    };
    let (retried, ()) = tokio::join!(service.order(&key, &order), unlock);
    retried.assert_replay_of(&first);
    // The record was completed after that wait.
    let record = service.redis_command(&["GET", &service.record_of(&key)]).await;
    let Some(redis::Value::BulkString(record)) = record else {
        panic!("no record: {record:?}");
    };
    assert_eq!(record[1], b'f', "completed");
    service.assert_redis_was_used();
}

#[tokio::test]
async fn connections_that_died_are_not_noticed_by_clients() {
    applies_to!(Servers);
    let service = service().own_postgres().start().await;
    let database = service.database().await.unwrap();
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
    let order = an_order();
    for _ in 0..3 {
        service.order(&new_key(), &order).await.assert_created();
        // Longer than the component keeps a connection: they all are in the pool.
        tokio::time::sleep(Duration::from_millis(200)).await;
        database.query(terminate, &[]).await.unwrap();
        service.order(&new_key(), &order).await.assert_created();
    }
    assert!(!service.logs().contains("postgres"), "{}", service.logs());

    // At once, while the component keeps the connection: its next statement fails on it.
    for _ in 0..20 {
        service.order(&new_key(), &order).await.assert_created();
        database.query(terminate, &[]).await.unwrap();
        service.order(&new_key(), &order).await.assert_created();
        if service.logs().contains("postgres: down: ") {
            return;
        }
    }
    panic!("no statement met a connection that had died");
}
