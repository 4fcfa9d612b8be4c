//! Measures how much WAL an order takes, for docs/capacity.md: orders from the migrated schema's own
//! function, one and sixteen to a statement, on a Postgres of our own with its defaults.

use anyhow::{Context, Result};
use devstack::{Postgres, Programs, workspace};
use migrator::{Part, apply};
use sqlx::{Connection, Executor, PgConnection, Row};

const ORDERS: i64 = 48_000;

/// One JSON array of new orders, as the component sends it, of 205 bytes of answer each.
const STATEMENT: &str = "\
    SELECT count(*) FROM insert_orders((
        SELECT json_agg(json_build_object(
            'order_id', gen_random_uuid(),
            'customer_id', 'customer-' || (($1 + n) % 5000),
            'idempotency_key', gen_random_uuid()::text,
            'fingerprint', encode(sha256(($1 + n)::text::bytea), 'hex'),
            'currency', 'EUR',
            'items', '[{\"sku\": \"A-1\", \"quantity\": 2, \"unitPrice\": 1250}]'::json,
            'note', NULL,
            'total', 2500,
            'created_at', (extract(epoch FROM clock_timestamp()) * 1000)::bigint))
        FROM generate_series(1, $2) AS n))";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let programs = Programs::find_or_install(true)?;
    let folder = workspace::stack_folder().join(format!("wal-{}", std::process::id()));
    let postgres = Postgres::start(&programs, &folder.join("postgres"))?;
    let url = postgres.url("postgres");
    apply(Part::Expand, &url).await?;
    let mut connection = PgConnection::connect(&url).await?;
    for batch in [1, 16] {
        // Full-page images depend on how long ago the checkpoint was: count from one.
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
            "{batch:2} to a statement: {} bytes of WAL an order",
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
    let row = sqlx::query("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get(0)?)
}
