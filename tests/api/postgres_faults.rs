//! Failures of Postgres: without it no order is acknowledged, and after its return none is missing or duplicated.

use std::time::{Duration, Instant};

use futures::future::join_all;

use crate::support::{an_order, insert_and_stay, new_key, service};

#[tokio::test]
#[cfg_attr(deployment, ignore = "needs servers or settings of its own")]
async fn postgres_stopped_then_started() {
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
        assert!(
            refused
                .field("retry-after")
                .unwrap()
                .parse::<u64>()
                .unwrap()
                >= 1
        );
        for word in ["postgres", "Connect", "127.0.0.1", "orders@"] {
            assert!(!refused.body.contains(word), "{}", refused.body);
        }
        let location = before.field("location").unwrap();
        service
            .get(location)
            .await
            .assert_problem(503, "unavailable");

        service.postgres().restart().unwrap();
        let shown = service.get(location).await;
        assert_eq!((shown.status, shown.body), (200, before.body));
    }
    let first = service.order(&key, &order).await;
    first.assert_created();
    service.order(&key, &order).await.assert_replay_of(&first);
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
#[cfg_attr(deployment, ignore = "needs servers or settings of its own")]
async fn postgres_that_hangs_is_given_up_at_the_deadline() {
    let setup = service().own_postgres();
    let mut service = setup.variable("database_timeout_ms", 700).start().await;
    let (key, order) = (new_key(), an_order());
    service.postgres().pause().unwrap();
    let start = Instant::now();
    service
        .order(&key, &order)
        .await
        .assert_problem(503, "unavailable");
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(650), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    service.postgres().resume().unwrap();

    let first = service.order(&key, &order).await;
    assert_eq!(first.status, 201, "{first:?}");
    service.order(&key, &order).await.assert_replay_of(&first);
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
#[cfg_attr(deployment, ignore = "needs servers or settings of its own")]
async fn a_write_that_lands_after_the_deadline_is_the_one_order() {
    let setup = service().variable("database_timeout_ms", 500);
    let service = setup.start().await;
    let (key, order) = (new_key(), an_order());
    let mut database = service.database().await.unwrap();
    let blockade = database.transaction().await.unwrap();
    blockade.batch_execute("LOCK TABLE orders").await.unwrap();
    // Several attempts pile up behind the lock, all given up by their clients.
    for _ in 0..3 {
        service
            .order(&key, &order)
            .await
            .assert_problem(503, "unavailable");
    }
    blockade.rollback().await.unwrap();

    let deadline = Instant::now() + Duration::from_secs(10);
    let found = loop {
        let answer = service.order(&key, &order).await;
        if answer.status == 201 {
            break answer;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
    };
    service.order(&key, &order).await.assert_replay_of(&found);
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
#[cfg_attr(deployment, ignore = "needs servers or settings of its own")]
async fn an_open_transaction_on_a_key_delays_no_other_key() {
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
        // Statements are shared for half of the time-out.
        assert!(elapsed < Duration::from_secs(8), "{elapsed:?}");
        other.rollback().await.unwrap();
    };
    let (first, ()) = tokio::join!(service.order(&key, &order), neighbours);
    first.assert_created();
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
#[cfg_attr(deployment, ignore = "needs servers or settings of its own")]
async fn connections_that_died_in_the_pool_are_not_noticed() {
    let service = service().own_postgres().start().await;
    for _ in 0..3 {
        service
            .order(&new_key(), &an_order())
            .await
            .assert_created();
        let database = service.database().await.unwrap();
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
        database.query(sql, &[]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
