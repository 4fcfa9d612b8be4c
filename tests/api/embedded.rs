//! The embedded store: orders in a file of the host's own SQLite, without Redis and Postgres.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::Value;
use tokio::sync::Notify;

use crate::support::{Service, Setup, Store, an_order, an_order_of, new_key, service};

fn embedded() -> Setup {
    service().store(Store::Embedded)
}

#[tokio::test]
async fn two_hundred_duplicates_on_two_hosts_end_in_one_order() {
    applies_to!(Servers);
    let service = embedded().instances(2).start().await;
    for _ in 0..3 {
        let (key, order) = (new_key(), an_order());
        let duplicates = (0..200).map(|n| service.order_at(n % 2, &key, &order));
        let answers = join_all(duplicates).await;
        let (first, replays): (Vec<_>, Vec<_>) = answers.iter().partition(|a| !a.replayed());
        assert_eq!(first.len(), 1, "answers without the replay mark");
        for replay in replays {
            replay.assert_replay_of(first[0]);
        }
        service.assert_stored(&key, 1).await;
    }
}

/// Clients that retry after each failure, while the host is killed twice.
#[tokio::test]
async fn every_order_that_was_acknowledged_before_a_kill_is_there_once() {
    applies_to!(Servers);
    const CLIENTS: usize = 64;
    let mut service = embedded().start().await;
    let address = service.address();
    let order = an_order();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let mut killed = service.apps.remove(0);
        let (answered, kill_now) = (AtomicUsize::new(0), Notify::new());
        let client = async |_| {
            let mut answers = Vec::new();
            loop {
                let key = new_key();
                let answer = service.try_order_at(round, &key, &order).await;
                let is_last = answer.is_err();
                answers.push((key, answer.ok()));
                if is_last {
                    return answers;
                }
                if answered.fetch_add(1, Ordering::Relaxed) == 3 * CLIENTS {
                    kill_now.notify_one();
                }
            }
        };
        let kill = async {
            kill_now.notified().await;
            killed.kill().unwrap();
        };
        let (answers, ()) = tokio::join!(join_all((0..CLIENTS).map(client)), kill);
        service.serve_at(address);
        for (key, answer) in answers.into_iter().flatten() {
            let retried = service.order(&key, &order).await;
            assert_eq!(retried.status, 201, "{retried:?}");
            if let Some(first) = answer {
                first.assert_created();
                retried.assert_replay_of(&first);
            }
            acknowledged.push(key);
        }
    }
    let keys: Vec<&str> = acknowledged.iter().map(String::as_str).collect();
    let all = i64::try_from(keys.len()).unwrap();
    assert!(all > 9 * 64, "{all}");
    assert_eq!(service.stored(&keys).await, Some((all, all)));
}

/// In memory, each instance would have a database of its own, and a retry that reaches another one would be another
/// order.
#[tokio::test]
async fn a_database_in_memory_is_refused() {
    applies_to!(Servers);
    let service = service().store(Store::EmbeddedInMemory).start().await;
    let ready = service.get("/readyz").await;
    assert_eq!(ready.status, 503, "{ready:?}");
    assert_eq!(ready.json()["checks"]["sqlite"]["status"], "down");
    let refused = service.order(&new_key(), &an_order()).await;
    refused.assert_problem(503, "unavailable");
    let logs = service.logs();
    assert!(logs.contains("not a file that all instances share"), "{logs}");
}

#[tokio::test]
async fn a_file_that_another_program_locks_is_waited_for_and_not_for_ever() {
    applies_to!(Servers);
    let setup = embedded().variable("database_timeout_ms", 1000);
    let service = setup.start().await;
    let (key, order) = (new_key(), an_order());
    let first = service.order(&new_key(), &order).await;
    first.assert_created();

    let file = service.file();
    file.execute_batch("BEGIN IMMEDIATE").unwrap();
    let start = Instant::now();
    let waiting = join_all((0..20).map(|_| service.order(&key, &order)));
    let read = async {
        // Readers do not wait for a writer.
        let shown = service.get(first.field("location").unwrap()).await;
        assert_eq!((shown.status, &shown.body), (200, &first.body));
    };
    let (answers, ()) = tokio::join!(waiting, read);
    for answer in answers {
        answer.assert_problem(503, "unavailable");
    }
    let waited = start.elapsed();
    assert!(waited > Duration::from_secs(1), "{waited:?}");
    // Each request of an instance that waits delays the others by 50 ms.
    assert!(waited < Duration::from_secs(10), "{waited:?}");

    let end = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        file.execute_batch("ROLLBACK").unwrap();
    };
    let (created, ()) = tokio::join!(service.order(&key, &order), end);
    created.assert_created();
    service.assert_stored(&key, 1).await;
}

/// Without records nothing remembers an order that the file has lost: its retry creates another.
#[tokio::test]
async fn an_order_that_was_deleted_from_the_file_is_created_again_and_is_no_phantom() {
    applies_to!(Servers);
    let service = embedded().start().await;
    let (key, order) = (new_key(), an_order());
    let first = service.order(&key, &order).await;
    first.assert_created();
    assert_eq!(service.file().execute("DELETE FROM orders", []).unwrap(), 1);
    let again = service.order(&key, &order).await;
    again.assert_created();
    service.order(&key, &order).await.assert_replay_of(&again);
    let location = first.field("location").unwrap();
    let missing = service.get(location).await;
    missing.assert_problem(404, "order-not-found");
}

#[tokio::test]
async fn a_creation_is_one_statement_and_a_replay_two() {
    applies_to!(Servers; on the runner);
    let service = embedded().start().await;
    // The connection is opened, and the table created.
    service.order(&new_key(), &an_order()).await.assert_created();
    for _ in 0..3 {
        let key = new_key();
        assert_eq!(cost(&service, &key, 2).await, 1, "a creation");
        assert_eq!(cost(&service, &key, 2).await, 2, "a replay");
        assert_eq!(cost(&service, &key, 3).await, 2, "a refusal");
    }
}

/// The number of statements of a request for an order with this quantity.
async fn cost(service: &Service, key: &str, quantity: u64) -> u64 {
    let statements = async || {
        let calls: Value = service.get("/.well-known/runner/calls").await.json();
        assert_eq!(calls["redisCommands"], 0, "{calls}");
        assert_eq!(calls["postgresStatements"], 0, "{calls}");
        calls["sqliteStatements"].as_u64().unwrap()
    };
    let before = statements().await;
    service.order(key, &an_order_of(quantity)).await;
    statements().await - before
}

/// The settings that keep an acknowledged order through a crash of the host (the log) and a power cut (`synchronous`,
/// which is the connection's own and not seen here).
#[tokio::test]
async fn the_file_is_in_write_ahead_mode_and_has_no_other_index_than_its_constraints() {
    applies_to!(Servers);
    let service = embedded().start().await;
    service.order(&new_key(), &an_order()).await.assert_created();
    let file = service.file();
    let text = |sql: &str| file.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(text("PRAGMA journal_mode"), "wal");
    assert_eq!(text("PRAGMA integrity_check"), "ok");
    let indexes = "SELECT group_concat(name) FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL";
    let named = file.query_row(indexes, [], |row| row.get::<_, Option<String>>(0));
    assert_eq!(named.unwrap(), None);
    // For people; nothing reads it.
    let (created_at, id): (String, String) =
        file.query_row("SELECT created_at, order_id FROM orders", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let shown = service.get(&format!("/api/v1/orders/{id}")).await;
    assert_eq!(shown.json()["createdAt"], created_at);
}
