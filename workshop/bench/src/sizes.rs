//! Measures the stored size of a key and an order, the size of the component, and the time from the host's
//! start to the first response.

use std::time::Instant;

use anyhow::{Context, Result};
use devstack::workspace;

use crate::contestants::Component;
use crate::environment::{Environment, Storage, order};
use crate::figures::Sizes;
use crate::generator::Requests;
use crate::options::Options;
use crate::statistics::median;
use crate::stored_orders::fill;

/// The number of starts that the start time is the median of.
const STARTS: usize = 7;

/// Enough orders that the free space in tables and indexes does not matter.
const ORDERS: u64 = 100_000;

/// The key whose size in Redis is measured; as long as the keys that clients draw.
const KEY: &str = "9f4e1c52-7d0b-4a8e-9c36-51b2ad80e7f3";

/// Measures all sizes and the start time, on the first host.
pub async fn measure(options: &Options, environment: &Environment) -> Result<Sizes> {
    let host = options.hosts.first().context("there is no host")?;
    let mut storage = environment.storage("sizes").await?;
    // The default.
    storage.prefix.clear();
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let start = Instant::now();
        let app = environment.serve(host, Component::Ours, &storage)?;
        starts.push(start.elapsed().as_secs_f64() * 1000.0);
        if starts.len() == STARTS {
            let (client, requests) = (reqwest::Client::new(), Requests::default());
            order(&client, &app.base_url(), KEY, &requests).await?;
        }
    }
    fill(&storage, ORDERS).await?;
    let component = workspace::root().join("target/wasm32-wasip2/release/orders.wasm");
    Ok(Sizes {
        redis_bytes: bytes_in_redis(&storage).await?,
        postgres_bytes: bytes_in_postgres(&storage).await?,
        component_kilobytes: std::fs::metadata(component)?.len() as f64 / 1000.0,
        start_ms: median(starts),
    })
}

async fn bytes_in_postgres(storage: &Storage) -> Result<f64> {
    let database = storage.database().await?;
    let sql = "SELECT pg_total_relation_size('orders')::float8 / count(*) FROM orders";
    Ok(database.query_one(sql, &[]).await?.try_get(0)?)
}

async fn bytes_in_redis(storage: &Storage) -> Result<f64> {
    let client = redis::Client::open(storage.redis_url.as_str())?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    let bytes: Option<u64> = redis::cmd("MEMORY")
        .arg("USAGE")
        .arg(storage.record_name(KEY))
        .query_async(&mut redis)
        .await?;
    Ok(bytes.context("the key is not in Redis")? as f64)
}
