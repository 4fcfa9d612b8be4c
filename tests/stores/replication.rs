//! What replication does to rows that are there: none is acknowledged before a synchronous standby has it, and no two
//! incarnations of a database have one history.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use devstack::process::local;
use devstack::{Postgres, Programs};
use exactly_once::condition::Expected;
use fixtures::replication::{Replication, crash_while_a_commit_waits, set_replication, wait_for_standby};
use fixtures::{Shared, connect, until};
use simulation::world::Call;
use tokio::time::timeout;
use uuid::Uuid;

use crate::Real;
use crate::native::Stores;
use crate::reading::order_of;

/// Longer than any statement here takes that waits for nothing.
const WAIT: Duration = Duration::from_secs(1);

fn folder(name: &str) -> PathBuf {
    Shared::told().unwrap().folder.join(format!("postgres-{name}"))
}

fn start(name: &str) -> (Programs, Postgres) {
    let programs = Programs::find_or_install(false).unwrap();
    let postgres = Postgres::start(&programs, &folder(name)).unwrap();
    (programs, postgres)
}

fn start_standby(programs: &Programs, name: &str, primary: &Postgres) -> Postgres {
    Postgres::start_standby(programs, &folder(name), local(primary.port())).unwrap()
}

/// A connection, once the server has started.
async fn client(postgres: &Postgres) -> tokio_postgres::Client {
    let mut client = None;
    until("a connection", async || {
        client = connect(&postgres.url("postgres")).await.ok();
        client.is_some()
    })
    .await;
    client.unwrap()
}

/// How many orders a server shows.
async fn count(postgres: &Postgres) -> i64 {
    client(postgres).await.query_one("SELECT count(*) FROM orders", &[]).await.unwrap().get(0)
}

/// An insertion waits for the standby, a crash restarts the server, and its row is visible although no standby has it.
#[tokio::test]
async fn a_row_that_no_standby_has_is_not_acknowledged_after_a_crash() {
    let (programs, primary) = start("unreplicated");
    let stores = Stores::on(&primary.url("postgres")).await;
    let mut standby = start_standby(&programs, "unreplicated-standby", &primary);
    set_replication(&primary, Replication::Synchronous).await.unwrap();
    wait_for_standby(&primary).await.unwrap();
    standby.stop().unwrap();

    let order = order_of("c", 1);
    let insert = Call::Insert(Box::new(order.clone()));
    let writer = client(&primary).await;
    let id = order.id.to_string();
    let sql = format!(
        "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, document, created_at) \
         VALUES ('{id}', 'c', '{}', decode('{}', 'hex'), '{}', now())",
        order.scope.key.as_str(),
        order.fingerprint,
        order.document.as_str(),
    );
    let waiting = tokio::spawn(async move { writer.batch_execute(&sql).await });
    crash_while_a_commit_waits(&primary).await.unwrap();
    assert!(waiting.await.unwrap().is_err());

    assert_eq!(count(&primary).await, 1, "the row is visible");
    for call in
        [insert.clone(), Call::Find(order.scope.clone()), Call::InsertBasedOn(Box::new(order.clone()), Expected::Any)]
    {
        let stores = stores.second_connection().await;
        assert!(timeout(WAIT, stores.execute(&call)).await.is_err(), "{call:?}");
    }
    let reader = stores.second_connection().await;
    assert!(timeout(WAIT, reader.read(0, 10, 10)).await.is_err(), "a page of the feed");

    standby.restart().unwrap();
    let stores = stores.second_connection().await;
    stores.execute(&insert).await;
    assert_eq!(count(&standby).await, 1);
    assert_eq!(stores.read(0, 10, 10).await.entries.len(), 1);
}

/// The branch, the history and the feed's numbering, once a component has been there.
async fn incarnation(postgres: &Postgres) -> [String; 3] {
    let stores = Stores::on(&postgres.url("postgres")).await;
    stores.execute(&Call::AskHistory).await;
    let sql = "SELECT current_branch(), encode(database_history(), 'hex'), encode(feed_numbering('orders'), 'hex')";
    let row = client(postgres).await.query_one(sql, &[]).await.unwrap();
    [0, 1, 2].map(|column| row.get(column))
}

