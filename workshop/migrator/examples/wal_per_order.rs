//! Measures how much WAL an order takes, for docs/capacity.md: orders from the migrated schema's own
//! function, one and sixteen to a statement, on a private Postgres.

use std::time::Duration;

use anyhow::{Context, Result};
use devstack::{Postgres, Programs, workspace};
use migrator::migrate;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

const ORDERS: i64 = 16_000;

/// Inserts a JSON array of new orders, as the component sends it.
const STATEMENT: &str = "\
    SELECT count(id) FROM insert_orders_2((
        SELECT json_agg(json_build_object(
            'id', gen_random_uuid(),
            'customer_id', 'customer-' || (($1 + n) % 5000),
            'idempotency_key', gen_random_uuid()::text,
            'fingerprint', encode(sha256(($1 + n)::text::bytea), 'hex'),
            'document', '{\"currency\":\"EUR\",\
            \"items\":[{\"quantity\":2,\"sku\":\"A-1\",\"unitPrice\":1250}],\"note\":null}'::json,
            'created_at', (extract(epoch FROM clock_timestamp()) * 1000)::bigint))
        FROM generate_series(1, $2) AS n)) AS id";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let programs = Programs::find_or_install(true)?;
    let folder = workspace::stack_folder().join(format!("wal-{}", std::process::id()));
    let postgres = Postgres::start(&programs, &folder.join("postgres"))?;
    let url = postgres.url("postgres");
    migrate(&url).await?;
    let mut connection = PgConnection::connect(&url).await?;
    // Without full-page images: what an order takes by itself. With them: what a young table adds after a
    // checkpoint. They do not depend on the batch, so the two are measured apart.
    for (full_page_writes, batch) in [("off", 1), ("off", 16), ("on", 16)] {
        let set = format!("ALTER SYSTEM SET full_page_writes = {full_page_writes}");
        connection.execute(AssertSqlSafe(set)).await?;
        connection.execute("SELECT pg_reload_conf()").await?;
        // The server's processes take notice at their next statement.
        tokio::time::sleep(Duration::from_secs(1)).await;
        connection.execute("CHECKPOINT").await?;
        let before = position(&mut connection).await?;
        for start in (0..ORDERS).step_by(usize::try_from(batch)?) {
            sqlx::query(STATEMENT)
                .bind(start)
                .bind(batch)
                .execute(&mut connection)
                .await
                .context("inserting orders")?;
        }
        let bytes = position(&mut connection).await? - before;
        println!(
            "{batch:2} to a statement, full-page images {full_page_writes}: {} bytes of WAL an order",
            bytes / ORDERS
        );
    }
    connection.close().await?;
    drop(postgres);
    Postgres::remove(&folder.join("postgres"))?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

async fn position(connection: &mut PgConnection) -> Result<i64> {
    let row = sqlx::query("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint").fetch_one(connection).await?;
    Ok(row.try_get(0)?)
}
