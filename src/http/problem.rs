//! Every error answer, in one place: status, stable type, and words that tell the caller what to do next
//! (RFC 9457). What a store said about a failure has no way in here.

use std::time::Duration;

use http::{StatusCode, header};
use serde::Serialize;

use super::Response;
use super::etag::ETag;
use super::query::{MAX_LIMIT, QueryError};
use crate::error::CreateError;
use crate::idempotency::{KeyError, MAX_KEY_CHARS};
use crate::identity::Unidentified;
use crate::json::{Malformed, to_json};
use crate::order::{OrderId, Violation};
use crate::reading::ListState;

/// What every problem type starts with. Types are names, not addresses: there is nothing to fetch.
const TYPE_PREFIX: &str = "urn:problem-type:orders:";

/// How long a caller should wait before it repeats a request that a store was not there for, in seconds.
const RETRY_AFTER_SECONDS: &str = "1";

/// A reason not to do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Nobody knows who is asking.
    Unidentified(Unidentified),
    /// The `Idempotency-Key` field is not one key.
    Key(KeyError),
    /// The body is not declared to be JSON.
    UnsupportedMediaType,
    /// The body is longer than [`super::MAX_BODY_BYTES`].
    BodyTooLarge,
    /// The body ended before it was complete.
    BodyTruncated,
    /// The body did not arrive in time.
    BodyTimedOut,
    /// The body is not a JSON document.
    NotJson(Malformed),
    /// The body is no valid order.
    InvalidOrder(Vec<Violation>),
    /// The key stands for an order of other content.
    KeyReused {
        /// That order.
        order_id: OrderId,
        /// JSON Pointers to what differs.
        differs: Vec<String>,
    },
    /// There is no condition, and there must be one.
    PreconditionRequired,
    /// The list has moved on.
    PreconditionFailed {
        /// The state that it is in.
        current: ListState,
    },
    /// Somebody else is creating an order on a condition.
    CollectionLocked {
        /// How long they may take.
        remaining: Duration,
    },
    /// The query asks for something that there is not.
    Query(QueryError),
    /// There is nothing at this path.
    UnknownPath,
    /// There is no such order, or none of this customer's.
    OrderNotFound,
    /// Nothing is known of the key, or it is another customer's.
    KeyNotFound,
    /// The path exists and does not take this method.
    MethodNotAllowed {
        /// The methods it takes, as in the `Allow` field.
        allow: &'static str,
    },
    /// Postgres did not answer a question.
    OrdersUnavailable,
    /// Postgres did not answer an attempt to create an order: it may or may not exist.
    CreationUndecided,
    /// The component is not set up; the log says which variable.
    Misconfigured,
}

impl From<CreateError> for Problem {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::KeyReused { order_id, differs } => Self::KeyReused { order_id, differs },
            CreateError::Stale(current) => Self::PreconditionFailed { current },
            CreateError::Locked { remaining } => Self::CollectionLocked { remaining },
            CreateError::Unavailable => Self::CreationUndecided,
        }
    }
}