#[tokio::test]
async fn two_standbys_of_one_timeline_begin_two_histories() {
    let (programs, mut primary) = start("histories");
    let before = incarnation(&primary).await;
    let mut standbys = ["one", "two"].map(|name| start_standby(&programs, &format!("histories-{name}"), &primary));
    primary.kill().unwrap();
    let mut seen = vec![before];
    for standby in &mut standbys {
        standby.promote().unwrap();
        seen.push(incarnation(standby).await);
        standby.stop().unwrap();
    }
    let [before, one, two] = &seen[..] else { panic!("three incarnations") };
    assert_eq!(one[0], two[0], "the number of the timeline is used twice");
    for what in [1, 2] {
        assert!(before[what] != one[what] && one[what] != two[what] && two[what] != before[what], "{seen:?}");
    }
    // Storage that was rolled back has a history of its own as well: it needs a start.
    let [_, standby] = &mut standbys;
    standby.restart().unwrap();
    let restarted = incarnation(standby).await;
    assert_ne!(restarted[1], two[1]);
    assert_eq!((&restarted[0], &restarted[2]), (&two[0], &two[2]), "cursors stay valid");
    // A copy of the data folder, too.
    let (_, mut copy) = start("histories-copy");
    let (from, to) = (data_folder(standby).await, data_folder(&copy).await);
    standby.stop().unwrap();
    copy.stop().unwrap();
    let copies = format!("rm -r {to} && cp -a {from} {to}");
    assert!(Command::new("sh").args(["-c", &copies]).status().unwrap().success());
    copy.restart().unwrap();
    let copied = incarnation(&copy).await;
    assert_eq!(copied[0], restarted[0]);
    assert_ne!(copied[1], restarted[1]);
}

/// Some servers do not tell their timeline (Aurora), and on some it is always the same (Neon).
#[tokio::test]
async fn a_history_and_a_numbering_need_no_timeline() {
    let (_programs, mut postgres) = start("timeline");
    let run = async |postgres: &Postgres, sql: &str| client(postgres).await.batch_execute(sql).await.unwrap();
    run(
        &postgres,
        "CREATE SCHEMA shadow; \
         CREATE FUNCTION shadow.pg_current_wal_lsn() RETURNS pg_lsn LANGUAGE plpgsql AS $$ \
             BEGIN RAISE 'no WAL here' USING ERRCODE = '55000'; END $$; \
         ALTER DATABASE postgres SET search_path = public, shadow, pg_catalog",
    )
    .await;
    let first = incarnation(&postgres).await;
    assert_eq!(incarnation(&postgres).await, first);
    let stores = Stores::on(&postgres.url("postgres")).await;
    for call in [Call::Insert(Box::new(order_of("c", 1))), Call::Find(order_of("c", 2).scope)] {
        stores.execute(&call).await;
    }
    assert_eq!(stores.read(0, 10, 10).await.entries.len(), 1);
    postgres.restart().unwrap();
    let started = incarnation(&postgres).await;
    assert!(started[1] != first[1] && started[2] != first[2], "any start may lose rows: {started:?}, {first:?}");

    run(&postgres, "DROP FUNCTION shadow.pg_current_wal_lsn; ALTER DATABASE postgres SET neon.timeline_id = 'a'").await;
    let before = incarnation(&postgres).await;
    assert_eq!(incarnation(&postgres).await, before);
    // A restore begins another branch.
    run(&postgres, "ALTER DATABASE postgres SET neon.timeline_id = 'b'").await;
    assert_ne!(incarnation(&postgres).await[2], before[2]);
}

