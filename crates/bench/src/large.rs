//! Whether creating stays as fast when there are millions of orders and keys already.

use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;

use crate::contestants::{CREATE, Component, ROWS};
use crate::goals::{Bound, Goal};
use crate::rounds::compare;
use crate::stage::{Entrant, Place, Stage};
use crate::statistics::median_ratio;
use crate::{GOAL_CONNECTIONS, Options};

/// How many are stored at a time.
const BATCH: u64 = 100_000;

/// Ids and keys spread as real ones are: ids by time, keys at random.
const FILL: &str = "INSERT INTO orders \
    SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '7' || substr(md5(n::text), 1, 3) \
            || '8' || substr(md5(n::text), 4, 15))::uuid, \
           'anonymous', md5('key ' || n)::uuid::text, sha256(n::text::bytea), 'EUR', \
           '[{\"sku\": \"A-1\", \"quantity\": 2, \"unitPrice\": 1250}]', NULL, 2500, \
           to_timestamp((1700000000000 + n) / 1000.0) \
    FROM generate_series($1::bigint, $2::bigint) AS n";

/// Makes keys inside Redis, records of 50 bytes as the component's are.
const FILL_REDIS: &str = "for n = tonumber(ARGV[2]), tonumber(ARGV[3]) do \
    redis.call('SET', ARGV[1] .. string.sub(redis.sha1hex(n), 1, 36), string.rep('r', 50), 'PX', 86400000) \
    end";

/// Median latency over full stores, against empty ones.
pub async fn goal(options: &Options, stage: &Stage) -> Result<Goal> {
    let ratio = match options.stored_orders {
        Some(orders) => ratio(options, stage, orders).await?,
        None => None,
    };
    let orders = options.stored_orders.unwrap_or(crate::STORED_ORDERS);
    Ok(Goal::new(
        &format!("create p50 with {orders} orders and keys, against none"),
        Bound::AtMost(1.2),
        "x",
        ratio,
    ))
}

async fn ratio(options: &Options, stage: &Stage, orders: u64) -> Result<Option<f64>> {
    // A Redis of its own: the other one is to stay empty.
    let full_redis = stage.another_redis(&options.programs, "full-redis")?;
    let mut full = stage.place("full").await?;
    full.redis_url = full_redis.url();
    let empty = stage.place("empty").await?;
    fill(&full, orders).await?;
    let full = entrant(options, stage, full).await?;
    let empty = entrant(options, stage, empty).await?;
    let [full, empty] = compare(options, stage, &[&full, &empty], GOAL_CONNECTIONS)
        .await?
        .try_into()
        .ok()
        .context("there are two")?;
    Ok(median_ratio(&full.p50s(), &empty.p50s()))
}

async fn entrant(options: &Options, stage: &Stage, place: Place) -> Result<Entrant> {
    let host = options.hosts.first().context("there is no host")?;
    let row = ROWS.into_iter().find(|row| row.name == CREATE);
    Ok(Entrant {
        row: row.context("there is such a row")?,
        host: Some(host.clone()),
        app: Some(stage.serve(host, Component::Ours, &place, &[])?),
        database: place.database().await?,
        place,
    })
}

/// Stores orders, and a key for each.
pub async fn fill(place: &Place, orders: u64) -> Result<()> {
    let database = place.database().await?;
    let redis = redis::Client::open(place.redis_url.as_str())?;
    let mut redis = redis.get_multiplexed_async_connection().await?;
    let mut stored = 0;
    while stored < orders {
        let last = orders.min(stored + BATCH);
        let numbers = (i64::try_from(stored + 1)?, i64::try_from(last)?);
        database.execute(FILL, &[&numbers.0, &numbers.1]).await?;
        fill_redis(&mut redis, &place.prefix, numbers).await?;
        stored = last;
        eprintln!("  stored {stored} of {orders} orders and keys");
    }
    // One by one: VACUUM cannot be part of a transaction, which several statements in one text are.
    for sql in ["VACUUM ANALYZE orders", "CHECKPOINT"] {
        database.batch_execute(sql).await?;
    }
    Ok(())
}

async fn fill_redis(
    redis: &mut MultiplexedConnection,
    prefix: &str,
    (first, last): (i64, i64),
) -> Result<()> {
    let () = redis::cmd("EVAL")
        .arg(FILL_REDIS)
        .arg(0)
        .arg(format!("{prefix}9:anonymous:"))
        .arg(first)
        .arg(last)
        .query_async(redis)
        .await?;
    Ok(())
}
