//! Creating orders over HTTP.

use http::{HeaderMap, Method, StatusCode, header};

use super::{ORDERS, Operation, Problem, Response};
use crate::create_order::{CreateOrder, Creation, KeyReuse, create_order};
use crate::customer::Customer;
use crate::idempotency::{Fingerprint, IdempotencyKey, Slot};
use crate::order::{Draft, representation};
use crate::ports::{OrderIds, Orders, Reservations};

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
pub(super) fn admit(customer: Customer, headers: &HeaderMap) -> Result<Operation, Problem> {
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
    Ok(Operation::CreateOrder(Slot { customer, key }))
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
