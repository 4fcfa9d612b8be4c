//! What is kept per order, how large the component is, and how long it takes to answer for the first time.

use std::time::Instant;

use anyhow::{Context, Result};
use devstack::workspace;

use crate::Options;
use crate::contestants::Component;
use crate::goals::{Bound, Goal};
use crate::large::fill;
use crate::stage::{Place, Stage, order};
use crate::statistics::median;

/// How many starts the median is taken of.
const STARTS: usize = 7;

/// Orders enough that what tables and indexes hold in reserve no longer shows.
const ORDERS: u64 = 100_000;

/// The key whose record is weighed, as long as those that clients draw.
const KEY: &str = "9f4e1c52-7d0b-4a8e-9c36-51b2ad80e7f3";

/// All of them.
pub async fn goals(options: &Options, stage: &Stage) -> Result<Vec<Goal>> {
    let host = options.hosts.first().context("there is no host")?;
    // As long as the default prefix.
    let place = stage.place("orders").await?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let start = Instant::now();
        let app = stage.serve(host, Component::Ours, &place, &[])?;
        starts.push(start.elapsed().as_secs_f64() * 1000.0);
        if starts.len() == STARTS {
            order(&reqwest::Client::new(), &app.base_url(), KEY).await?;
        }
    }
    fill(&place, ORDERS).await?;
    let component = workspace::root().join("target/wasm32-wasip2/release/orders.wasm");
    let kilobytes = std::fs::metadata(component)?.len() as f64 / 1000.0;
    let at_most =
        |name, bound, unit, measured| Goal::new(name, Bound::AtMost(bound), unit, Some(measured));
    let (redis, postgres) = (
        bytes_in_redis(&place).await?,
        bytes_in_postgres(&place).await?,
    );
    Ok(vec![
        at_most("Redis, per key", 200.0, " B", redis),
        at_most(
            "Postgres, per order, with its indexes",
            600.0,
            " B",
            postgres,
        ),
        at_most("the component", 450.0, " KB", kilobytes),
        Goal::new(
            "start to first answer, compiled before",
            Bound::AtMost(150.0),
            " ms",
            median(starts),
        ),
    ])
}

async fn bytes_in_postgres(place: &Place) -> Result<f64> {
    let database = place.database().await?;
    let sql = "SELECT pg_total_relation_size('orders')::float8 / count(*) FROM orders";
    Ok(database.query_one(sql, &[]).await?.try_get(0)?)
}

async fn bytes_in_redis(place: &Place) -> Result<f64> {
    let client = redis::Client::open(place.redis_url.as_str())?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    let bytes: Option<u64> = redis::cmd("MEMORY")
        .arg("USAGE")
        .arg(format!("{}9:anonymous:{KEY}", place.prefix))
        .query_async(&mut redis)
        .await?;
    Ok(bytes.context("the key is not in Redis")? as f64)
}
