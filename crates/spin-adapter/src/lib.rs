//! The component: takes a request from Spin, lets the core answer it, and hands the answer back. What
//! outlives a request lives in this instance's statics, which Spin keeps for up to 128 requests.

mod deadline;
mod exchange;
mod ids;
mod kept;
mod locks;
mod postgres;
mod redis;
mod signals;
mod variables;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use spin_sdk::wasip3::exports::http::handler::Guest;
use spin_sdk::wasip3::http::service;
use spin_sdk::wasip3::http::types::{ErrorCode, Request, Response};

use crate::http::{self as api, BodyError, Operation, Problem, Route};
use crate::settings::Settings;
use deadline::{Budget, Timer};
use exchange::Head;
use ids::RandomIds;
use postgres::PostgresResources;
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
    let target = exchange::target(&request);
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*target, None),
    };
    match api::route(exchange::method(&request), path)? {
        Route::Health => Ok(api::health()),
        Route::Readiness => {
            let settings = variables::settings().await?;
            let reservations = RedisReservations::for_request(&settings, &timer);
            let orders = PostgresResources::for_request(&settings, &timer);
            let (redis, postgres) = futures::join!(reservations.probe(), orders.probe());
            Ok(api::ready(redis, postgres))
        }
        Route::Of(resource) => {
            let settings = variables::settings().await?;
            let head = Head::of(&request);
            let customer = api::identify(&settings.identity, &head, unix_seconds)?;
            let operation = resource.admit(customer, query, &head, settings.precondition)?;
            perform(operation, &head, request, &settings, &timer).await
        }
    }
}

async fn perform(
    operation: Operation,
    head: &Head,
    request: Request,
    settings: &Settings,
    timer: &Timer,
) -> Result<api::Response, Problem> {
    let reservations = || RedisReservations::for_request(settings, timer);
    let orders = || PostgresResources::for_request(settings, timer);
    match operation {
        Operation::CreateRequest(scope) => {
            let body = body(request, head, timer).await?;
            api::create(
                scope,
                &body,
                settings.key_reuse,
                &reservations(),
                &PostgresResources::for_creation(settings, timer),
                &RandomIds,
            )
            .await
        }
        Operation::CreateConditionally(conditional) => {
            let body = body(request, head, timer).await?;
            let key_reuse = settings.key_reuse;
            api::create_conditionally(
                conditional,
                &body,
                key_reuse,
                &reservations(),
                &orders(),
                &RandomIds,
            )
            .await
        }
        Operation::ListOrders(customer, page) => api::list(&customer, page, head, &orders()).await,
        Operation::ShowOrder(customer, id) => api::show(&customer, id, head, &orders()).await,
        Operation::ShowKey(scope) => api::show_key(&scope, &reservations(), &orders()).await,
    }
}

async fn body(request: Request, head: &Head, timer: &Timer) -> Result<Vec<u8>, BodyError> {
    let arrival = exchange::body(request, head);
    let body = timer.within(&Budget::of(BODY_DEADLINE), arrival).await;
    body.unwrap_or(Err(BodyError::TimedOut))
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
