//! An ancestor's API over the same core: an order is created only on the state of the list that the client has read. The
//! gateway in front names the customer in `X-User-Id`.

use http::{StatusCode, header};
use http_api::identity::Identity;
use http_api::{
    Body, ETag, Head, Host, Method, Problem, Response, health, identify, read_condition, read_key,
    read_resource, readiness, represent,
};
use protocol::condition::Expected;
use protocol::create::conditional::create_conditionally;
use protocol::create::{CreateRequest, KeyReuse, ReplayPolicy};
use protocol::error::CreateError;
use protocol::key::KeyError;
use protocol::ports::{ResourceIds, ResourceLists};
use protocol::{Collection, Document, IdempotencyKey, KeyScope, Resource, ResourceId, Violation};
use serde_json::Value;

/// The largest price, in cents.
const MAX_CENTS: f64 = 100_000_000_000.0;

/// How many orders a list has at most: the newest ones.
const MAX_LISTED: usize = 10_000;

/// An order of some price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// In cents; at least 100.
    cents: u64,
}

impl Resource for Order {
    const COLLECTION: Collection = Collection {
        name: "orders",
        one: "order",
        path: "/api/v1/ordering/orders",
    };

    fn from_json(body: &Value) -> Result<Self, Vec<Violation>> {
        let Value::Object(members) = body else {
            return Err(vec![violation("", "must be an object with price")]);
        };
        let mut violations: Vec<Violation> = members
            .keys()
            .filter(|name| *name != "price")
            .map(|name| Violation {
                pointer: protocol::json::pointer("", name),
                detail: "is not a member this API knows",
            })
            .collect();
        match members.get("price").and_then(cents) {
            Some(cents) if violations.is_empty() => Ok(Self { cents }),
            Some(_) => Err(violations),
            None => {
                let rule = "must be a number from 1 to 1000000000 with at most two decimal places";
                violations.push(violation("/price", rule));
                Err(violations)
            }
        }
    }

    fn from_stored(document: &Document) -> Option<Self> {
        let cents = document.value().get("cents")?.as_u64()?;
        Some(Self { cents })
    }

    fn canonical(&self) -> Document {
        Document::from_text(format!(r#"{{"cents":{}}}"#, self.cents))
    }

    fn representation(&self, id: ResourceId) -> String {
        let (whole, cents, at) = (self.cents / 100, self.cents % 100, id.created_at());
        let price = match cents {
            0 => whole.to_string(),
            _ => format!("{whole}.{cents:02}")
                .trim_end_matches('0')
                .to_owned(),
        };
        format!(
            r#"{{"id":"{id}","price":{price},"status":"pending","createdAt":"{at}","updatedAt":"{at}"}}"#
        )
    }
}

fn violation(pointer: &str, detail: &'static str) -> Violation {
    Violation {
        pointer: pointer.to_owned(),
        detail,
    }
}

/// A price in whole cents. Up to [`MAX_CENTS`] a double is exact to far less than a cent.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked"
)]
fn cents(price: &Value) -> Option<u64> {
    let exact = price.as_f64()? * 100.0;
    let cents = exact.round();
    let valid = (exact - cents).abs() < 0.000_1 && (100.0..=MAX_CENTS).contains(&cents);
    valid.then_some(cents as u64)
}

/// Answers a request.
pub async fn respond(head: &impl Head, body: impl Body, host: &impl Host) -> Response {
    let answer = answer(head, body, host).await;
    answer.unwrap_or_else(|problem| problem.into_response(&Order::COLLECTION))
}

async fn answer(head: &impl Head, body: impl Body, host: &impl Host) -> Result<Response, Problem> {
    let target = head.target();
    let path = target.split_once('?').map_or(&*target, |(path, _)| path);
    let settings = host.settings().await?;
    let postgres = host.postgres(&settings);
    let customer = || {
        let gateway = Identity::Header("X-User-Id".to_owned());
        identify(&gateway, head, || host.unix_seconds()).map_err(|_| Problem::Forbidden)
    };
    let id = || {
        let segment = path.strip_prefix(Order::COLLECTION.path)?;
        ResourceId::parse(segment.strip_prefix('/')?)
    };
    match (head.method(), path) {
        (Method::Get | Method::Head, "/healthz") => Ok(health()),
        (Method::Get | Method::Head, "/readyz") => {
            let (redis, postgres) = host.probe_both(&settings).await;
            Ok(readiness(redis, postgres))
        }
        (Method::Post, path) if path == Order::COLLECTION.path => {
            let customer = customer()?;
            let expected = read_condition(head).ok_or(Problem::PreconditionRequired)?;
            let order = read_resource::<Order>(head, body).await?;
            // A key is respected: with one, a retry gets its order.
            let (key, keyless) = match read_key(head) {
                // Every state meets "*": each retry would be another order.
                Err(Problem::Key(KeyError::Missing)) if expected == Expected::Any => {
                    return Err(Problem::PreconditionRequired);
                }
                Err(Problem::Key(KeyError::Missing)) => {
                    (IdempotencyKey::substitute(host.ids().draw()), true)
                }
                key => (key?, false),
            };
            let collection = Order::COLLECTION.name;
            let scope = KeyScope {
                collection,
                customer,
                key,
            };
            let (request, redis) = (
                CreateRequest::new(scope, order.clone()),
                host.redis(&settings),
            );
            let policy = ReplayPolicy {
                key_reuse: KeyReuse::Reject,
                ..settings.replay_policy
            };
            let ids = host.ids();
            let (creation, state) =
                create_conditionally(request, &expected, policy, &redis, &redis, &postgres, ids)
                    .await
                    .map_err(|error| match error {
                        CreateError::Unavailable if keyless => Problem::UndecidedWithoutKey,
                        error => error.into(),
                    })?;
            let body = order.representation(creation.id());
            let response = Response::json(StatusCode::ACCEPTED, body);
            Ok(match state {
                Some(state) => tagged(response, &ETag::of_state(&state)),
                None => response,
            })
        }
        (Method::Get | Method::Head, path) if path == Order::COLLECTION.path => {
            let page = postgres.page(&customer()?, None, MAX_LISTED).await?;
            let page = page.ok_or(Problem::DatabaseUnavailable)?;
            let orders = page.resources.iter().rev();
            let orders: Vec<String> = orders.filter_map(represent::<Order>).collect();
            let response = Response::json(StatusCode::OK, format!("[{}]", orders.join(",")));
            Ok(tagged(response, &ETag::of_state(&page.state)))
        }
        (Method::Get | Method::Head, _) => {
            let (customer, id) = (customer()?, id().ok_or(Problem::UnknownPath)?);
            let stored = postgres.find(&customer, id).await?;
            let order = represent::<Order>(&stored.ok_or(Problem::NotFound)?);
            Ok(Response::json(
                StatusCode::OK,
                order.ok_or(Problem::Unreadable)?,
            ))
        }
        (_, path) if path == Order::COLLECTION.path => Err(Problem::MethodNotAllowed {
            allow: "GET, HEAD, POST",
        }),
        _ => Err(Problem::MethodNotAllowed { allow: "GET, HEAD" }),
    }
}

fn tagged(response: Response, etag: &ETag) -> Response {
    response.with(header::ETAG.as_str(), etag.to_string())
}

#[cfg(target_arch = "wasm32")]
spin_adapter::component!(Order, respond);
