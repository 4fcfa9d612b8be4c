//! Stores millions of orders, as the growth run needs them.

use anyhow::Result;

use crate::environment::Storage;

/// The number of orders that one statement stores.
const BATCH: i64 = 100_000;

/// How many connections store orders at the same time.
const FILLERS: i64 = 2;

/// Stores orders whose ids ascend with time and whose keys are random, as real ones are.
const FILL: &str = "INSERT INTO orders \
        (order_id, customer_id, idempotency_key, fingerprint, document, created_at) \
    SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '7' || substr(md5(n::text), 1, 3) \
            || '8' || substr(md5(n::text), 4, 15))::uuid, \
           CASE WHEN $3::int = 0 THEN 'anonymous' ELSE 'customer-' || n % $3 END, \
           md5('key ' || n)::uuid::text, sha256(n::text::bytea), \
           '{\"currency\":\"EUR\",\"items\":[{\"quantity\":2,\"sku\":\"A-1\",\"unitPrice\":1250}],\"note\":null}', \
           to_timestamp((1700000000000 + n) / 1000.0) \
    FROM generate_series($1::bigint, $2::bigint) AS n";

/// Removes and returns what is built faster from all orders at once: each statement creates an index or a constraint.
const REMOVE_INDEXES: &str = "\
    SELECT format('ALTER TABLE orders ADD CONSTRAINT %I %s', conname, pg_get_constraintdef(oid)), \
           format('ALTER TABLE orders DROP CONSTRAINT %I', conname) \
    FROM pg_constraint WHERE conrelid = 'orders'::regclass AND contype IN ('p', 'u') \
    UNION ALL \
    SELECT replace(indexdef, ' ON ONLY ', ' ON '), format('DROP INDEX %I', indexname) \
    FROM pg_indexes WHERE tablename = 'orders' \
        AND indexname NOT IN (SELECT conname FROM pg_constraint WHERE conrelid = 'orders'::regclass)";

/// Stores orders of that many customers (0: of the anonymous one), and builds the indexes
/// afterwards: an index that grows with each order takes ten times as long.
pub async fn fill(storage: &mut Storage, orders: u64, customers: u32) -> Result<()> {
    let database = storage.database().await?;
    let mut create = Vec::new();
    for row in database.query(REMOVE_INDEXES, &[]).await? {
        create.push(row.try_get::<_, String>(0)?);
        let drop: String = row.try_get(1)?;
        database.batch_execute(&drop).await?;
    }
    let (orders, customers) = (i64::try_from(orders)?, i32::try_from(customers)?);
    let mut fillers = tokio::task::JoinSet::new();
    for filler in 0..FILLERS {
        let database = storage.database().await?;
        fillers.spawn(async move {
            let mut first = filler * BATCH + 1;
            while first <= orders {
                let last = orders.min(first + BATCH - 1);
                database.execute(FILL, &[&first, &last, &customers]).await?;
                first += FILLERS * BATCH;
            }
            anyhow::Ok(())
        });
    }
    while let Some(filled) = fillers.join_next().await {
        filled??;
    }
    eprintln!("  stored {orders} orders; building their indexes ...");
    let settings = "SET maintenance_work_mem = '1GB'; SET max_parallel_maintenance_workers = 2";
    database.batch_execute(settings).await?;
    for statement in &create {
        database.batch_execute(statement).await?;
    }
    // Leaves nothing for the measurement to do that belongs to the filling. Each in its own call: several statements
    // in one text are one transaction, which VACUUM does not allow.
    for sql in ["VACUUM ANALYZE orders", "CHECKPOINT"] {
        database.batch_execute(sql).await?;
    }
    let last = "SELECT coalesce(max(seq), 0) FROM orders";
    storage.filled = database.query_one(last, &[]).await?.try_get(0)?;
    Ok(())
}
