//! Measures whether creation becomes slower when millions of orders and keys are stored.

use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;
use tokio_postgres::Client;

use crate::contestants::{CREATE, row_named};
use crate::environment::{Environment, PreparedRow, Storage};
use crate::generator::Requests;
use crate::options::{GOAL_CONNECTIONS, Options};
use crate::rounds::compare;
use crate::statistics::median_ratio;

/// The number of orders that one statement stores.
const BATCH: u64 = 100_000;

/// How many connections store orders at the same time.
const FILLERS: i64 = 2;

/// Stores orders whose ids ascend with time and whose keys are random, as real ones are.
const FILL: &str = "INSERT INTO orders \
        (order_id, customer_id, idempotency_key, fingerprint, document, created_at) \
    SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '7' || substr(md5(n::text), 1, 3) \
            || '8' || substr(md5(n::text), 4, 15))::uuid, \
           CASE WHEN $3::int = 0 THEN 'anonymous' ELSE 'customer-' || n % $3 END, md5('key ' || n)::uuid::text, sha256(n::text::bytea), \
           '{\"currency\":\"EUR\",\"items\":[{\"quantity\":2,\"sku\":\"A-1\",\"unitPrice\":1250}],\"note\":null}', \
           to_timestamp((1700000000000 + n) / 1000.0) \
    FROM generate_series($1::bigint, $2::bigint) AS n";

/// Stores keys with values of 50 bytes, the length of the component's records.
const FILL_REDIS: &str = "for n = tonumber(ARGV[2]), tonumber(ARGV[3]) do \
    redis.call('SET', ARGV[1] .. string.sub(redis.sha1hex(n), 1, 36), string.rep('r', 50), 'PX', 86400000) \
    end";

/// The median latency of creation with stored orders divided by the one with empty stores; `None` if the run
/// leaves it out.
pub async fn slowdown(options: &Options, environment: &Environment) -> Result<Option<f64>> {
    let Some(orders) = options.stored_orders else {
        return Ok(None);
    };
    // The stored keys are in their own Redis, so that the shared one stays empty.
    let full_redis = environment.another_redis(&options.programs, "full-redis")?;
    let mut full = environment.storage("full").await?;
    full.redis_url = full_redis.url();
    let empty = environment.storage("empty").await?;
    fill(&full, orders).await?;
    let full = prepare(options, environment, full).await?;
    let empty = prepare(options, environment, empty).await?;
    let rows = [&full, &empty];
    let [full, empty] = compare(options, environment, &rows, GOAL_CONNECTIONS)
        .await?
        .try_into()
        .ok()
        .context("two rows were measured")?;
    Ok(median_ratio(&full.p50s(), &empty.p50s()))
}

async fn prepare(
    options: &Options,
    environment: &Environment,
    storage: Storage,
) -> Result<PreparedRow> {
    let host = options.hosts.first().context("there is no host")?;
    let row = row_named(CREATE).context("there is no such row")?;
    environment
        .prepare_ours(host, row, storage, Requests::default())
        .await
}

/// Removes and returns what is built faster from all orders at once: each statement creates an index or a constraint.
const REMOVE_INDEXES: &str = "\
    SELECT format('ALTER TABLE orders ADD CONSTRAINT %I %s', conname, pg_get_constraintdef(oid)), \
           format('ALTER TABLE orders DROP CONSTRAINT %I', conname) \
    FROM pg_constraint WHERE conrelid = 'orders'::regclass AND contype IN ('p', 'u') \
    UNION ALL \
    SELECT replace(indexdef, ' ON ONLY ', ' ON '), format('DROP INDEX %I', indexname) \
    FROM pg_indexes WHERE tablename = 'orders' \
        AND indexname NOT IN (SELECT conname FROM pg_constraint WHERE conrelid = 'orders'::regclass)";

/// Stores orders of that many customers (0: of the anonymous one), without keys in Redis, and builds the indexes afterwards: an index
/// that grows with each order takes ten times as long.
pub async fn fill_in_bulk(storage: &mut Storage, orders: u64, customers: u32) -> Result<()> {
    let database = storage.database().await?;
    let mut create = Vec::new();
    for row in database.query(REMOVE_INDEXES, &[]).await? {
        create.push(row.try_get::<_, String>(0)?);
        let drop: String = row.try_get(1)?;
        database.batch_execute(&drop).await?;
    }
    let (orders, batch) = (i64::try_from(orders)?, i64::try_from(BATCH)?);
    let customers = i32::try_from(customers)?;
    let mut fillers = tokio::task::JoinSet::new();
    for filler in 0..FILLERS {
        let database = storage.database().await?;
        fillers.spawn(async move {
            let mut first = filler * batch + 1;
            while first <= orders {
                let last = orders.min(first + batch - 1);
                database.execute(FILL, &[&first, &last, &customers]).await?;
                first += FILLERS * batch;
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
    tidy(&database).await?;
    let last = database
        .query_one("SELECT max(seq) FROM orders", &[])
        .await?;
    storage.filled = last.try_get::<_, Option<i64>>(0)?.unwrap_or(0);
    Ok(())
}

/// Stores orders, and a key for each.
pub async fn fill(storage: &Storage, orders: u64) -> Result<()> {
    let database = storage.database().await?;
    let redis = redis::Client::open(storage.redis_url.as_str())?;
    let mut redis = redis.get_multiplexed_async_connection().await?;
    let mut stored = 0;
    while stored < orders {
        let last = orders.min(stored + BATCH);
        let numbers = (i64::try_from(stored + 1)?, i64::try_from(last)?);
        database
            .execute(FILL, &[&numbers.0, &numbers.1, &0_i32])
            .await?;
        fill_redis(&mut redis, &storage.record_name(""), numbers).await?;
        stored = last;
        eprintln!("  stored {stored} of {orders} orders and keys");
    }
    tidy(&database).await
}

/// Leaves nothing for the measurement to do that belongs to the filling.
async fn tidy(database: &Client) -> Result<()> {
    // Each in its own call: several statements in one text are one transaction, which VACUUM does not allow.
    for sql in ["VACUUM ANALYZE orders", "CHECKPOINT"] {
        database.batch_execute(sql).await?;
    }
    Ok(())
}

async fn fill_redis(
    redis: &mut MultiplexedConnection,
    name: &str,
    (first, last): (i64, i64),
) -> Result<()> {
    let () = redis::cmd("EVAL")
        .arg(FILL_REDIS)
        .arg(0)
        .arg(name)
        .arg(first)
        .arg(last)
        .query_async(redis)
        .await?;
    Ok(())
}
