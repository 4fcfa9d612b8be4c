//! A delivery over HTTP: its body, and the response to an event that is rejected. All status codes of rejections are
//! here.

use exactly_once::{Collection, Violation};
use exactly_once_http::{Body, Head, Method, Problem, Response, decoded, read_body};
use http::StatusCode;

use crate::event::{CloudEvent, NotAnEvent};

/// The media type of an event in structured mode.
pub const MEDIA_TYPE: &str = "application/cloudevents+json";

/// The longest event, in bytes: an order of the longest body, whose text may grow when it is written anew.
const MAX_EVENT_BYTES: usize = 512 * 1024;

/// Why an event has no effect. The same event would be rejected again: it is for an operator, who corrects the consumer
/// or the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The body is not a CloudEvent.
    NotAnEvent(NotAnEvent),
    /// It is one that this consumer cannot use: another type, or data that does not fit.
    Unusable(Vec<Violation>),
    /// An event with this id had an effect, and said something else.
    Contradiction,
}

impl Refusal {
    /// The response of a collection.
    pub fn into_response(self, collection: &Collection) -> Response {
        let name = collection.name;
        match self {
            Self::NotAnEvent(why) => Response::problem(
                StatusCode::BAD_REQUEST,
                name,
                "malformed-event",
                "The body is not a CloudEvent",
                &format!("Send one CloudEvent 1.0 as {MEDIA_TYPE}: {why}."),
            ),
            Self::Unusable(violations) => Problem::Invalid(violations).into_response(collection),
            Self::Contradiction => Response::problem(
                StatusCode::UNPROCESSABLE_ENTITY,
                name,
                "contradicting-event",
                "An event with this id said something else",
                "It had its effect once, and keeps it. Send another event with another id.",
            ),
        }
    }
}

/// Reads a delivered event, in structured or binary mode.
///
/// # Errors
/// The body cannot be read. What is in it is the inner result.
pub async fn read_event(head: &impl Head, body: impl Body) -> Result<Result<CloudEvent, NotAnEvent>, Problem> {
    let header = |name: &str| {
        let value = head.values(name).into_iter().next()?;
        // Characters other than visible ASCII are percent-encoded (HTTP binding, section 3.1.3.2).
        String::from_utf8(decoded(std::str::from_utf8(&value).ok()?)).ok()
    };
    if header("ce-specversion").is_some() {
        let body = read_body(head, body, "application/json", MAX_EVENT_BYTES).await?;
        return Ok(CloudEvent::from_headers(header, &body));
    }
    let body = read_body(head, body, MEDIA_TYPE, MAX_EVENT_BYTES).await?;
    Ok(CloudEvent::from_json(&body))
}

/// The response to a sender that asks whether it may deliver here (CloudEvents webhooks 1.0, section 4): it may, at any
/// rate, because a delivery needs the operator's token. `None` to another request.
pub fn handshake(head: &impl Head) -> Option<Response> {
    let origin = head.values("webhook-request-origin");
    let asks = head.method() == Method::Options && !origin.is_empty();
    asks.then(|| {
        let response = Response::of_type("text/plain", StatusCode::OK, String::new());
        response.with("webhook-allowed-origin", "*").with("webhook-allowed-rate", "*")
    })
}
