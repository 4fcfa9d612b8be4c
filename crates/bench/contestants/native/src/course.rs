//! The two protocols that ours descends from, natively and as well as they can be written. Neither creates
//! exactly once: of two requests with one key, both can miss it; a lock can expire under its holder.

use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use orders::http::Problem;
use orders::idempotency::{Fingerprint, KeyScope};
use orders::order::{Draft, representation};
use orders::ports::{NewResource, ResourceIds};
use orders::stores::postgres::{Statement, insert};
use redis::AsyncCommands;
use uuid::Uuid;

use crate::server::{receive, send};
use crate::stores::{RandomIds, Stores};

const INSERT: &str = "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, currency, \
                      items, note, total, created_at) \
                      VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8, \
                              to_timestamp($9::bigint / 1000.0))";

const COUNT: &str = "SELECT count(*) FROM orders";

/// What remembers a key, and what a lock lives at most, in seconds.
const TTL: u64 = 86_400;
const LOCK_SECONDS: u64 = 10;

/// How long to wait before asking for a lock again.
const LOCK_RETRY: Duration = Duration::from_millis(1);

/// Unlocks unless the lock has passed to somebody else.
const UNLOCK: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end";

/// GET the key, INSERT the order, SET the key.
pub fn get_set(stores: Stores) -> Router {
    let handler = async |State(stores): State<Stores>, request: Request| {
        let order = match order(request).await {
            Ok(order) => order,
            Err(problem) => return send(problem.into_response()),
        };
        answer(create_get_set(&stores, order).await)
    };
    Router::new()
        .route("/api/v1/orders", post(handler))
        .with_state(stores)
}

/// Take an exclusive lock, count the orders (their ETag), INSERT, unlock.
pub fn lock(stores: Stores) -> Router {
    let handler = async |State(stores): State<Stores>, request: Request| {
        let order = match order(request).await {
            Ok(order) => order,
            Err(problem) => return send(problem.into_response()),
        };
        answer(create_locked(&stores, order).await)
    };
    Router::new()
        .route("/api/v1/orders", post(handler))
        .with_state(stores)
}

async fn order(request: Request) -> Result<NewResource, Problem> {
    let (scope, body) = receive(request).await?;
    let document = orders::json::parse(&body).map_err(Problem::NotJson)?;
    let draft = Draft::from_json(&document).map_err(Problem::InvalidOrder)?;
    Ok(NewResource {
        order_id: RandomIds.draw(),
        fingerprint: Fingerprint::of(&scope, "", "", ""),
        scope,
        draft,
    })
}

fn answer(created: Result<String>) -> Response {
    match created {
        Ok(body) => (StatusCode::CREATED, body).into_response(),
        Err(error) => {
            eprintln!("native: {error:#}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn key(stores: &Stores, scope: &KeyScope) -> String {
    format!("{}{}", stores.prefix, scope.key.as_str())
}

async fn insert_plainly(stores: &Stores, order: &NewResource) -> Result<()> {
    let statement = Statement {
        sql: INSERT,
        ..insert(order)
    };
    stores.first_row(statement).await?;
    Ok(())
}

async fn create_get_set(stores: &Stores, order: NewResource) -> Result<String> {
    let key = key(stores, &order.scope);
    let mut redis = stores.redis.clone();
    if let Some(known) = redis.get(&key).await? {
        return Ok(known);
    }
    insert_plainly(stores, &order).await?;
    let created = representation(&order.order_id, &order.draft);
    let () = redis.set_ex(&key, &created, TTL).await?;
    Ok(created)
}

async fn create_locked(stores: &Stores, order: NewResource) -> Result<String> {
    let lock = format!("{}lock", stores.prefix);
    let holder = Uuid::new_v4().to_string();
    while !take(stores, &lock, &holder).await? {
        tokio::time::sleep(LOCK_RETRY).await;
    }
    let created = insert_counted(stores, &order).await;
    let () = redis::Script::new(UNLOCK)
        .key(&lock)
        .arg(&holder)
        .invoke_async(&mut stores.redis.clone())
        .await?;
    created
}

async fn insert_counted(stores: &Stores, order: &NewResource) -> Result<String> {
    let count = Statement {
        sql: COUNT,
        parameters: Vec::new(),
    };
    let row = stores.first_row(count).await?;
    let etag: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
    insert_plainly(stores, order).await?;
    let created = representation(&order.order_id, &order.draft);
    Ok(format!("\"{etag}\" {created}"))
}

async fn take(stores: &Stores, lock: &str, holder: &str) -> Result<bool> {
    let taken: Option<String> = redis::cmd("SET")
        .arg(lock)
        .arg(holder)
        .arg("NX")
        .arg("EX")
        .arg(LOCK_SECONDS)
        .query_async(&mut stores.redis.clone())
        .await?;
    Ok(taken.is_some())
}
