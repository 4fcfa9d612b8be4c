//! What the migrations do to orders that are there already, and to a migration that is interrupted.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use devstack::Programs;
use tokio_postgres::Client;

use crate::support::{connect, empty_database, number, previous_database};

/// Orders as the previous release stored them: the items' members as jsonb sorts them, the note, and the
/// document that they become.
const ODD_ORDERS: [(&str, Option<&str>, &str); 4] = [
    (
        r#"[{"sku": "A-1", "quantity": 2, "unitPrice": 1250}]"#,
        None,
        r#"{"currency":"EUR","items":[{"quantity":2,"sku":"A-1","unitPrice":1250}],"note":null}"#,
    ),
    (
        r#"[{"sku": "\"\\/\u0001\u001f\b\f\n\r\t", "quantity": 1, "unitPrice": 9223372036854775807}]"#,
        Some("\"quoted\" \\ / \u{1}\u{1f}\u{8}\u{c}\n\r\t\u{7f}"),
        concat!(
            r#"{"currency":"EUR","items":[{"quantity":1,"sku":"\"\\/\u0001\u001f\b\f\n\r\t","#,
            r#""unitPrice":9223372036854775807}],"note":"\"quoted\" \\ / \u0001\u001f\b\f\n\r\t"#,
            "\u{7f}\"}"
        ),
    ),
    (
        r#"[{"sku": "B", "quantity": 2, "unitPrice": 0}, {"sku": "é😀", "quantity": 1, "unitPrice": 5}]"#,
        Some("é😀\u{2028}"),
        concat!(
            r#"{"currency":"EUR","items":[{"quantity":2,"sku":"B","unitPrice":0},"#,
            r#"{"quantity":1,"sku":"é😀","unitPrice":5}],"note":"é😀"#,
            "\u{2028}\"}"
        ),
    ),
    (
        r#"[{"sku": "C", "quantity": 1, "unitPrice": 1}]"#,
        Some(""),
        r#"{"currency":"EUR","items":[{"quantity":1,"sku":"C","unitPrice":1}],"note":""}"#,
    ),
];

/// Inserts an order as the previous release does, maybe a conditional one.
async fn insert_odd(database: &Client, key: &str, odd: usize, follows: Option<&[u8]>) {
    let (items, note, _) = ODD_ORDERS[odd];
    let sql = "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, \
                                   currency, items, note, total, created_at, follows) \
               VALUES (gen_random_uuid(), 'c', $1, sha256('f'), 'EUR', $2::text::jsonb, $3, 7, now(), $4)";
    let inserted = database
        .execute(sql, &[&key, &items, &note, &follows])
        .await;
    assert_eq!(inserted.unwrap(), 1);
}

/// Inserts many orders that differ in nothing of interest.
async fn insert_many(database: &Client, count: i32) {
    let sql = "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, \
                                   currency, items, total, created_at) \
               SELECT gen_random_uuid(), 'm', 'm' || n, '', 'EUR', \
                      '[{\"sku\": \"A\", \"quantity\": 1, \"unitPrice\": 1}]', 1, now() \
               FROM generate_series(1, $1) AS n";
    database.execute(sql, &[&count]).await.unwrap();
}

async fn assert_odd(database: &Client, key: &str, odd: usize, state: Option<&[u8]>) {
    let sql = "SELECT document::text, based_on FROM orders WHERE idempotency_key = $1";
    let row = database.query_one(sql, &[&key]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), ODD_ORDERS[odd].2);
    assert_eq!(row.get::<_, Option<&[u8]>>(1), state);
}

async fn assert_all_filled(database: &Client) {
    let unfilled = "SELECT count(*) FROM orders \
                    WHERE document IS NULL OR based_on IS DISTINCT FROM follows";
    assert_eq!(number(database, unfilled).await, 0);
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    assert_eq!(number(database, invalid).await, 0);
}

