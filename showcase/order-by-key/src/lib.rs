//! An ancestor's API over the same core: orders of a profile, created by key. A key that returns gets its order's id,
//! whatever the body is.

use exactly_once::create::{CreateRequest, KeyReuse, ReplayPolicy, create};
use exactly_once::members::{id, integer, required};
use exactly_once::ports::{PageRequest, ResourceLists, ResourcesByKey};
use exactly_once::{Collection, Customer, Document, KeyScope, Resource, ResourceId};
use exactly_once_http::{
    Body, Head, Host, Method, Problem, QueryError, Response, decoded, health, read_document, read_key, readiness,
    represent,
};
use http::StatusCode;
use uuid::Uuid;

/// How many orders a list has at most: the newest ones.
const MAX_LISTED: usize = 10_000;

/// Orders of one product.
pub static ORDERS: Resource =
    Resource::new(COLLECTION, &[id("id"), required("productQuantity", integer(1, 1_000_000))]);

const COLLECTION: Collection = Collection { name: "orders", one: "order", path: "/" };

/// Answers a request.
pub async fn respond(head: &impl Head, body: impl Body, host: &impl Host) -> Response {
    let answer = answer(head, body, host).await;
    answer.unwrap_or_else(|problem| problem.into_response(&COLLECTION))
}

async fn answer(head: &impl Head, body: impl Body, host: &impl Host) -> Result<Response, Problem> {
    let target = head.target();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let settings = host.settings().await?;
    let postgres = host.postgres(&settings);
    match (head.method(), path) {
        (Method::Get | Method::Head, "/healthz") => Ok(health()),
        (Method::Get | Method::Head, "/readyz") => Ok(readiness(query, host, &settings).await),
        (Method::Post, "/") => {
            let scope = KeyScope { collection: COLLECTION.name, customer: profile(query)?, key: read_key(head)? };
            let order = match read_document(&ORDERS, head, body).await {
                Ok(order) => order,
                // The key may have an order already: then the body does not matter.
                Err(refusal) => {
                    let stored = postgres.find_by_key(&scope).await?.value.ok_or(refusal)?;
                    return Ok(created(stored.id));
                }
            };
            let request = CreateRequest::new(scope, &COLLECTION, Document::of(&order));
            let redis = host.redis(&settings);
            let policy = ReplayPolicy { key_reuse: KeyReuse::Replay, ..settings.replay_policy };
            let creation = create(request, policy, &redis, &postgres, host.ids()).await?;
            Ok(created(creation.id()))
        }
        (Method::Get | Method::Head, "/") => {
            let page = postgres.page(&profile(query)?, PageRequest::newest(MAX_LISTED)).await?;
            let stored = page.map(|page| page.resources).unwrap_or_default();
            let orders: Vec<String> = stored.iter().rev().filter_map(|stored| represent(&ORDERS, stored)).collect();
            Ok(Response::json(StatusCode::OK, format!("[{}]", orders.join(","))))
        }
        (Method::Get | Method::Head, path) => {
            let id = path.strip_prefix('/').and_then(ResourceId::parse);
            let id = id.ok_or(Problem::NotFound)?;
            let stored = postgres.find(&profile(query)?, id).await?;
            let order = represent(&ORDERS, &stored.ok_or(Problem::NotFound)?);
            Ok(Response::json(StatusCode::OK, order.ok_or(Problem::Unreadable)?))
        }
        (_, "/") => Err(Problem::MethodNotAllowed { allow: "GET, HEAD, POST" }),
        _ => Err(Problem::MethodNotAllowed { allow: "GET, HEAD" }),
    }
}

fn created(id: ResourceId) -> Response {
    Response::json(StatusCode::CREATED, format!("\"{id}\""))
}

/// The customer: `profileId`, a UUID.
fn profile(query: &str) -> Result<Customer, Problem> {
    let value = query.split('&').find_map(|part| part.strip_prefix("profileId="));
    let id = value.and_then(|value| Uuid::try_parse_ascii(&decoded(value)).ok());
    let customer = id.and_then(|id| Customer::named(id.to_string()));
    customer.ok_or(Problem::Query(QueryError::Parameter { name: "profileId", rule: "must be a UUID" }))
}

#[cfg(target_arch = "wasm32")]
exactly_once_spin::component!(COLLECTION, respond);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_laws_of_every_resource_hold() {
        let body = serde_json::json!({"productQuantity": 3});
        assert_eq!(exactly_once::laws::check(&ORDERS, &body), Ok(()));
    }
}
