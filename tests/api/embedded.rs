//! The embedded store: orders in a file of the host's own SQLite, without Redis and Postgres.

use std::time::{Duration, Instant};

use futures::future::join_all;

use crate::concurrency::assert_no_kill_loses_an_order;
use crate::support::{Setup, Store, an_order, an_order_of, new_key, service};
use crate::trips::costs;

fn embedded() -> Setup {
    service().store(Store::Embedded)
}

#[tokio::test]
async fn every_order_that_was_acknowledged_before_a_kill_is_there_once() {
    applies_to!(Servers);
    assert_no_kill_loses_an_order(embedded().start().await).await;
}

/// In memory, each instance would have a database of its own, and a retry that reaches another one would be another
/// order.
#[tokio::test]
async fn a_database_in_memory_is_refused() {
    applies_to!(Servers);
    let service = service().store(Store::EmbeddedInMemory).start().await;
    let ready = service.get("/readyz").expect(503).await;
    assert_eq!(ready.json()["checks"]["sqlite"]["status"], "down");
    service.order(&new_key(), &an_order()).problem(503, "unavailable").await;
    let logs = service.logs();
    assert!(logs.contains("not a file that all instances share"), "{logs}");
}

#[tokio::test]
async fn a_file_that_another_program_locks_is_waited_for_and_not_for_ever() {
    applies_to!(Servers);
    let service = embedded().variable("database_timeout_ms", 1000).start().await;
    let (key, order) = (new_key(), an_order());
    let first = service.new_order().await;

    let file = service.file();
    file.execute_batch("BEGIN IMMEDIATE").unwrap();
    let start = Instant::now();
    let waiting = join_all((0..20).map(|_| service.order(&key, &order).problem(503, "unavailable")));
    let read = async {
        // Readers do not wait for a writer.
        assert_eq!(service.get_order(&first).await.body, first.body);
    };
    tokio::join!(waiting, read);
    let waited = start.elapsed();
    assert!(waited > Duration::from_secs(1), "{waited:?}");
    // Each request of an instance that waits delays the others by 50 ms.
    assert!(waited < Duration::from_secs(10), "{waited:?}");

    let end = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        file.execute_batch("ROLLBACK").unwrap();
    };
    tokio::join!(service.order(&key, &order).created(), end);
    service.assert_stored(&key, 1).await;
}

/// Without records nothing remembers an order that the file has lost: its retry creates another.
#[tokio::test]
async fn an_order_that_was_deleted_from_the_file_is_created_again_and_is_no_phantom() {
    applies_to!(Servers);
    let service = embedded().start().await;
    let (key, first) = service.first_order().await;
    assert_eq!(service.file().execute("DELETE FROM orders", []).unwrap(), 1);
    let again = service.order(&key, &an_order()).created().await;
    service.order(&key, &an_order()).replay_of(&again).await;
    service.get_order(&first).problem(404, "order-not-found").await;
}

#[tokio::test]
async fn a_creation_is_one_statement_and_a_replay_two() {
    applies_to!(Servers; on the runner);
    let service = embedded().start().await;
    // The connection is opened, and the table created.
    service.new_order().await;
    for _ in 0..3 {
        let (key, order) = (new_key(), an_order());
        let first = costs(&service, service.order(&key, &order).created(), (0, 1), "a creation").await;
        costs(&service, service.order(&key, &order).replay_of(&first), (0, 2), "a replay").await;
        costs(&service, service.order(&key, &an_order_of(3)).expect(422), (0, 2), "a refusal").await;
    }
}

/// The settings that keep an acknowledged order through a crash of the host (the log) and a power cut (`synchronous`,
/// which is the connection's own and not seen here).
#[tokio::test]
async fn the_file_is_in_write_ahead_mode_and_has_no_other_index_than_its_constraints() {
    applies_to!(Servers);
    let service = embedded().start().await;
    service.new_order().await;
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