#[tokio::test]
async fn every_order_becomes_its_canonical_document() {
    let url = previous_database().await;
    let database = connect(&url).await;
    let states = [None, Some(&b"state 1"[..]), Some(b"state 2"), None];
    for (odd, state) in states.into_iter().enumerate() {
        insert_odd(&database, &format!("before {odd}"), odd, state).await;
    }
    let outcome = migrator::migrate(&url).await.unwrap();
    assert_eq!(outcome.remaining, ["0013 drop content columns"]);
    // The previous release goes on.
    for (odd, state) in [None, None, Some(&b"state 3"[..])].into_iter().enumerate() {
        insert_odd(&database, &format!("after {odd}"), odd, state).await;
        assert_odd(&database, &format!("after {odd}"), odd, state).await;
    }
    assert_all_filled(&database).await;

    // Repeated, and then completed.
    assert!(migrator::migrate(&url).await.unwrap().applied.is_empty());
    assert_eq!(migrator::migrate_all(&url).await.unwrap().applied.len(), 1);
    assert_eq!(
        migrator::migrate_all(&url).await.unwrap(),
        migrator::Outcome::default()
    );
    for (odd, state) in states.into_iter().enumerate() {
        assert_odd(&database, &format!("before {odd}"), odd, state).await;
    }
}

#[tokio::test]
async fn a_state_is_followed_once_whichever_release_follows_it() {
    let url = previous_database().await;
    let database = connect(&url).await;
    insert_odd(&database, "before", 0, Some(b"state 1")).await;
    migrator::migrate(&url).await.unwrap();
    let new = "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, document, created_at, \
                                   based_on) \
               VALUES (gen_random_uuid(), 'c', $1, '', $2::text::json, now(), $3) ON CONFLICT DO NOTHING";
    let document = ODD_ORDERS[2].2;
    for (key, state, inserted) in [
        ("new 1", &b"state 1"[..], 0),
        ("new 2", b"state 2", 1),
        ("new 3", b"state 2", 0),
    ] {
        let done = database.execute(new, &[&key, &document, &state]).await;
        assert_eq!(done.unwrap(), inserted, "{key}");
    }
    let old = "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, currency, items, total, \
                                   created_at, follows) \
               VALUES (gen_random_uuid(), 'c', 'old', '', 'EUR', '[]', 0, now(), 'state 2') \
               ON CONFLICT DO NOTHING";
    assert_eq!(database.execute(old, &[]).await.unwrap(), 0);

    // What the previous release reads of the new order.
    let sql = "SELECT currency, items = $1::text::jsonb, note, total, follows FROM orders \
               WHERE idempotency_key = 'new 2'";
    let row = database.query_one(sql, &[&ODD_ORDERS[2].0]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "EUR");
    assert!(row.get::<_, bool>(1));
    assert_eq!(row.get::<_, Option<&str>>(2), ODD_ORDERS[2].1);
    assert_eq!(row.get::<_, i64>(3), 5);
    assert_eq!(row.get::<_, &[u8]>(4), b"state 2");
}

