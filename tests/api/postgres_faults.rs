//! Failures of Postgres: without it no order is acknowledged, and after its return none is missing or duplicated.

use std::time::{Duration, Instant};

use chaos::proxy::Link;
use devstack::install::find_or_install_pgbouncer;
use devstack::process::local;
use devstack::{Postgres, or_skip};
use fixtures::replication::fence;
use fixtures::until;
use futures::future::join_all;

use crate::concurrency::assert_one_creation;
use crate::support::{LOCK_WAITERS, ORDERS, an_order, begin, insert_and_stay, new_key, service};

#[tokio::test]
async fn postgres_stopped_then_started() {
    applies_to!(Servers);
    let mut service = service().own_postgres().start().await;
    let (key, order) = (new_key(), an_order());
    for immediately in [false, true] {
        let before = service.new_order().await;
        let postgres = service.postgres();
        if immediately {
            postgres.stop_immediately().unwrap()
        } else {
            postgres.stop().unwrap()
        }
        let refused = service.order(&key, &order).problem(503, "unavailable").await;
        // Every instance has lost it: to take this one out of service would help nobody.
        service.get("/readyz").expect(503).await;
        let degraded = service.get("/readyz?lost-store=degraded").expect(200).await;
        assert_eq!(degraded.json()["status"], "degraded");
        assert!(refused.the("retry-after").parse::<u64>().unwrap() >= 1);
        for word in ["postgres", "Connect", "127.0.0.1", "orders@"] {
            assert!(!refused.body.contains(word), "{}", refused.body);
        }
        service.get_order(&before).problem(503, "unavailable").await;
        service.postgres().restart().unwrap();
        assert_eq!(service.get_order(&before).await.body, before.body);
    }
    let first = service.order(&key, &order).created().await;
    service.order(&key, &order).replay_of(&first).await;
    service.assert_stored(&key, 1).await;
}

/// As with a character that the database's encoding lacks: no retry can succeed, and none is asked for.
#[tokio::test]
async fn an_order_that_postgres_can_never_store_is_rejected_for_good() {
    applies_to!(Servers);
    let service = service().own_postgres().start().await;
    service.sql("ALTER TABLE orders ADD CHECK (position('\u{20ac}' in document::text) = 0)").await;
    let (key, mut order) = (new_key(), an_order());
    order["note"] = "5 \u{20ac}".into();
    let rejected = || service.order(&key, &order).problem(500, "value-rejected");
    // They share a statement, which fails for both.
    let (first, _) = tokio::join!(rejected(), service.new_order());
    for rejected in [first, rejected().await] {
        assert_eq!(rejected.field("retry-after"), None);
    }
    service.state(&key).problem(404, "idempotency-key-not-found").await;
    service.order(&key, &an_order()).created().await;
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
    let transaction = begin(&mut blocker, "LOCK TABLE orders").await;
    let release = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        transaction.commit().await.unwrap();
    };
    let lists = || join_all((0..40).map(|_| service.get(ORDERS).expect(200)));
    tokio::join!(lists(), release);

    let standby = before.standby();
    // As does a proxy that takes the statements for reads.
    let misled = self::service().variable("database_url", standby.url("postgres")).start().await;
    misled.get("/readyz").expect(503).await;
    assert!(misled.logs().contains("down: 25006"), "{}", misled.logs());
    fence(before.postgres()).await.unwrap();
    service.get("/readyz").expect(503).await;
    standby.promote().unwrap();
    link.lead_new_to(local(standby.port()));
    let switched = until("it goes on", async || service.order(&new_key(), &an_order()).await.status == 201).await;
    assert!(switched < Duration::from_secs(5), "{switched:?}");
    lists().await;
}

#[tokio::test]
async fn postgres_that_hangs_is_given_up_at_the_deadline() {
    applies_to!(Servers);
    let mut service = service().own_postgres().variable("database_timeout_ms", 700).start().await;
    let (key, order) = (new_key(), an_order());
    service.postgres().pause().unwrap();
    // A busy machine only ever delays a response: the fastest of three shows the limit.
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        service.order(&key, &order).problem(503, "unavailable").await;
        let elapsed = start.elapsed();
        assert!(elapsed >= Duration::from_millis(650), "{elapsed:?}");
        fastest = fastest.min(elapsed);
    }
    assert!(fastest < Duration::from_millis(1000), "{fastest:?}");
    // Many at once: one request of an instance wakes those that wait with it.
    join_all((0..40).map(async |_| {
        service.get("/api/v1/orders").problem(503, "unavailable").await;
    }))
    .await;
    service.postgres().resume().unwrap();

    let first = service.order(&key, &order).expect(201).await;
    service.order(&key, &order).replay_of(&first).await;
    service.assert_stored(&key, 1).await;
}

/// Lets each insertion take three seconds more, before or after its row is there.
fn slow_insertions(when: &str) -> String {
    format!(
        "CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql \
             AS 'BEGIN PERFORM pg_sleep(3); RETURN NEW; END'; \
         CREATE TRIGGER slow {when} INSERT ON orders FOR EACH ROW EXECUTE FUNCTION sleep()"
    )
}

