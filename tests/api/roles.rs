//! The database roles of `migrations/roles.sql`: one can serve and change no row, the other can migrate.

use devstack::workspace;
use fixtures::Shared;
use reqwest::Method;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::support::{an_order, new_key, service};

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The same database for another user.
fn url_of(role: &str, url: &str) -> String {
    let (_, place) = url.split_once('@').unwrap();
    format!("postgres://{role}@{place}")
}

async fn assert_refused(client: &Client, statements: &[&str]) {
    for sql in statements {
        let error = client.batch_execute(sql).await.expect_err(sql);
        let code = error.code();
        assert_eq!(code, Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}");
    }
}

#[tokio::test]
async fn the_serving_role_serves_and_changes_no_row() {
    applies_to!(Servers);
    let roles = std::fs::read_to_string(workspace::migrations().join("roles.sql")).unwrap();
    let name = Uuid::new_v4().simple().to_string();
    let url = Shared::told().unwrap().create_database(&name).await.unwrap();
    let admin = connect(&url).await;
    for _ in 0..2 {
        admin.batch_execute(&roles).await.unwrap();
    }

    let serving_url = url_of("orders_serving", &url);
    let setup = service().variable("database_url", &serving_url);
    let service = setup.variable("events_token", "t".repeat(32)).start().await;
    let ready = service.get("/readyz").await.json();
    assert_eq!(ready["checks"]["postgres"]["status"], "up", "{ready}");
    let key = new_key();
    let first = service.order(&key, &an_order()).await;
    first.assert_created();
    let record = service.record_of(&key);
    service.redis_command(&["DEL", &record]).await;
    let again = service.order(&key, &an_order()).await;
    again.assert_replay_of(&first);
    let bearer = format!("Bearer {}", "t".repeat(32));
    let token = [("authorization", bearer.as_str())];
    let feed = service.request(Method::GET, "/api/v1/events", &token, "");
    assert_eq!(feed.await.json().as_array().map(Vec::len), Some(1));
    let list = service.get("/api/v1/orders").await;
    let etag = list.field("etag").unwrap();
    let second = new_key();
    let fields = [("content-type", "application/json"), ("idempotency-key", second.as_str()), ("if-match", etag)];
    let body = an_order().to_string();
    let conditional = service.request(Method::POST, "/api/v1/orders", &fields, body);
    conditional.await.assert_created();
    let shown = service.get(first.field("location").unwrap()).await;
    assert_eq!(shown.body, first.body);
    let state = service.get(&format!("/api/v1/idempotency-keys/{key}")).await;
    assert_eq!(state.json()["state"], "completed");

    let serving = connect(&serving_url).await;
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
            "DROP FUNCTION insert_orders_2(json)",
            "CREATE TABLE more (id int)",
            "CREATE TEMPORARY TABLE more (id int)",
            "CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "SELECT setval(pg_get_serial_sequence('orders', 'seq'), 1)",
            "SELECT * FROM _sqlx_migrations",
            "SELECT pg_read_file('PG_VERSION')",
            "SET ROLE orders_migrating",
        ],
    )
    .await;
    let count = "SELECT count(*) FROM orders";
    let row = admin.query_one(count, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 2);
}

#[tokio::test]
async fn the_migrating_role_migrates_what_the_serving_role_may_use_next() {
    applies_to!(Servers);
    let roles = std::fs::read_to_string(workspace::migrations().join("roles.sql")).unwrap();
    let name = Uuid::new_v4().simple().to_string();
    let shared = Shared::told().unwrap();
    migrator::create_database(&shared.postgres_url, &name, None).await.unwrap();
    let url = shared.postgres_url.replace("/postgres", &format!("/{name}"));
    let admin = connect(&url).await;
    // Before there is any table: the first migration is the role's own.
    admin.batch_execute(&roles).await.unwrap();
    let migrating_url = url_of("orders_migrating", &url);
    migrator::migrate(&migrating_url).await.unwrap();
    let migrating = connect(&migrating_url).await;
    let create = "SELECT create_resource_table('refunds', 'refund', 2)";
    migrating.batch_execute(create).await.unwrap();

    let serving = connect(&url_of("orders_serving", &url)).await;
    let insert = |table: &str| {
        format!(
            r#"SELECT insert_{table}_2('[{{"id":"{}","customer_id":"c","idempotency_key":"k",
               "fingerprint":"00","document":{{}},"created_at":0}}]')"#,
            Uuid::new_v4()
        )
    };
    assert_refused(&serving, &[&insert("orders"), &insert("refunds")]).await;
    admin.batch_execute(&roles).await.unwrap();
    for table in ["orders", "refunds"] {
        serving.batch_execute(&insert(table)).await.unwrap();
        let rows = serving.query(&format!("SELECT seq FROM {table}"), &[]).await;
        assert_eq!(rows.unwrap().len(), 1, "{table}");
    }
    assert_refused(&serving, &["DELETE FROM refunds", "DELETE FROM refunds_0"]).await;
}
