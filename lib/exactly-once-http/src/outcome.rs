//! The outcome of a request, for the request log.

use http::StatusCode;
use serde::Serialize;

/// The outcome of a request. It is logged and not sent to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A resource was created.
    Created,
    /// The response repeats the response to the first request with the key.
    Replayed,
    /// Something was read, or was known to the client already.
    Read,
    /// The key belongs to a resource with another document.
    Reused,
    /// What the request is based on has changed.
    Stale,
    /// Another request is creating a resource on a condition.
    Locked,
    /// Nothing exists there, or it belongs to another customer.
    NotFound,
    /// The request does not identify a customer, or is not admitted.
    Unidentified,
    /// The customer's resources are in another database.
    Misdirected,
    /// Any other client error.
    Invalid,
    /// A store did not respond.
    Unavailable,
    /// The service is misconfigured, or a stored document is unreadable.
    Failed,
}

impl Outcome {
    /// The outcome that a status means by default.
    pub fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::CREATED => Self::Created,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Unidentified,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::CONFLICT => Self::Locked,
            StatusCode::PRECONDITION_FAILED => Self::Stale,
            StatusCode::MISDIRECTED_REQUEST => Self::Misdirected,
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable,
            _ if status.is_client_error() => Self::Invalid,
            _ if status.is_server_error() => Self::Failed,
            _ => Self::Read,
        }
    }
}
