//! The API over HTTP: what a request asks for, and what each outcome looks like on the wire. Knows methods,
//! paths, fields and bodies; knows no Spin. [`admit`] judges what can be judged before the body is read.

mod problem;

use http::{HeaderMap, Method, StatusCode, header};
use serde::Serialize;

use crate::create_order::{CreateOrder, Creation, KeyReuse, create_order};
use crate::customer::Customer;
use crate::error::OrdersUnavailable;
use crate::idempotency::{Fingerprint, IdempotencyKey, Slot};
use crate::order::{Draft, OrderId, representation};
use crate::ports::{OrderIds, Orders, Reservations};

pub use problem::Problem;

/// The longest request body that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

const ORDERS: &str = "/api/v1/orders";
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENT_REPLAYED: &str = "idempotent-replayed";

/// A whole answer. Its body is complete, so that whoever sends it can give `Content-Length`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// Fields other than `Content-Length`, names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Response {
    fn json(status: StatusCode, body: String) -> Self {
        Self {
            status,
            headers: vec![(header::CONTENT_TYPE.as_str(), "application/json".to_owned())],
            body,
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What an admissible request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Create an order; its body has to be read, up to [`MAX_BODY_BYTES`], for [`create`].
    CreateOrder(Slot),
    /// Show one order; for [`show`].
    ShowOrder(Customer, OrderId),
    /// Whether the process answers.
    Health,
    /// Whether the stores answer; for [`ready`].
    Readiness,
}

/// Why the body could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is longer than [`MAX_BODY_BYTES`].
    TooLarge,
    /// It ended before it was complete.
    Truncated,
    /// It did not arrive in time.
    TimedOut,
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::BodyTooLarge,
            BodyError::Truncated => Self::BodyTruncated,
            BodyError::TimedOut => Self::BodyTimedOut,
        }
    }
}

/// Judges a request by its head.
///
/// # Errors
/// The problem to answer with, when the request can be refused without its body.
pub fn admit(method: &Method, path: &str, headers: &HeaderMap) -> Result<Operation, Problem> {
    let reads = || match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Problem::MethodNotAllowed { allow: "GET, HEAD" }),
    };
    match path {
        ORDERS if *method == Method::POST => admit_creation(headers),
        ORDERS => Err(Problem::MethodNotAllowed { allow: "POST" }),
        "/healthz" => reads().map(|()| Operation::Health),
        "/readyz" => reads().map(|()| Operation::Readiness),
        _ => {
            let id = path
                .strip_prefix(ORDERS)
                .and_then(|rest| rest.strip_prefix('/'))
                .filter(|id| !id.is_empty() && !id.contains('/'))
                .ok_or(Problem::UnknownPath)?;
            reads()?;
            OrderId::parse(id)
                .map(|id| Operation::ShowOrder(Customer::anonymous(), id))
                .ok_or(Problem::OrderNotFound)
        }
    }
}

fn admit_creation(headers: &HeaderMap) -> Result<Operation, Problem> {
    let values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let key = IdempotencyKey::from_field_values(values.map(|value| value.as_bytes()))
        .map_err(Problem::Key)?;
    if !is_json(headers) {
        return Err(Problem::UnsupportedMediaType);
    }
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(Problem::BodyTooLarge);
    }
    Ok(Operation::CreateOrder(Slot {
        customer: Customer::anonymous(),
        key,
    }))
}

/// `application/json`, with or without parameters (RFC 9110 §8.3.1), given once.
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let essence = value.to_str().ok().and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// Answers a request for a new order whose body was read.
pub async fn create(
    slot: Slot,
    body: &[u8],
    key_reuse: KeyReuse,
    reservations: &impl Reservations,
    orders: &impl Orders,
    ids: &impl OrderIds,
) -> Result<Response, Problem> {
    let document = crate::json::parse(body).map_err(Problem::NotJson)?;
    let draft = Draft::from_json(&document).map_err(Problem::InvalidOrder)?;
    let request = CreateOrder {
        fingerprint: Fingerprint::of(&slot, Method::POST.as_str(), ORDERS, &draft.canonical()),
        slot,
        draft,
    };
    let creation = create_order(request, key_reuse, reservations, orders, ids).await?;
    let (id, draft, replayed) = match creation {
        Creation::Created(id, draft) => (id, draft, false),
        Creation::Replayed(id, draft) => (id, draft, true),
    };
    let response = Response::json(StatusCode::CREATED, representation(&id, &draft))
        .with(header::LOCATION.as_str(), format!("{ORDERS}/{id}"));
    Ok(if replayed {
        response.with(IDEMPOTENT_REPLAYED, "true")
    } else {
        response
    })
}

/// Answers a request for one order.
///
/// # Errors
/// Not found, also when it is another customer's; or the store does not answer.
pub async fn show(
    customer: &Customer,
    id: OrderId,
    orders: &impl Orders,
) -> Result<Response, Problem> {
    match orders.find(customer, id).await {
        Ok(Some(order)) => Ok(Response::json(
            StatusCode::OK,
            representation(&order.order_id, &order.draft),
        )),
        Ok(None) => Err(Problem::OrderNotFound),
        Err(OrdersUnavailable) => Err(Problem::OrdersUnavailable),
    }
}

/// Answers that the process is alive; says nothing about the stores.
pub fn health() -> Response {
    Response::json(StatusCode::OK, r#"{"status":"ok"}"#.to_owned())
}

/// What asking one store for a sign of life gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// Whether it answered as it should.
    pub up: bool,
    /// How long it took, or how long we waited, in milliseconds.
    pub latency_ms: f64,
}

/// Answers whether orders can be created: not without Postgres; without Redis, only slower.
pub fn ready(redis: Probe, postgres: Probe) -> Response {
    #[derive(Serialize)]
    struct Readiness {
        status: &'static str,
        checks: Checks,
    }

    #[derive(Serialize)]
    struct Checks {
        redis: Check,
        postgres: Check,
    }

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Check {
        status: &'static str,
        latency_ms: f64,
    }

    let check = |probe: Probe| Check {
        status: if probe.up { "up" } else { "down" },
        latency_ms: (probe.latency_ms * 1000.0).round() / 1000.0,
    };
    let (status, code) = match (postgres.up, redis.up) {
        (true, true) => ("ready", StatusCode::OK),
        (true, false) => ("degraded", StatusCode::OK),
        (false, _) => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
    };
    let body = serde_json::to_string(&Readiness {
        status,
        checks: Checks {
            redis: check(redis),
            postgres: check(postgres),
        },
    });
    Response::json(code, body.unwrap_or_default()).with(header::CACHE_CONTROL.as_str(), "no-store")
}

#[cfg(test)]
mod tests;
