//! Creating orders over HTTP.

use http::{StatusCode, header};

use super::etag::{ETag, if_match};
use super::fields::text;
use super::{ConditionalRequest, Fields, ORDERS, Operation, Problem, Response};
use crate::create_order::conditional::{Precondition, create_conditionally as create_if};
use crate::create_order::{CreateOrder, Creation, KeyReuse, create_order};
use crate::customer::Customer;
use crate::error::{CreateError, ReservationsUnavailable};
use crate::idempotency::{Fingerprint, IdempotencyKey, KeyError, Record, Slot};
use crate::order::{Draft, representation};
use crate::ports::{
    ConditionalOrders, Locks, OrderIds, Orders, OrdersByKey, Reservation, Reservations,
};

/// The longest request body that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENT_REPLAYED: &str = "idempotent-replayed";

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

/// Judges a request for a new order by its head.
pub(super) fn admit(
    customer: Customer,
    fields: &impl Fields,
    precondition: Precondition,
) -> Result<Operation, Problem> {
    let values = fields.values(IDEMPOTENCY_KEY);
    let key = match IdempotencyKey::from_field_values(values.iter().map(Vec::as_slice)) {
        Err(KeyError::Missing) if precondition == Precondition::Etag => None,
        key => Some(key.map_err(Problem::Key)?),
    };
    let expected = if_match(fields);
    if expected.is_none() && precondition != Precondition::Key {
        return Err(Problem::PreconditionRequired);
    }
    if !is_json(fields) {
        return Err(Problem::UnsupportedMediaType);
    }
    if declared_length(fields).is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(Problem::BodyTooLarge);
    }
    match (key, expected) {
        (Some(key), None) => Ok(Operation::CreateOrder(Slot { customer, key })),
        (None, None) => Err(Problem::PreconditionRequired),
        (key, Some(expected)) => Ok(Operation::CreateConditionally(ConditionalRequest {
            customer,
            key,
            expected,
        })),
    }
}

/// How long the body is, in bytes, by its head (RFC 9110 §8.6).
pub fn declared_length(fields: &impl Fields) -> Option<u64> {
    let values = fields.values(header::CONTENT_LENGTH.as_str());
    text(values.first()?)?.parse().ok()
}

/// `application/json`, with or without parameters (RFC 9110 §8.3.1), given once.
fn is_json(fields: &impl Fields) -> bool {
    let values = fields.values(header::CONTENT_TYPE.as_str());
    let [value] = values.as_slice() else {
        return false;
    };
    let essence = text(value).and_then(|text| text.split(';').next());
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
    let draft = draft(body)?;
    let request = request(slot, draft);
    let creation = create_order(request, key_reuse, reservations, orders, ids).await?;
    Ok(created(creation))
}

/// Answers a request for a conditional order whose body was read. A new order comes with the tag that the
/// list has with it.
///
/// # Errors
/// Without a key, nobody can ask whether an order that was not acknowledged exists: asking again creates it
/// or says that the list has moved on.
pub async fn create_conditionally(
    conditional: ConditionalRequest,
    body: &[u8],
    key_reuse: KeyReuse,
    redis: &(impl Reservations + Locks),
    orders: &(impl ConditionalOrders + OrdersByKey),
    ids: &impl OrderIds,
) -> Result<Response, Problem> {
    let draft = draft(body)?;
    let ConditionalRequest {
        customer,
        key,
        expected,
    } = conditional;
    let of = |key| request(Slot { customer, key }, draft);
    let (creation, state) = match key {
        Some(key) => create_if(of(key), &expected, key_reuse, redis, redis, orders, ids).await?,
        None => {
            let order = of(IdempotencyKey::stand_in(ids.draw()));
            create_if(order, &expected, key_reuse, &Forgetful, redis, orders, ids)
                .await
                .map_err(|error| match error {
                    CreateError::Unavailable => Problem::OrdersUnavailable,
                    error => error.into(),
                })?
        }
    };
    let response = created(creation);
    Ok(match state {
        Some(state) => response.with(header::ETAG.as_str(), ETag::of_state(&state).to_string()),
        None => response,
    })
}

/// For orders that nobody can ask for again: there is nothing to remember.
struct Forgetful;

impl Reservations for Forgetful {
    async fn reserve(&self, _: &Slot, _: &Record) -> Result<Reservation, ReservationsUnavailable> {
        Err(ReservationsUnavailable)
    }

    async fn finish(&self, _: &Slot, _: &Record) -> Result<(), ReservationsUnavailable> {
        Err(ReservationsUnavailable)
    }
}

fn draft(body: &[u8]) -> Result<Draft, Problem> {
    let document = crate::json::parse(body).map_err(Problem::NotJson)?;
    Draft::from_json(&document).map_err(Problem::InvalidOrder)
}

/// A condition is no part of what a request is recognised by: a retry may well have another.
fn request(slot: Slot, draft: Draft) -> CreateOrder {
    CreateOrder {
        fingerprint: Fingerprint::of(&slot, "POST", ORDERS, &draft.canonical()),
        slot,
        draft,
    }
}

fn created(creation: Creation) -> Response {
    let (id, draft, replayed) = match creation {
        Creation::Created(id, draft) => (id, draft, false),
        Creation::Replayed(id, draft) => (id, draft, true),
    };
    let response = Response::json(StatusCode::CREATED, representation(&id, &draft))
        .with(header::LOCATION.as_str(), format!("{ORDERS}/{id}"));
    if replayed {
        response.with(IDEMPOTENT_REPLAYED, "true")
    } else {
        response
    }
}
