//! The routes of notifications: the puller delivers outcomes with the operator's token; customers read theirs.

use cloudevents::{Refusal, handshake, read_event};
use exactly_once::ports::ResourceLists;
use exactly_once_http::{
    Body, Head, Host, Method, Problem, QueryError, Response, admit, chosen, create, following, health, identify,
    page_request, readiness, represent,
};
use exactly_once_spin::SpinHost;
use http::{StatusCode, header};

use crate::{COLLECTION, NOTIFICATIONS, notification_of};

/// Answers a request.
async fn respond(head: &impl Head, body: impl Body, host: &SpinHost) -> Response {
    let answer = answer(head, body, host).await;
    answer.unwrap_or_else(|problem| problem.into_response(&COLLECTION))
}

async fn answer(head: &impl Head, body: impl Body, host: &SpinHost) -> Result<Response, Problem> {
    let target = head.target();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let settings = host.settings().await?;
    let (redis, postgres) = (host.redis(&settings), host.postgres(&settings));
    match (head.method(), path) {
        (Method::Get | Method::Head, "/healthz") => Ok(health()),
        (Method::Options, path) if path == COLLECTION.path => {
            handshake(head).ok_or(Problem::MethodNotAllowed { allow: "GET, HEAD, POST" })
        }
        (Method::Get | Method::Head, "/readyz") => Ok(readiness(query, host, &settings).await),
        (Method::Post, path) if path == COLLECTION.path => {
            admit(&host.variable("operator_token").await?, head)?;
            let event = read_event(head, body).await?;
            let notification = event.map_err(Refusal::NotAnEvent).and_then(|event| notification_of(&event));
            let (scope, notification) = match notification {
                Ok(notification) => notification,
                Err(refusal) => return Ok(refusal.into_response(&COLLECTION)),
            };
            let policy = settings.replay_policy;
            let (document, ids) = (&notification, host.ids());
            match create(&NOTIFICATIONS, scope, document, policy, &redis, &postgres, ids).await {
                Err(Problem::KeyReused { .. }) => Ok(Refusal::Contradiction.into_response(&COLLECTION)),
                created => created,
            }
        }
        (Method::Get | Method::Head, path) if path == COLLECTION.path => {
            let customer = identify(chosen(&settings)?, head, host).await?;
            let request = page_request(query).map_err(Problem::Query)?;
            let page = postgres.page(&customer, request).await?;
            let page = page.ok_or(Problem::Query(QueryError::Cursor))?;
            let all: Vec<_> = page.resources.iter().filter_map(|stored| represent(&NOTIFICATIONS, stored)).collect();
            let response = Response::json(StatusCode::OK, format!("[{}]", all.join(",")));
            let response = response.with(header::CACHE_CONTROL.as_str(), "no-store");
            Ok(match page.resources.last().filter(|_| page.more) {
                Some(last) => {
                    let next = format!("<{path}?{}>; rel=\"next\"", following(&request, last.id));
                    response.with(header::LINK.as_str(), next)
                }
                None => response,
            })
        }
        (_, path) if path == COLLECTION.path => Err(Problem::MethodNotAllowed { allow: "GET, HEAD, POST" }),
        _ => Err(Problem::UnknownPath),
    }
}

exactly_once_spin::component!(COLLECTION, respond);
