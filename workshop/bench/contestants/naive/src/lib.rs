//! Creates orders in the style of the SDK's examples: opens both stores in every request, reads the key from Redis,
//! inserts, and writes the key. Two requests with one key can both insert.
#![cfg(target_arch = "wasm32")]

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use serde::Deserialize;
use spin_sdk::http::{FullBody, Request};
use spin_sdk::pg::ParameterValue;
use spin_sdk::{http_service, pg, redis, variables};
use uuid::Uuid;

type Response = http::Response<FullBody<Bytes>>;

#[derive(Deserialize)]
struct Order {
    currency: String,
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    quantity: i64,
    #[serde(rename = "unitPrice")]
    unit_price: i64,
}

const INSERT: &str = "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, document, \
                      created_at) \
                      VALUES ($1, 'anonymous', $2, '', $3::text::json, now())";

#[http_service]
async fn handle(request: Request) -> Result<Response> {
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        return answer(StatusCode::OK, "{}".to_owned());
    }
    let key = head.headers.get("idempotency-key").context("no key")?;
    let key = key.to_str()?;
    let body = body.collect().await?.to_bytes();
    let order: Order = serde_json::from_slice(&body)?;

    let redis = redis::Connection::open(variables::get("redis_url").await?).await?;
    let record = format!("{}{key}", variables::get("redis_key_prefix").await?);
    if let Some(known) = redis.get(&record).await? {
        return answer(StatusCode::CREATED, String::from_utf8(known)?);
    }

    let id = Uuid::new_v4().to_string();
    let document: serde_json::Value = serde_json::from_slice(&body)?;
    let items = document.get("items").context("no items")?;
    let total: i64 = order.items.iter().map(|i| i.quantity * i.unit_price).sum();
    let postgres = pg::Connection::open(variables::get("database_url").await?).await?;
    postgres
        .execute(
            INSERT,
            vec![
                ParameterValue::Uuid(id.clone()),
                ParameterValue::Str(key.to_owned()),
                ParameterValue::Str(document.to_string()),
            ],
        )
        .await?;

    let created = serde_json::json!({
        "orderId": id,
        "status": "accepted",
        "currency": order.currency,
        "items": items,
        "total": total,
    })
    .to_string();
    redis.set(&record, created.as_bytes()).await?;
    answer(StatusCode::CREATED, created)
}

fn answer(status: StatusCode, body: String) -> Result<Response> {
    Ok(http::Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_LENGTH, body.len())
        .body(FullBody::new(Bytes::from(body)))?)
}