/// Where a data folder is.
async fn data_folder(postgres: &Postgres) -> String {
    client(postgres).await.query_one("SHOW data_directory", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn an_epoch_that_something_else_has_written_is_drawn_again_and_only_once() {
    let stores = Stores::fresh().await;
    let epochs =
        "SELECT count(*) FROM (VALUES ('records'), ('feed')) AS purposes (p) WHERE current_epoch(p) IS NOT NULL";
    assert_eq!(stores.number(epochs).await, 2);
    // As a restore of a dump does.
    stores.run_sql("CREATE TEMP TABLE dump AS TABLE database_epochs; TRUNCATE database_epochs").await;
    assert_eq!(stores.number(epochs).await, 0);
    stores.run_sql("INSERT INTO database_epochs TABLE dump").await;
    assert_eq!(stores.number(epochs).await, 0);
    let other = stores.second_connection().await;
    assert_eq!(other.number(epochs).await, 2);
    let same = "SELECT count(*) FROM dump NATURAL JOIN database_epochs";
    assert_eq!(stores.number(same).await, 0);
    // A call that has nothing to draw is no transaction that writes, which would wait for standbys.
    stores.run_sql("BEGIN; SELECT draw_missing_epochs()").await;
    assert_eq!(stores.number("SELECT count(pg_current_xact_id_if_assigned())").await, 0);
    stores.run_sql("COMMIT").await;
}

/// Logical replication copies rows and no sequences.
#[tokio::test]
async fn a_sequence_that_was_not_copied_is_seen_and_continues() {
    let stores = Stores::fresh().await;
    let continues = "SELECT count(*) FILTER (WHERE numbers_continue('orders')) FROM (SELECT) AS one";
    for partitions in [0, 3] {
        let table = format!("DROP TABLE orders; SELECT create_resource_table('orders', 'order', {partitions})");
        stores.run_sql(&table).await;
        assert_eq!(stores.number(continues).await, 1, "an empty table");
        stores.execute(&Call::Insert(Box::new(order_of("c", 1)))).await;
        assert_eq!(stores.number(continues).await, 1);
        let reset = "SELECT setval(pg_get_serial_sequence('orders', 'seq'), 1, false)";
        stores.run_sql(reset).await;
        assert_eq!(stores.number(continues).await, 0);
        stores.run_sql("SELECT continue_numbers('orders')").await;
        assert_eq!(stores.number(continues).await, 1);
        let (second, next) = (order_of("c", 2), stores.read(1, 9, 9));
        stores.execute(&Call::Insert(Box::new(second.clone()))).await;
        assert_eq!(next.await.entries[0].id, second.id);
    }
}

/// Over a double of Citus: what is believed and inserted when shards move, and what is refused.
#[tokio::test]
async fn a_shard_has_a_history_for_each_place_and_only_its_server_inserts() {
    let shared = Shared { table: "distributed".to_owned(), ..Shared::told().unwrap() };
    let url = shared.create_database(&Uuid::new_v4().simple().to_string()).await.unwrap();
    let database = connect(&url).await.unwrap();
    let run = async |sql: &str| database.batch_execute(sql).await.unwrap();
    let text = async |sql: &str| database.query_one(sql, &[]).await.unwrap().get::<_, Option<String>>(0);
    let history = "SELECT encode(history, 'hex') FROM find_orders_1('a', NULL, 'k')";
    let mut known = vec![text(history).await, text(&history.replace("'a'", "'d'")).await];
    assert!(known[0] != known[1], "each shard has its own");
    for change in ["UPDATE pg_dist_placement SET placementid = placementid + 9", "SELECT forget_records()"] {
        run(change).await;
        let now = text(history).await;
        assert!(!known.contains(&now), "{change}");
        known.push(now);
    }
    let insert = |key| {
        format!(
            "SELECT inserted::text FROM insert_or_find_orders_1('a', '{key}', gen_random_uuid(), '', '{{}}', 0, '9')"
        )
    };
    text(&insert("1")).await;
    // The clock of the shard's last server was ahead.
    run("UPDATE orders SET seq = seq + 1000000000000").await;
    text(&insert("2")).await;
    assert_eq!(text("SELECT idempotency_key FROM orders ORDER BY seq DESC LIMIT 1").await.as_deref(), Some("2"));
    let rows = r#"[{"id": "01970000-0000-7000-8000-000000000001", "customer_id": "a", "idempotency_key": "3",
                    "fingerprint": "00", "document": {}, "created_at": 0}]"#;
    for (customer, expected) in [("", "0"), ("b", "0"), ("a", "2")] {
        let sql = format!("SELECT count(*)::text FROM insert_orders_2('{rows}', '{customer}')");
        assert_eq!(text(&sql).await.as_deref(), Some(expected), "only rows of one customer, who is named");
    }
    for (elsewhere, code) in [
        ("UPDATE pg_dist_placement SET groupid = 2", "40001"),
        ("SET default_transaction_isolation = 'repeatable read'", "P0001"),
    ] {
        run(elsewhere).await;
        let refused = database.query_one(&insert("4"), &[]).await.unwrap_err();
        assert_eq!(refused.code().map(|code| code.code()), Some(code), "{elsewhere}");
        run("UPDATE pg_dist_placement SET groupid = 1; RESET default_transaction_isolation").await;
    }
    for (wrong, why) in [
        ("SELECT", ""),
        ("UPDATE pg_dist_object SET colocationid = 2", "a function runs on the coordinator"),
        ("SELECT create_resource_functions('orders', 'order')", "a function runs on the coordinator"),
        ("UPDATE pg_dist_partition SET partkey = 'idempotency_key'", "not by the customer"),
        ("INSERT INTO pg_dist_node VALUES ('w', 1, true, true, true, false)", "w:1 lacks the metadata"),
        ("DROP INDEX orders_customer_id_seq_idx", "may have one number"),
        ("DROP FUNCTION find_orders_1", "apply the migrations"),
    ] {
        run(&format!("BEGIN; {wrong}")).await;
        let fault = text("SELECT fault_of_resource('orders', 'order_id')").await.unwrap_or_default();
        assert!(fault.contains(why) && fault.is_empty() == why.is_empty(), "{wrong}: {fault}");
        run("ROLLBACK").await;
    }
}