impl Problem {
    /// The status that the problem is sent with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Key(_) | Self::NotJson(_) | Self::BodyTruncated | Self::Query(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::Unidentified(_) => StatusCode::UNAUTHORIZED,
            Self::UnknownPath | Self::OrderNotFound | Self::KeyNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::CollectionLocked { .. } => StatusCode::CONFLICT,
            Self::PreconditionFailed { .. } => StatusCode::PRECONDITION_FAILED,
            Self::PreconditionRequired => StatusCode::PRECONDITION_REQUIRED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::InvalidOrder(_) | Self::KeyReused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Misconfigured => StatusCode::INTERNAL_SERVER_ERROR,
            Self::OrdersUnavailable | Self::CreationUndecided => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The last part of the problem's type, and its title.
    fn kind(&self) -> (&'static str, &'static str) {
        match self {
            Self::Unidentified(Unidentified::NotNamed | Unidentified::NoToken) => {
                ("unauthenticated", "Nobody knows who is asking")
            }
            Self::Unidentified(Unidentified::InvalidToken | Unidentified::ExpiredToken) => {
                ("invalid-token", "The token is not valid")
            }
            Self::Key(KeyError::Missing) => {
                ("idempotency-key-missing", "Idempotency-Key is missing")
            }
            Self::Key(KeyError::Malformed) => {
                ("idempotency-key-malformed", "Idempotency-Key is malformed")
            }
            Self::Key(KeyError::Ambiguous) => {
                ("idempotency-key-ambiguous", "Idempotency-Key is ambiguous")
            }
            Self::UnsupportedMediaType => ("unsupported-media-type", "The body must be JSON"),
            Self::BodyTooLarge => ("body-too-large", "The body is too large"),
            Self::BodyTruncated => ("body-truncated", "The body is incomplete"),
            Self::BodyTimedOut => ("body-timed-out", "The body did not arrive in time"),
            Self::NotJson(_) => ("malformed-json", "The body is not valid JSON"),
            Self::InvalidOrder(_) => ("invalid-order", "The order is not valid"),
            Self::KeyReused { .. } => (
                "idempotency-key-reused",
                "Idempotency-Key was used for another order",
            ),
            Self::PreconditionRequired => ("precondition-required", "If-Match is missing"),
            Self::PreconditionFailed { .. } => (
                "precondition-failed",
                "The orders are not as If-Match expects them",
            ),
            Self::CollectionLocked { .. } => (
                "collection-locked",
                "Another order is being created on a condition",
            ),
            Self::Query(_) => ("invalid-query", "The query is not valid"),
            Self::UnknownPath => ("not-found", "There is nothing at this path"),
            Self::OrderNotFound => ("order-not-found", "There is no such order"),
            Self::KeyNotFound => ("idempotency-key-not-found", "Nothing is known of this key"),
            Self::MethodNotAllowed { .. } => ("method-not-allowed", "The method is not allowed"),
            Self::OrdersUnavailable | Self::CreationUndecided => {
                ("unavailable", "Orders are unavailable at the moment")
            }
            Self::Misconfigured => ("misconfigured", "The service is not set up correctly"),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Unidentified(Unidentified::NotNamed) => {
                "The gateway in front of this service has to say who is asking, once and in 1 to 128 characters."
                    .into()
            }
            Self::Unidentified(Unidentified::NoToken) => "Send Authorization: Bearer with a token.".into(),
            Self::Unidentified(Unidentified::InvalidToken) => "Send a token that is meant for this service.".into(),
            Self::Unidentified(Unidentified::ExpiredToken) => "It has expired; get a new one.".into(),
            Self::Key(KeyError::Missing) => {
                "Send an Idempotency-Key header: a value of your choice, new for each order and the same for \
                 every retry of it, such as a UUID."
                    .into()
            }
            Self::Key(KeyError::Malformed) => format!(
                "Send 1 to {MAX_KEY_CHARS} visible ASCII characters, bare or as one quoted Structured Field string."
            ),
            Self::Key(KeyError::Ambiguous) => {
                "Send Idempotency-Key once; it came more than once with different values.".into()
            }
            Self::UnsupportedMediaType => "Send Content-Type: application/json.".into(),
            Self::BodyTooLarge => format!("Send at most {} bytes.", super::MAX_BODY_BYTES),
            Self::BodyTruncated => {
                "The connection ended before the body was complete. Nothing was stored; send it again.".into()
            }
            Self::BodyTimedOut => "Nothing was stored; send the whole request again.".into(),
            Self::NotJson(Malformed(why)) => format!("Send one JSON document: {why}."),
            Self::InvalidOrder(_) => {
                "Nothing was stored. Correct the members in \"violations\" and send the order again; the same \
                 Idempotency-Key may be used."
                    .into()
            }
            Self::KeyReused { .. } => {
                "This key belongs to the order in \"orderId\", which differs from the one sent at the places in \
                 \"differs\". To repeat that order, send it unchanged; to place another one, use a new key."
                    .into()
            }
            Self::PreconditionRequired => {
                "Send If-Match with the ETag that GET /api/v1/orders answers with.".into()
            }
            Self::PreconditionFailed { .. } => {
                "Nothing was stored. Look at the orders that have come in between; if the order is wanted still, \
                 send it again with the ETag of this answer in If-Match."
                    .into()
            }
            Self::CollectionLocked { .. } => {
                "Nothing was stored. Send the same request again once the time in Retry-After is over.".into()
            }
            Self::Query(QueryError::Unknown) => "Send no parameters but limit and cursor.".into(),
            Self::Query(QueryError::Repeated) => "Send each parameter once.".into(),
            Self::Query(QueryError::Limit) => format!("limit must be a number from 1 to {MAX_LIMIT}."),
            Self::Query(QueryError::Cursor) => {
                "cursor must be as in the \"next\" of one of your pages; leave it out to begin anew.".into()
            }
            Self::UnknownPath => "See the documentation for the paths of this API.".into(),
            Self::OrderNotFound => "Check the order id.".into(),
            Self::KeyNotFound => {
                "No request with this key has come, or none was remembered. A request with it creates its order \
                 once."
                    .into()
            }
            Self::MethodNotAllowed { allow } => format!("Use one of: {allow}."),
            Self::OrdersUnavailable => "Send the request again.".into(),
            Self::CreationUndecided => {
                "Whether the order was created is not known yet. Send the same request with the same \
                 Idempotency-Key again: it will be created once or be found."
                    .into()
            }
            Self::Misconfigured => "The operator finds the reason in the log.".into(),
        }
    }

