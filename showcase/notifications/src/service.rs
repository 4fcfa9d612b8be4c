//! The routes of notifications: the puller delivers outcomes with the operator's token; customers read, as the gateway
//! names them.

use cloudevents::{Refusal, handshake, read_event};
use exactly_once_http::identity::Identity;
use exactly_once_http::{
    Body, Head, Host, LostStore, Method, PageRequest, Problem, Response, admit, create, health, identify, list,
    readiness,
};
use exactly_once_spin::SpinHost;

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
        (Method::Get | Method::Head, "/readyz") => {
            let (redis, postgres) = host.probe_both(&settings).await;
            Ok(readiness(redis, postgres, LostStore::Unready))
        }
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
            let gateway = Identity::Header("x-user-id".to_owned());
            let customer = identify(&gateway, head, || host.unix_seconds())?;
            let page = PageRequest::parse(query).map_err(Problem::Query)?;
            list(&NOTIFICATIONS, &customer, page, head, &postgres).await
        }
        (_, path) if path == COLLECTION.path => Err(Problem::MethodNotAllowed { allow: "GET, HEAD, POST" }),
        _ => Err(Problem::UnknownPath),
    }
}

exactly_once_spin::component!(COLLECTION, respond);