#[tokio::test]
async fn interrupted_steps_are_completed() {
    let url = previous_database().await;
    let database = connect(&url).await;
    insert_many(&database, 700).await;
    migrator::migrate_to(&url, 6).await.unwrap();

    // The backfill, after some of its batches.
    let interrupted = connect(&url).await;
    let timeout = "SET statement_timeout = '200ms'";
    interrupted.batch_execute(timeout).await.unwrap();
    let fill = "CALL orders_fill_documents(1)";
    interrupted.batch_execute(fill).await.unwrap_err();
    let filled = number(&database, "SELECT count(document) FROM orders").await;
    assert!((1..700).contains(&filled), "{filled}");
    migrator::migrate_to(&url, 7).await.unwrap();
    assert_all_filled(&database).await;

    // The index, while it waits for a transaction.
    let blocker = connect(&url).await;
    let open = "BEGIN; LOCK TABLE orders IN ROW EXCLUSIVE MODE";
    blocker.batch_execute(open).await.unwrap();
    let index = "CREATE UNIQUE INDEX CONCURRENTLY orders_customer_id_order_id_key \
                 ON orders (customer_id, order_id)";
    interrupted.batch_execute(index).await.unwrap_err();
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    assert_eq!(number(&database, invalid).await, 1);
    blocker.batch_execute("ROLLBACK").await.unwrap();
    migrator::migrate_to(&url, 8).await.unwrap();
    assert_all_filled(&database).await;

    // A step that was completed and not recorded.
    for version in [8, 7] {
        let forget = format!("DELETE FROM _sqlx_migrations WHERE version = {version}");
        database.batch_execute(&forget).await.unwrap();
    }
    migrator::migrate(&url).await.unwrap();
    assert_all_filled(&database).await;
}

#[tokio::test]
async fn two_migrators_at_once_migrate_once() {
    for url in [previous_database().await, empty_database().await] {
        let both = tokio::join!(migrator::migrate(&url), migrator::migrate(&url));
        let applied = [both.0.unwrap().applied.len(), both.1.unwrap().applied.len()];
        assert!(applied.contains(&0), "{applied:?}");
    }
}

