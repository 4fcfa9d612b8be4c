//! Measures whether creation becomes slower when millions of orders and keys are stored.

use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;

use crate::contestants::{CREATE, Component, row_named};
use crate::environment::{Environment, PreparedRow, Storage};
use crate::options::{GOAL_CONNECTIONS, Options};
use crate::rounds::compare;
use crate::statistics::median_ratio;

/// The number of orders that one statement stores.
const BATCH: u64 = 100_000;

/// Stores orders whose ids ascend with time and whose keys are random, as real ones are.
const FILL: &str = "INSERT INTO orders \
        (order_id, customer_id, idempotency_key, fingerprint, document, created_at) \
    SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '7' || substr(md5(n::text), 1, 3) \
            || '8' || substr(md5(n::text), 4, 15))::uuid, \
           'anonymous', md5('key ' || n)::uuid::text, sha256(n::text::bytea), \
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
    Ok(PreparedRow {
        row: row_named(CREATE).context("there is no such row")?,
        host: Some(host.clone()),
        app: Some(environment.serve(host, Component::Ours, &storage)?),
        database: storage.database().await?,
        storage,
    })
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
        database.execute(FILL, &[&numbers.0, &numbers.1]).await?;
        fill_redis(&mut redis, &storage.record_name(""), numbers).await?;
        stored = last;
        eprintln!("  stored {stored} of {orders} orders and keys");
    }
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
