//! The component: takes a request from Spin, lets the core answer it, and hands the answer back. What
//! outlives a request lives in this instance's statics, which Spin keeps for up to 128 requests.

mod deadline;
mod exchange;
mod ids;
mod kept;
mod postgres;
mod redis;
mod signals;
mod variables;

use std::time::Duration;

use spin_sdk::wasip3::exports::http::handler::Guest;
use spin_sdk::wasip3::http::service;
use spin_sdk::wasip3::http::types::{ErrorCode, Request, Response};

use crate::http::{self as api, BodyError, Operation, Problem};
use deadline::{Budget, Timer};
use ids::RandomIds;
use postgres::PostgresOrders;
use redis::RedisReservations;

/// How long a body may take to arrive. Spin itself waits for ever.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Exported by hand: `#[http_service]` converts every request and answer, which takes a third more calls of
/// the host than [`exchange`] needs.
struct Component;

service::export!(Component);

impl Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let answer = respond(request).await;
        exchange::send(answer.unwrap_or_else(Problem::into_response))
    }
}

async fn respond(request: Request) -> Result<api::Response, Problem> {
    let timer = Timer::default();
    let head = exchange::head(&request);
    let path = head.target.split('?').next().unwrap_or_default();
    match api::admit(&head.method, path, &head.headers)? {
        Operation::CreateOrder(slot) => {
            let arrival = exchange::body(request, &head.headers);
            let body = timer.within(&Budget::of(BODY_DEADLINE), arrival).await;
            let body = body.unwrap_or(Err(BodyError::TimedOut))?;
            let settings = variables::settings().await?;
            api::create(
                slot,
                &body,
                settings.key_reuse,
                &RedisReservations::for_request(&settings, &timer),
                &PostgresOrders::for_creation(&settings, &timer),
                &RandomIds,
            )
            .await
        }
        Operation::ShowOrder(customer, id) => {
            let settings = variables::settings().await?;
            let orders = PostgresOrders::for_request(&settings, &timer);
            api::show(&customer, id, &orders).await
        }
        Operation::Health => Ok(api::health()),
        Operation::Readiness => {
            let settings = variables::settings().await?;
            let reservations = RedisReservations::for_request(&settings, &timer);
            let orders = PostgresOrders::for_request(&settings, &timer);
            let (redis, postgres) = futures::join!(reservations.probe(), orders.probe());
            Ok(api::ready(redis, postgres))
        }
    }
}
