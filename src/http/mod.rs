//! The API over HTTP: what a request asks for, and what each outcome looks like on the wire. Knows methods,
//! paths, fields and bodies; knows no Spin. [`route`] reads method and path, [`Resource::admit`] judges what
//! can be judged before the body is read.

mod creation;
mod etag;
mod fields;
mod health;
mod problem;
mod query;
mod reading;

use http::{StatusCode, header};

use crate::create_order::conditional::{Expected, Precondition};
use crate::customer::Customer;
use crate::idempotency::{IdempotencyKey, Slot};
use crate::identity::Identity;
use crate::order::OrderId;

pub use creation::{BodyError, MAX_BODY_BYTES, create, create_conditionally, declared_length};
pub use fields::{Fields, Method};
pub use health::{Probe, health, ready};
pub use problem::Problem;
pub use query::PageRequest;
pub use reading::{list, show, show_key};

const ORDERS: &str = "/api/v1/orders";
const KEYS: &str = "/api/v1/idempotency-keys";

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

/// What a method and a path name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'p> {
    /// Whether the process answers; for [`health`].
    Health,
    /// Whether the stores answer; for [`ready`].
    Readiness,
    /// Something of a customer's, who has to be known first.
    Of(Resource<'p>),
}

/// What there is for every customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'p> {
    /// `POST` to the orders.
    NewOrder,
    /// The orders.
    Orders,
    /// One of them, by the last part of its path.
    Order(&'p str),
    /// A key, by the last part of its path.
    Key(&'p str),
}

/// What an admissible request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Create an order; its body has to be read, up to [`MAX_BODY_BYTES`], for [`create`].
    CreateOrder(Slot),
    /// The same on a condition; for [`create_conditionally`].
    CreateConditionally(ConditionalRequest),
    /// Show some orders; for [`list`].
    ListOrders(Customer, PageRequest),
    /// Show one order; for [`show`].
    ShowOrder(Customer, OrderId),
    /// Show what has become of a key; for [`show_key`].
    ShowKey(Slot),
}

/// What the head of a request for a conditional order says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionalRequest {
    /// Whose order it will be.
    pub customer: Customer,
    /// What makes it repeatable, if anything does.
    pub key: Option<IdempotencyKey>,
    /// The condition.
    pub expected: Expected,
}

/// Finds what a request is about.
///
/// # Errors
/// There is nothing at the path, or it does not take the method.
pub fn route<'p>(method: Method, path: &'p str) -> Result<Route<'p>, Problem> {
    let read = |route| match method {
        Method::Get | Method::Head => Ok(route),
        _ => Err(Problem::MethodNotAllowed { allow: "GET, HEAD" }),
    };
    let below = |collection: &str| {
        let name = path.strip_prefix(collection)?.strip_prefix('/')?;
        (!name.is_empty() && !name.contains('/')).then_some(name)
    };
    match path {
        ORDERS => match method {
            Method::Post => Ok(Route::Of(Resource::NewOrder)),
            Method::Get | Method::Head => Ok(Route::Of(Resource::Orders)),
            _ => Err(Problem::MethodNotAllowed {
                allow: "GET, HEAD, POST",
            }),
        },
        "/healthz" => read(Route::Health),
        "/readyz" => read(Route::Readiness),
        _ => match (below(ORDERS), below(KEYS)) {
            (Some(id), _) => read(Route::Of(Resource::Order(id))),
            (None, Some(key)) => read(Route::Of(Resource::Key(key))),
            (None, None) => Err(Problem::UnknownPath),
        },
    }
}

/// Finds out who is asking, before anything else is. `now` is in seconds since the Unix epoch.
///
/// # Errors
/// Nobody knows.
pub fn identify(
    identity: &Identity,
    fields: &impl Fields,
    now: impl FnOnce() -> i64,
) -> Result<Customer, Problem> {
    let values = identity.field().map(|name| fields.values(name));
    let values = values.iter().flatten();
    identity
        .customer(values.map(Vec::as_slice), now)
        .map_err(Problem::Unidentified)
}

impl Resource<'_> {
    /// Judges the rest of a customer's request by its head.
    ///
    /// # Errors
    /// The problem to answer with, when the request can be refused without a body and without a store.
    pub fn admit(
        self,
        customer: Customer,
        query: Option<&str>,
        fields: &impl Fields,
        precondition: Precondition,
    ) -> Result<Operation, Problem> {
        match self {
            Self::NewOrder => creation::admit(customer, fields, precondition),
            Self::Orders => {
                let page = PageRequest::parse(query.unwrap_or_default()).map_err(Problem::Query)?;
                Ok(Operation::ListOrders(customer, page))
            }
            Self::Order(id) => OrderId::parse(id)
                .map(|id| Operation::ShowOrder(customer, id))
                .ok_or(Problem::OrderNotFound),
            Self::Key(key) => IdempotencyKey::from_chars(query::decoded(key))
                .map(|key| Operation::ShowKey(Slot { customer, key }))
                .ok_or(Problem::KeyNotFound),
        }
    }
}

#[cfg(test)]
mod tests;
