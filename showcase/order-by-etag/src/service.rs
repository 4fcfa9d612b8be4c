//! The routes: an order is created only on the state of the list that the client has read, or, where the variable
//! `if_match` says so, without it. A gateway in front names the customer, or a token does.

use std::slice;

use exactly_once::condition::Expected;
use exactly_once::create::conditional::create_conditionally;
use exactly_once::create::{CreateRequest, KeyReuse, ReplayPolicy, create};
use exactly_once::error::CreateError;
use exactly_once::key::KeyError;
use exactly_once::ports::{PageRequest, ResourceIds, ResourceLists, StoredResource};
use exactly_once::{Document, IdempotencyKey, KeyScope, ResourceId};
use exactly_once_http::identity::Identity;
use exactly_once_http::{
    Body, ETag, Head, Host, Method, Problem, Response, chosen, events, health, identify, read_condition, read_document,
    read_key, readiness,
};
use exactly_once_spin::{Database, SpinHost};
use exactly_once_stores::sql::{Parameter, Statement};
use http::{StatusCode, header};
use serde_json::{Map, Value};

use crate::{COLLECTION, ORDERS, Payment, shown};

/// How many orders a list has at most: the newest ones.
const MAX_LISTED: usize = 10_000;

/// Answers a request.
async fn respond(head: &impl Head, body: impl Body, host: &SpinHost) -> Response {
    let answer = answer(head, body, host).await;
    answer.unwrap_or_else(|problem| problem.into_response(&COLLECTION))
}

async fn answer(head: &impl Head, body: impl Body, host: &SpinHost) -> Result<Response, Problem> {
    let target = head.target();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let settings = host.settings().await?;
    let postgres = host.postgres(&settings);
    let customer = async || {
        let identity = chosen(&settings)?;
        identify(identity, head, host).await.map_err(|problem| match identity {
            Identity::Header(_) => Problem::Forbidden,
            _ => problem,
        })
    };
    let id = || {
        let segment = path.strip_prefix(COLLECTION.path)?;
        ResourceId::parse(segment.strip_prefix('/')?)
    };
    match (head.method(), path) {
        (Method::Get | Method::Head, "/healthz") => Ok(health()),
        (Method::Get | Method::Head, "/readyz") => Ok(readiness(query, host, &settings).await),
        (Method::Get | Method::Head, "/api/v1/ordering/events") => events(&ORDERS, query, head, host, &settings).await,
        (Method::Post, path) if path == COLLECTION.path => {
            let customer = customer().await?;
            let expected = match read_condition(head)? {
                None if host.variable("if_match").await? != "optional" => return Err(Problem::PreconditionRequired),
                expected => expected,
            };
            let order = read_document(&ORDERS, head, body).await?;
            // A key is respected: with one, a retry gets its order.
            let (key, keyless) = match read_key(head) {
                // Every state meets "*": each retry would be another order.
                Err(Problem::Key(KeyError::Missing)) if expected == Some(Expected::Any) => {
                    return Err(Problem::PreconditionRequired);
                }
                Err(Problem::Key(KeyError::Missing)) => (IdempotencyKey::substitute(host.ids().draw()), true),
                key => (key?, false),
            };
            let collection = COLLECTION.name;
            let scope = KeyScope { collection, customer, key };
            let (request, redis) =
                (CreateRequest::new(scope, &COLLECTION, Document::of(&order)), host.redis(&settings));
            let policy = ReplayPolicy { key_reuse: KeyReuse::Reject, ..settings.replay_policy };
            let ids = host.ids();
            let created = match &expected {
                Some(expected) => create_conditionally(request, expected, policy, &redis, &redis, &postgres, ids).await,
                None => create(request, policy, &redis, &postgres, ids).await.map(|creation| (creation, None)),
            };
            let (creation, state) = created.map_err(|error| match error {
                CreateError::Unavailable if keyless => Problem::UndecidedWithoutKey,
                error => error.into(),
            })?;
            let body = shown(creation.id(), &order, None).ok_or(Problem::Unreadable)?;
            let response = Response::json(StatusCode::ACCEPTED, body);
            Ok(match state {
                Some(state) => tagged(response, &ETag::of_state(&state)),
                None => response,
            })
        }
        (Method::Get | Method::Head, path) if path == COLLECTION.path => {
            let page = postgres.page(&customer().await?, PageRequest::newest(MAX_LISTED)).await?;
            let page = page.ok_or(Problem::DatabaseUnavailable)?;
            let payments = Payments::of(&page.resources, host, &postgres).await?;
            let orders = page.resources.iter().rev();
            let orders: Vec<String> = orders.filter_map(|stored| payments.show(stored)).collect();
            let response = Response::json(StatusCode::OK, format!("[{}]", orders.join(",")));
            Ok(tagged(response, &ETag::of_state(&page.state)))
        }
        (Method::Get | Method::Head, _) => {
            let (customer, id) = (customer().await?, id().ok_or(Problem::UnknownPath)?);
            let stored = postgres.find(&customer, id).await?;
            let stored = stored.ok_or(Problem::NotFound)?;
            let payments = Payments::of(slice::from_ref(&stored), host, &postgres).await?;
            let order = payments.show(&stored).ok_or(Problem::Unreadable)?;
            Ok(Response::json(StatusCode::OK, order))
        }
        (_, path) if path == COLLECTION.path => Err(Problem::MethodNotAllowed { allow: "GET, HEAD, POST" }),
        _ => Err(Problem::MethodNotAllowed { allow: "GET, HEAD" }),
    }
}

fn tagged(response: Response, etag: &ETag) -> Response {
    response.with(header::ETAG.as_str(), etag.to_string())
}

/// The payments of some orders, by the orders' ids.
struct Payments(Map<String, Value>);

impl Payments {
    /// Reads them where payments are in the same database, which the variable `payments` says. Orders stay pending
    /// where they are not.
    async fn of(orders: &[StoredResource], host: &SpinHost, postgres: &Database<'_>) -> Result<Self, Problem> {
        if host.variable("payments").await? != "true" || orders.is_empty() {
            return Ok(Self(Map::new()));
        }
        let ids: Vec<String> = orders.iter().map(|order| order.id.to_string()).collect();
        let rows = postgres
            .rows(Statement {
                sql: "SELECT json_object_agg(order_id, json_build_object( \
                          'succeeded', refusal IS NULL, \
                          'decidedAt', to_char(decided_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') \
                      ))::text AS payments \
                      FROM payments WHERE order_id = ANY ($1::text::uuid[])",
                parameters: vec![Parameter::Text(format!("{{{}}}", ids.join(",")))],
            })
            .await?;
        let payments = rows.first().and_then(|row| row.text("payments"));
        let payments = payments.and_then(|payments| serde_json::from_str(&payments).ok());
        Ok(Self(payments.unwrap_or_default()))
    }

    /// An order with the status of its payment; `None` when its document is unreadable.
    fn show(&self, stored: &StoredResource) -> Option<String> {
        let payment = self.0.get(&stored.id.to_string()).and_then(|payment| {
            Some(Payment {
                succeeded: payment.get("succeeded")?.as_bool()?,
                decided_at: payment.get("decidedAt")?.as_str()?.to_owned(),
            })
        });
        shown(stored.id, &stored.document.value(), payment.as_ref())
    }
}

exactly_once_spin::component!(COLLECTION, respond);