#[tokio::test]
async fn a_write_that_lands_after_the_deadline_is_the_one_order() {
    applies_to!(Servers);
    let service = service().variable("database_timeout_ms", 500).start().await;
    let (key, order) = (new_key(), an_order());
    // An insertion commits long after every deadline here.
    service.sql(&slow_insertions("BEFORE")).await;
    for _ in 0..3 {
        service.order(&key, &order).problem(503, "unavailable").await;
    }
    service.assert_stored(&key, 0).await;

    until("an insertion is committed", async || service.all_stored().await == 1).await;
    // Waits for the insertions that are still running.
    service.sql("DROP TRIGGER slow ON orders").await;
    // On a busy machine a request may take longer than its half second: a client repeats it.
    until("there is time", async || service.order(&key, &order).await.status != 503).await;
    service.order(&key, &order).replayed().await;
    service.assert_stored(&key, 1).await;
}

/// The request waits for its shared statement, and sends no second one.
#[tokio::test]
async fn an_insertion_that_commits_late_but_in_time_is_a_creation() {
    applies_to!(Servers);
    let service = service().patient_with_redis().start().await;
    service.sql(&slow_insertions("AFTER")).await;
    let (key, order) = (new_key(), an_order());
    let first = service.order(&key, &order).created().await;
    service.order(&key, &order).replay_of(&first).await;
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn an_open_transaction_on_a_key_delays_no_other_key() {
    applies_to!(Servers);
    let service = service().variable("database_timeout_ms", 20_000).start().await;
    let (key, order) = (new_key(), an_order());
    let mut database = service.database().await.unwrap();
    let other = insert_and_stay(&mut database, &key, None).await;
    let neighbours = async {
        let start = Instant::now();
        for _ in 0..3 {
            join_all((0..10).map(|_| service.new_order())).await;
        }
        let elapsed = start.elapsed();
        // A shared statement gives up after 200 ms.
        assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
        other.rollback().await.unwrap();
    };
    tokio::join!(service.order(&key, &order).created(), neighbours);
    service.assert_stored(&key, 1).await;
}

#[tokio::test]
async fn a_statement_that_waits_for_a_lock_ends_before_its_request() {
    applies_to!(Servers);
    let service = service().variable("database_timeout_ms", 1000).start().await;
    let (key, order) = (new_key(), an_order());
    let mut database = service.database().await.unwrap();
    let other = insert_and_stay(&mut database, &key, None).await;
    join_all((0..6).map(|_| service.order(&key, &order).problem(503, "unavailable"))).await;
    // A statement that still waited would hold up the next request that gets its connection.
    assert_eq!(service.number(LOCK_WAITERS).await, 0);
    other.rollback().await.unwrap();
    service.order(&key, &order).created().await;
    assert!(!service.logs().contains("down"), "{}", service.logs());
}

#[tokio::test]
async fn a_default_isolation_level_of_the_database_refuses_no_duplicate() {
    applies_to!(Servers);
    for level in ["serializable", "repeatable read"] {
        let service = service().start().await;
        let name = service.database_url().rsplit('/').next().unwrap();
        service.sql(&format!(r#"ALTER DATABASE "{name}" SET default_transaction_isolation = '{level}'"#)).await;
        for duplicates in [50, 200] {
            let (key, order) = (new_key(), an_order());
            assert_one_creation(&join_all((0..duplicates).map(|_| service.order(&key, &order))).await);
            service.assert_stored(&key, 1).await;
        }
    }
}

#[tokio::test]
async fn connections_that_died_are_not_noticed_by_clients() {
    applies_to!(Servers);
    let service = service().own_postgres().start().await;
    let database = service.database().await.unwrap();
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
    for _ in 0..3 {
        service.new_order().await;
        // Longer than the component keeps a connection: they all are in the pool.
        tokio::time::sleep(Duration::from_millis(200)).await;
        database.query(terminate, &[]).await.unwrap();
        service.new_order().await;
    }
    assert!(!service.logs().contains("postgres"), "{}", service.logs());

    // At once, while the component keeps the connection: its next statement fails on it.
    for _ in 0..20 {
        service.new_order().await;
        database.query(terminate, &[]).await.unwrap();
        service.new_order().await;
        if service.logs().contains("postgres: down: ") {
            return;
        }
    }
    panic!("no statement met a connection that had died");
}

/// Debian's PgBouncer keeps no prepared statements: its connections have those of other clients, or none.
#[tokio::test]
async fn a_pooler_that_keeps_no_prepared_statements_is_not_ready_and_creates_nothing_twice() {
    applies_to!(Servers);
    let test = "a_pooler_that_keeps_no_prepared_statements";
    let Some(program) = or_skip(test, find_or_install_pgbouncer(false)) else {
        return;
    };
    let direct = service().start().await;
    let (_pooler, url) = Postgres::start_pooler(&program, direct.folder(), direct.database_url()).unwrap();
    let service = service().instances(2).variable("database_url", url).start().await;
    let mut ready = 0;
    for _ in 0..10 {
        ready += usize::from(service.get("/readyz").await.status == 200);
        let keys: Vec<_> = (0..8).map(|_| new_key()).collect();
        let order = an_order();
        let answers = join_all((0..32).map(|n| service.order_at(n % 2, &keys[n % 8], &order))).await;
        for (number, key) in keys.iter().enumerate() {
            let of_key = answers.iter().skip(number).step_by(8);
            let acknowledged: Vec<_> = of_key.filter(|answer| answer.status == 201).collect();
            assert!(acknowledged.iter().filter(|answer| !answer.replayed()).count() <= 1);
            let (stored, _) = direct.stored(&[key]).await.unwrap();
            assert!(stored == 1 || stored == 0 && acknowledged.is_empty(), "{stored} of {acknowledged:?}");
        }
    }
    assert!(ready <= 2, "{ready} of 10 times");
    assert!(service.logs().contains("the pooler must keep prepared statements"), "{}", service.logs());
}