#[tokio::test]
async fn a_migrator_that_waits_for_a_lock_lets_orders_through() {
    let url = previous_database().await;
    let database = connect(&url).await;
    let blocker = connect(&url).await;
    let open = "BEGIN; LOCK TABLE orders IN ROW EXCLUSIVE MODE";
    blocker.batch_execute(open).await.unwrap();
    let migrated = Cell::new(false);
    let migration = async {
        migrator::migrate(&url).await.unwrap();
        migrated.set(true);
    };
    let orders = async {
        let start = Instant::now();
        let mut slowest = Duration::ZERO;
        for n in 0.. {
            if start.elapsed() > Duration::from_secs(3) {
                break;
            }
            let insertion = Instant::now();
            let key = n.to_string();
            let inserted = insert_odd(&database, &key, 0, None);
            // Without a lock_timeout it would wait for the blocker, and so for this test itself.
            let patience = Duration::from_secs(5);
            tokio::time::timeout(patience, inserted)
                .await
                .expect("an order is created while a migration waits");
            slowest = slowest.max(insertion.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!migrated.get());
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
        blocker.batch_execute("ROLLBACK").await.unwrap();
    };
    tokio::join!(migration, orders);
    assert_all_filled(&database).await;
}

/// pg_dump of a database's schema, without what differs between two runs.
fn schema(pg_dump: &PathBuf, url: &str) -> String {
    let output = Command::new(pg_dump)
        .args(["--schema-only", "--no-owner", "--dbname", url])
        .output()
        .expect("pg_dump, which comes with Postgres' client programs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| {
        !["\\restrict", "\\unrestrict"]
            .iter()
            .any(|word| line.starts_with(word))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_migrated_schema_is_a_new_one() {
    let programs = Programs::find_or_install(false).unwrap();
    let pg_dump = programs.postgres.with_file_name("pg_dump");
    let pg_dump = if pg_dump.exists() {
        pg_dump
    } else {
        "pg_dump".into()
    };
    let new = empty_database().await;
    assert!(migrator::migrate(&new).await.unwrap().remaining.is_empty());
    let expected = schema(&pg_dump, &new);
    assert!(expected.contains("CREATE TABLE public.orders"));

    let migrated = previous_database().await;
    insert_many(&connect(&migrated).await, 10).await;
    migrator::migrate(&migrated).await.unwrap();
    assert_ne!(schema(&pg_dump, &migrated), expected);
    migrator::migrate_all(&migrated).await.unwrap();
    assert_eq!(schema(&pg_dump, &migrated), expected);

    // The function for other resources describes the same table.
    let again = "DROP TABLE orders; SELECT create_resource_table('orders', 'order')";
    connect(&new).await.batch_execute(again).await.unwrap();
    assert_eq!(schema(&pg_dump, &new), expected);
}

/// One that was created before the feed had an index, with an unfinished one in a partition.
#[tokio::test]
async fn a_partitioned_table_gets_the_feeds_index_partition_by_partition() {
    let url = empty_database().await;
    migrator::migrate_to(&url, 15).await.unwrap();
    let database = connect(&url).await;
    let table = "DROP TABLE orders; SELECT create_resource_table('orders', 'order', 3); \
                 CREATE INDEX orders_1_seq_idx ON orders_1 (seq); \
                 UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'orders_1_seq_idx'::regclass";
    database.batch_execute(table).await.unwrap();
    migrator::migrate(&url).await.unwrap();
    let indexes = "SELECT relname::text FROM pg_index JOIN pg_class ON oid = indexrelid \
                   WHERE relname LIKE '%seq_idx' AND relname NOT LIKE '%customer%' AND indisvalid ORDER BY 1";
    let rows = database.query(indexes, &[]).await.unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let expected = [
        "orders_0_seq_idx",
        "orders_1_seq_idx",
        "orders_2_seq_idx",
        "orders_seq_idx",
    ];
    assert_eq!(names, expected);
    // Nothing is left to do, and the file is what was applied.
    assert!(migrator::migrate(&url).await.unwrap().applied.is_empty());
}

#[tokio::test]
async fn a_resource_table_may_be_partitioned() {
    let url = empty_database().await;
    migrator::migrate(&url).await.unwrap();
    let database = connect(&url).await;
    let create = "DROP TABLE orders; SELECT create_resource_table('orders', 'order', 8); \
                  SELECT create_resource_table('refunds', 'refund')";
    database.batch_execute(create).await.unwrap();
    // Not canonical: the text is kept as it is.
    let document = r#"{ "b":1.0, "a":"\u0041", "items":[{"unitPrice":3,"quantity":2}] }"#;
    for (table, one) in [("orders", "order"), ("refunds", "refund")] {
        let rows: Vec<String> = (0..20)
            .map(|n| {
                format!(
                    r#"{{"id":"01970000-0000-7000-8000-0000000000{n:02}","customer_id":"c{n}",
                        "idempotency_key":"k","fingerprint":"00ff","document":{document},"created_at":{n}}}"#
                )
            })
            .collect();
        let rows = format!("[{}]", rows.join(","));
        let insert = format!("SELECT * FROM insert_{table}_2($1::text::json)");
        assert_eq!(database.query(&insert, &[&rows]).await.unwrap().len(), 20);
        assert_eq!(database.query(&insert, &[&rows]).await.unwrap().len(), 0);
        let select = format!(
            "SELECT count(*) FROM {table} WHERE document::text = $1 AND fingerprint = '\\x00ff' \
             AND {one}_id IS NOT NULL AND seq > 0"
        );
        let row = database.query_one(&select, &[&document]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 20);
    }
    let report = "SELECT total, item_count FROM orders_report WHERE customer_id = 'c1'";
    let row = database.query_one(report, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1)), (6_i64, 1_i32));

    let without = r#"[{"id":"01970000-0000-7000-8000-000000000099","customer_id":"c","idempotency_key":"z",
                       "fingerprint":"00","document":null,"created_at":1}]"#;
    let insert = "SELECT FROM insert_orders_2($1::text::json)";
    database.query(insert, &[&without]).await.unwrap_err();
}

#[tokio::test]
async fn an_expanded_table_refuses_an_order_without_content() {
    let url = previous_database().await;
    migrator::migrate(&url).await.unwrap();
    let database = connect(&url).await;
    let insert = "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, created_at) \
                  VALUES (gen_random_uuid(), 'c', 'k', '', now())";
    database.execute(insert, &[]).await.unwrap_err();
}
