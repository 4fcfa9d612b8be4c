//! The baselines: the two protocols that ours is based on, natively and as well as they can be written. Neither creates
//! exactly once: two requests with one key can both miss it, and a lock can expire while its holder still works.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use exactly_once::condition::Precondition;
use exactly_once::ports::{NewResource, ResourceIds};
use exactly_once::{Customer, Document, Fingerprint, KeyScope};
use exactly_once_http::{self as api, CreateOperation, Problem, read_document, read_head};
use exactly_once_stores::sql::{Statement, row_parameters};
use native_stores::RandomIds;
use orders::ORDERS;
use redis::AsyncCommands;
use serde_json::Value;
use uuid::Uuid;

use crate::server::{receive, send};
use crate::stores::Stores;

const INSERT: &str = "\
    INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, document, created_at) \
    VALUES ($1::text::uuid, $2, $3, $4, $5::text::json, to_timestamp($6::bigint / 1000.0))";

const COUNT: &str = "SELECT count(*) FROM orders";

/// How long Redis keeps a key, and the longest time that a lock is held, in seconds.
const TTL: u64 = 86_400;
const LOCK_SECONDS: u64 = 10;

/// How long to wait before trying to take a lock again.
const LOCK_RETRY: Duration = Duration::from_millis(1);

/// Releases the lock unless another request holds it by now.
const UNLOCK: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end";

/// Which baseline.
#[derive(Clone, Copy)]
pub enum Baseline {
    /// GET the key, INSERT the order, SET the key.
    GetSet,
    /// Take an exclusive lock, count the orders (their ETag), INSERT, unlock.
    Lock,
}

/// Serves the creation of orders by a baseline.
pub fn router(baseline: Baseline, stores: Stores) -> Router {
    let create = async move |State(stores): State<Arc<Stores>>, request: Request| {
        let (new, order) = match read(request).await {
            Ok(read) => read,
            Err(problem) => return send(problem.into_response(&ORDERS.collection)),
        };
        answer(match baseline {
            Baseline::GetSet => create_get_set(&stores, &new, &order).await,
            Baseline::Lock => create_locked(&stores, &new, &order).await,
        })
    };
    Router::new()
        .route(ORDERS.collection.path, post(create))
        .route("/healthz", get(async || send(api::health())))
        .with_state(Arc::new(stores))
}

/// Judges a request for a new order and reads its body, as the component does.
async fn read(request: Request) -> Result<(NewResource, Value), Problem> {
    let (head, body) = receive(request);
    let scope = match read_head(
        &ORDERS.collection,
        Customer::anonymous(),
        &head,
        Precondition::Key,
    )? {
        CreateOperation::Unconditional(scope) => scope,
        // The baselines know no conditions.
        CreateOperation::Conditional(_) | CreateOperation::WithoutCondition(_) => {
            return Err(Problem::UnknownPath);
        }
    };
    let order = read_document(&ORDERS, &head, body).await?;
    let document = Document::of(&order);
    let new = NewResource {
        id: RandomIds.draw(),
        fingerprint: Fingerprint::of(&scope, "POST", ORDERS.collection.path, &document),
        scope,
        document,
    };
    Ok((new, order))
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

async fn insert(stores: &Stores, new: &NewResource) -> Result<()> {
    let statement = Statement {
        sql: INSERT,
        parameters: row_parameters(new),
    };
    stores.inserted(statement).await?;
    Ok(())
}

fn represent(new: &NewResource, order: &Value) -> Result<String> {
    ORDERS
        .represent(new.id, order)
        .context("the order has no representation")
}

async fn create_get_set(stores: &Stores, new: &NewResource, order: &Value) -> Result<String> {
    let key = key(stores, &new.scope);
    let mut redis = stores.redis.clone();
    if let Some(known) = redis.get(&key).await? {
        return Ok(known);
    }
    insert(stores, new).await?;
    let created = represent(new, order)?;
    let () = redis.set_ex(&key, &created, TTL).await?;
    Ok(created)
}

async fn create_locked(stores: &Stores, new: &NewResource, order: &Value) -> Result<String> {
    let lock = format!("{}lock", stores.prefix);
    let holder = Uuid::new_v4().to_string();
    while !take(stores, &lock, &holder).await? {
        tokio::time::sleep(LOCK_RETRY).await;
    }
    let created = insert_counted(stores, new, order).await;
    let () = redis::Script::new(UNLOCK)
        .key(&lock)
        .arg(&holder)
        .invoke_async(&mut stores.redis.clone())
        .await?;
    created
}

async fn insert_counted(stores: &Stores, new: &NewResource, order: &Value) -> Result<String> {
    let connection = stores.connection().await?;
    let count = connection.prepare_cached(COUNT).await?;
    let row = connection.query_opt(&count, &[]).await?;
    let etag: i64 = row.context("count(*) returned no row")?.try_get(0)?;
    // The insertion takes a connection of its own.
    drop(connection);
    insert(stores, new).await?;
    Ok(format!("\"{etag}\" {}", represent(new, order)?))
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
