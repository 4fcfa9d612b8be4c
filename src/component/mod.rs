//! The component: takes a request from Spin, lets the core answer it, and hands the answer back. What
//! outlives a request lives in this instance's statics, which Spin keeps for up to 128 requests.

mod deadline;
mod ids;
mod postgres;
mod redis;
mod variables;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, Limited};
use spin_sdk::http::{FullBody, Request};
use spin_sdk::http_service;

use crate::http::{self as api, BodyError, MAX_BODY_BYTES, Operation, Problem, Route};
use crate::settings::Settings;
use ids::RandomIds;
use postgres::PostgresOrders;
use redis::RedisReservations;

/// How long a body may take to arrive. Spin itself waits for ever.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

#[http_service]
async fn handle(request: Request) -> http::Response<FullBody<Bytes>> {
    send(
        respond(request)
            .await
            .unwrap_or_else(Problem::into_response),
    )
}

async fn respond(request: Request) -> Result<api::Response, Problem> {
    let (head, body) = request.into_parts();
    match api::route(&head.method, head.uri.path())? {
        Route::Health => Ok(api::health()),
        Route::Readiness => {
            let settings = variables::settings().await?;
            let reservations = RedisReservations::for_request(&settings);
            let orders = PostgresOrders::for_request(&settings);
            let (redis, postgres) = futures::join!(reservations.probe(), orders.probe());
            Ok(api::ready(redis, postgres))
        }
        Route::Of(resource) => {
            let settings = variables::settings().await?;
            let customer = api::identify(&settings.identity, &head.headers, unix_seconds())?;
            let operation = resource.admit(customer, head.uri.query(), &head.headers)?;
            perform(operation, &head.headers, body, &settings).await
        }
    }
}

async fn perform<B>(
    operation: Operation,
    headers: &HeaderMap,
    body: B,
    settings: &Settings,
) -> Result<api::Response, Problem>
where
    B: BodyExt<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let reservations = || RedisReservations::for_request(settings);
    let orders = || PostgresOrders::for_request(settings);
    match operation {
        Operation::CreateOrder(slot) => {
            let body = read(body).await?;
            let key_reuse = settings.key_reuse;
            api::create(
                slot,
                &body,
                key_reuse,
                &reservations(),
                &orders(),
                &RandomIds,
            )
            .await
        }
        Operation::ListOrders(customer, page) => {
            api::list(&customer, page, headers, &orders()).await
        }
        Operation::ShowOrder(customer, id) => api::show(&customer, id, headers, &orders()).await,
        Operation::ShowKey(slot) => api::show_key(&slot, &reservations(), &orders()).await,
    }
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// Reads a body up to its limit and not one chunk further.
async fn read<B>(body: B) -> Result<Bytes, BodyError>
where
    B: BodyExt<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = Limited::new(body, MAX_BODY_BYTES);
    match deadline::within(BODY_DEADLINE, body.collect()).await {
        None => Err(BodyError::TimedOut),
        Some(Ok(collected)) => Ok(collected.to_bytes()),
        Some(Err(e)) if e.is::<http_body_util::LengthLimitError>() => Err(BodyError::TooLarge),
        Some(Err(_)) => Err(BodyError::Truncated),
    }
}

/// `Content-Length` is always set: without it the answer leaves in two segments, and a keep-alive client
/// waits 40 ms for the second one, because Spin does not set TCP_NODELAY. Except where there is nothing to
/// send: with 304 it would have to be that of the answer that is not repeated (RFC 9110 §8.6).
fn send(answer: api::Response) -> http::Response<FullBody<Bytes>> {
    let length = answer.body.len();
    let mut response = http::Response::new(FullBody::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    let fields = response.headers_mut();
    if answer.status != http::StatusCode::NOT_MODIFIED {
        fields.insert(http::header::CONTENT_LENGTH, length.into());
    }
    for (name, value) in answer.headers {
        // All values are ASCII of our own making; one that were not is better left out than a trap.
        if let Ok(value) = http::HeaderValue::from_str(&value) {
            fields.insert(name, value);
        }
    }
    response
}
