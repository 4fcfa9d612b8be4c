//! The database roles of `migrations/roles.sql`: one can serve and change no row, the other can migrate.

use devstack::workspace;
use fixtures::{Shared, connect};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::support::{ORDERS, an_order, service};

fn roles() -> String {
    std::fs::read_to_string(workspace::migrations().join("roles.sql")).unwrap()
}

/// The same database for another user.
fn url_of(role: &str, url: &str) -> String {
    let (_, place) = url.split_once('@').unwrap();
    format!("postgres://{role}@{place}")
}

async fn assert_refused(client: &Client, statements: &[&str]) {
    for sql in statements {
        let error = client.batch_execute(sql).await.expect_err(sql);
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}");
    }
}

#[tokio::test]
async fn the_serving_role_serves_and_changes_no_row() {
    applies_to!(Servers);
    let url = Shared::told().unwrap().create_database(&Uuid::new_v4().simple().to_string()).await.unwrap();
    let admin = connect(&url).await.unwrap();
    for _ in 0..2 {
        admin.batch_execute(&roles()).await.unwrap();
    }
    // A fence needs no right.
    admin.batch_execute("SELECT own_slots('orders', '{[0,1024)}')").await.unwrap();

    let serving_url = url_of("orders_serving", &url);
    let token = "t".repeat(32);
    let service = service().variable("database_url", &serving_url).variable("events_token", &token).start().await;
    let ready = service.get("/readyz").await.json();
    assert_eq!(ready["checks"]["postgres"]["status"], "up", "{ready}");
    let (key, first) = service.first_order().await;
    service.redis_command(&["DEL", &service.record_of(&key)]).await;
    service.order(&key, &an_order()).replay_of(&first).await;
    let feed = service.get("/api/v1/events").field("authorization", format!("Bearer {token}")).await;
    assert_eq!(feed.json().as_array().map(Vec::len), Some(1));
    let list = service.get(ORDERS).await;
    service.new_order().field("if-match", list.the("etag")).await;
    assert_eq!(service.get_order(&first).await.body, first.body);
    assert_eq!(service.state(&key).await.json()["state"], "completed");

    let serving = connect(&serving_url).await.unwrap();
    let timeout = serving.query_one("SHOW statement_timeout", &[]).await.unwrap().get::<_, String>(0);
    assert_eq!(timeout, "5s");
    assert_refused(
        &serving,
        &[
            "UPDATE orders SET document = document",
            "DELETE FROM orders",
            "TRUNCATE orders",
            "SELECT * FROM orders FOR UPDATE",
            "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, document, created_at) \
             SELECT order_id, customer_id, idempotency_key, fingerprint, document, created_at FROM orders \
             ON CONFLICT (customer_id, idempotency_key) DO UPDATE SET document = excluded.document",
            "ALTER TABLE orders ADD COLUMN more text",
            "ALTER TABLE orders DISABLE TRIGGER ALL",
            "CREATE INDEX ON orders (created_at)",
            "DROP TABLE orders",
            "DROP FUNCTION insert_orders_2",
            "CREATE TABLE more (id int)",
            "CREATE TEMPORARY TABLE more (id int)",
            "CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "SELECT setval(pg_get_serial_sequence('orders', 'seq'), 1)",
            "SELECT own_slots('orders', '{}')",
            "SELECT take_slots('orders', '{}')",
            "SELECT * FROM _sqlx_migrations",
            "SELECT pg_read_file('PG_VERSION')",
            "SET ROLE orders_migrating",
        ],
    )
    .await;
    let count = admin.query_one("SELECT count(*) FROM orders", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 2);
}

#[tokio::test]
async fn the_migrating_role_migrates_what_the_serving_role_may_use_next() {
    applies_to!(Servers);
    let name = Uuid::new_v4().simple().to_string();
    let shared = Shared::told().unwrap();
    migrator::create_database(&shared.postgres_url, &name, None).await.unwrap();
    let url = shared.postgres_url.replace("/postgres", &format!("/{name}"));
    let admin = connect(&url).await.unwrap();
    // Before there is any table: the first migration is the role's own.
    admin.batch_execute(&roles()).await.unwrap();
    let migrating_url = url_of("orders_migrating", &url);
    migrator::migrate(&migrating_url).await.unwrap();
    let migrating = connect(&migrating_url).await.unwrap();
    migrating.batch_execute("SELECT create_resource_table('refunds', 'refund', 2)").await.unwrap();

    let serving = connect(&url_of("orders_serving", &url)).await.unwrap();
    let insert = |table: &str| {
        format!(
            r#"SELECT insert_{table}_2('[{{"id":"{}","customer_id":"c","idempotency_key":"k",
               "fingerprint":"00","document":{{}},"created_at":0}}]')"#,
            Uuid::new_v4()
        )
    };
    assert_refused(&serving, &[&insert("orders"), &insert("refunds")]).await;
    admin.batch_execute(&roles()).await.unwrap();
    for table in ["orders", "refunds"] {
        serving.batch_execute(&insert(table)).await.unwrap();
        let rows = serving.query(&format!("SELECT seq FROM {table}"), &[]).await;
        assert_eq!(rows.unwrap().len(), 1, "{table}");
    }
    assert_refused(&serving, &["DELETE FROM refunds", "DELETE FROM refunds_0"]).await;
}