    /// The answer.
    pub fn into_response(self) -> Response {
        let (kind, title) = self.kind();
        let mut document = Document {
            kind: format!("{TYPE_PREFIX}{kind}"),
            title,
            status: self.status().as_u16(),
            detail: self.detail(),
            order_id: None,
            differs: None,
            violations: None,
        };
        let status = self.status();
        let mut fields = vec![(
            header::CONTENT_TYPE.as_str(),
            "application/problem+json".to_owned(),
        )];
        match self {
            Self::KeyReused { order_id, differs } => {
                document.order_id = Some(order_id.to_string());
                document.differs = Some(differs);
            }
            Self::InvalidOrder(violations) => document.violations = Some(violations),
            Self::Unidentified(why) => {
                fields.push((header::WWW_AUTHENTICATE.as_str(), challenge(why).to_owned()));
            }
            Self::MethodNotAllowed { allow } => {
                fields.push((header::ALLOW.as_str(), allow.to_owned()));
            }
            Self::PreconditionFailed { current } => {
                let etag = ETag::of_state(&current).to_string();
                fields.push((header::ETAG.as_str(), etag));
            }
            Self::CollectionLocked { remaining } => {
                fields.push((header::RETRY_AFTER.as_str(), whole_seconds(remaining)));
            }
            Self::OrdersUnavailable | Self::CreationUndecided => {
                fields.push((header::RETRY_AFTER.as_str(), RETRY_AFTER_SECONDS.to_owned()))
            }
            _ => {}
        }
        Response {
            status,
            headers: fields,
            body: to_json(&document),
        }
    }
}

/// As `Retry-After` takes it (RFC 9110 §10.2.3): not too early, and not at once.
fn whole_seconds(time: Duration) -> String {
    time.as_millis().div_ceil(1000).max(1).to_string()
}

/// What would do instead (RFC 9110 §11.6.1). An error is named only to somebody who has sent a token (RFC
/// 6750 §3.1). No scheme is registered for what gateways do, and a 401 must name one.
fn challenge(why: Unidentified) -> &'static str {
    match why {
        Unidentified::NotNamed => "Gateway",
        Unidentified::NoToken => "Bearer",
        Unidentified::InvalidToken | Unidentified::ExpiredToken => "Bearer error=\"invalid_token\"",
    }
}

/// RFC 9457 §3.1, and our extension members.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    differs: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    violations: Option<Vec<Violation>>,
}
