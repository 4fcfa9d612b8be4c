//! An ancestor's API over the same core: orders of a profile, created by key. A key that returns gets its order's id,
//! whatever the body is.

use exactly_once::create::{CreateRequest, KeyReuse, ReplayPolicy, create};
use exactly_once::ports::{ResourceLists, ResourcesByKey};
use exactly_once::{Collection, Customer, Document, KeyScope, Resource, ResourceId, Violation};
use exactly_once_http::{
    Body, Head, Host, Method, Problem, QueryError, Response, decoded, health, read_key,
    read_resource, readiness, represent,
};
use http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

/// The largest quantity of an order.
const MAX_QUANTITY: u64 = 1_000_000;

/// How many orders a list has at most: the newest ones.
const MAX_LISTED: usize = 10_000;

/// An order of one product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    product_quantity: u64,
}

impl Resource for Order {
    const COLLECTION: Collection = Collection {
        name: "orders",
        one: "order",
        path: "/",
    };

    fn from_json(body: &Value) -> Result<Self, Vec<Violation>> {
        let Value::Object(members) = body else {
            return Err(vec![violation(
                "",
                "must be an object with productQuantity",
            )]);
        };
        let mut violations: Vec<Violation> = members
            .keys()
            .filter(|name| *name != "productQuantity")
            .map(|name| Violation {
                pointer: exactly_once::json::pointer("", name),
                detail: "is not a member this API knows",
            })
            .collect();
        let quantity = members.get("productQuantity").and_then(Value::as_u64);
        match quantity.filter(|quantity| (1..=MAX_QUANTITY).contains(quantity)) {
            Some(product_quantity) if violations.is_empty() => Ok(Self { product_quantity }),
            Some(_) => Err(violations),
            None => {
                let rule = "must be an integer from 1 to 1000000";
                violations.push(violation("/productQuantity", rule));
                Err(violations)
            }
        }
    }

    fn from_stored(document: &Document) -> Option<Self> {
        let product_quantity = document.value().get("productQuantity")?.as_u64()?;
        Some(Self { product_quantity })
    }

    fn canonical(&self) -> Document {
        Document::from_text(format!(
            r#"{{"productQuantity":{}}}"#,
            self.product_quantity
        ))
    }

    fn representation(&self, id: ResourceId) -> String {
        json!({"id": id.to_string(), "productQuantity": self.product_quantity}).to_string()
    }
}

fn violation(pointer: &str, detail: &'static str) -> Violation {
    Violation {
        pointer: pointer.to_owned(),
        detail,
    }
}

/// Answers a request.
pub async fn respond(head: &impl Head, body: impl Body, host: &impl Host) -> Response {
    let answer = answer(head, body, host).await;
    answer.unwrap_or_else(|problem| problem.into_response(&Order::COLLECTION))
}

async fn answer(head: &impl Head, body: impl Body, host: &impl Host) -> Result<Response, Problem> {
    let target = head.target();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let settings = host.settings().await?;
    let postgres = host.postgres(&settings);
    match (head.method(), path) {
        (Method::Get | Method::Head, "/healthz") => Ok(health()),
        (Method::Get | Method::Head, "/readyz") => {
            let (redis, postgres) = host.probe_both(&settings).await;
            Ok(readiness(redis, postgres))
        }
        (Method::Post, "/") => {
            let scope = KeyScope {
                collection: Order::COLLECTION.name,
                customer: profile(query)?,
                key: read_key(head)?,
            };
            let order = match read_resource::<Order>(head, body).await {
                Ok(order) => order,
                // The key may have an order already: then the body does not matter.
                Err(refusal) => {
                    let stored = postgres.find_by_key(&scope).await?.value.ok_or(refusal)?;
                    return Ok(created(stored.id));
                }
            };
            let request = CreateRequest::new(scope, order);
            let redis = host.redis(&settings);
            let policy = ReplayPolicy {
                key_reuse: KeyReuse::Replay,
                ..settings.replay_policy
            };
            let creation = create(request, policy, &redis, &postgres, host.ids()).await?;
            Ok(created(creation.id()))
        }
        (Method::Get | Method::Head, "/") => {
            let page = postgres.page(&profile(query)?, None, MAX_LISTED).await?;
            let stored = page.map(|page| page.resources).unwrap_or_default();
            let orders: Vec<String> = stored.iter().rev().filter_map(represent::<Order>).collect();
            Ok(Response::json(
                StatusCode::OK,
                format!("[{}]", orders.join(",")),
            ))
        }
        (Method::Get | Method::Head, path) => {
            let id = path.strip_prefix('/').and_then(ResourceId::parse);
            let id = id.ok_or(Problem::NotFound)?;
            let stored = postgres.find(&profile(query)?, id).await?;
            let order = represent::<Order>(&stored.ok_or(Problem::NotFound)?);
            Ok(Response::json(
                StatusCode::OK,
                order.ok_or(Problem::Unreadable)?,
            ))
        }
        (_, "/") => Err(Problem::MethodNotAllowed {
            allow: "GET, HEAD, POST",
        }),
        _ => Err(Problem::MethodNotAllowed { allow: "GET, HEAD" }),
    }
}

fn created(id: ResourceId) -> Response {
    Response::json(StatusCode::CREATED, format!("\"{id}\""))
}

/// The customer: `profileId`, a UUID.
fn profile(query: &str) -> Result<Customer, Problem> {
    let value = query
        .split('&')
        .find_map(|part| part.strip_prefix("profileId="));
    let id = value.and_then(|value| Uuid::try_parse_ascii(&decoded(value)).ok());
    let customer = id.and_then(|id| Customer::named(id.to_string()));
    customer.ok_or(Problem::Query(QueryError::Parameter {
        name: "profileId",
        rule: "must be a UUID",
    }))
}

#[cfg(target_arch = "wasm32")]
exactly_once_spin::component!(Order, respond);
