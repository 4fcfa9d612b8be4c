//! The component: takes a request from Spin, lets the core answer it, and hands the answer back. What
//! outlives a request lives in this instance's statics, which Spin keeps for up to 128 requests.

mod deadline;
mod ids;
mod postgres;
mod redis;
mod variables;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use spin_sdk::http::{FullBody, Request};
use spin_sdk::http_service;

use crate::http::{self as api, BodyError, MAX_BODY_BYTES, Operation, Problem};
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
    match api::admit(&head.method, head.uri.path(), &head.headers)? {
        Operation::CreateOrder(slot) => {
            let body = read(body).await?;
            let settings = variables::settings().await?;
            let reservations = RedisReservations::for_request(&settings);
            let orders = PostgresOrders::for_request(&settings);
            api::create(
                slot,
                &body,
                settings.key_reuse,
                &reservations,
                &orders,
                &RandomIds,
            )
            .await
        }
        Operation::ShowOrder(customer, id) => {
            let settings = variables::settings().await?;
            api::show(&customer, id, &PostgresOrders::for_request(&settings)).await
        }
        Operation::Health => Ok(api::health()),
        Operation::Readiness => {
            let settings = variables::settings().await?;
            let reservations = RedisReservations::for_request(&settings);
            let orders = PostgresOrders::for_request(&settings);
            let (redis, postgres) = futures::join!(reservations.probe(), orders.probe());
            Ok(api::ready(redis, postgres))
        }
    }
}

/// Reads a body up to its limit and not one chunk further.
async fn read<B>(body: B) -> Result<Bytes, BodyError>
where
    B: http_body_util::BodyExt<Data = Bytes>,
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
/// waits 40 ms for the second one, because Spin does not set TCP_NODELAY.
fn send(answer: api::Response) -> http::Response<FullBody<Bytes>> {
    let length = answer.body.len();
    let mut response = http::Response::new(FullBody::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    let fields = response.headers_mut();
    fields.insert(http::header::CONTENT_LENGTH, length.into());
    for (name, value) in answer.headers {
        // All values are ASCII of our own making; one that were not is better left out than a trap.
        if let Ok(value) = http::HeaderValue::from_str(&value) {
            fields.insert(name, value);
        }
    }
    response
}
