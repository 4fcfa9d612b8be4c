//! A delivery over HTTP: the token of the one who delivers, the body, and the answer to an event that is refused. All status
//! codes of refusals are here.

use http::StatusCode;
use http_api::identity::Unidentified;
use http_api::{Body, Head, Problem, Response, read_body};
use protocol::{Collection, Violation};

use crate::event::{CloudEvent, NotAnEvent};

/// The media type of an event in structured mode.
pub const MEDIA_TYPE: &str = "application/cloudevents+json";

/// The longest event, in bytes: an order of the longest body, whose text may grow when it is written anew.
const MAX_EVENT_BYTES: usize = 512 * 1024;

/// Why an event has no effect. The same event would be refused again: it is for an operator, who corrects the consumer or the
/// event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The body is no CloudEvent.
    NotAnEvent(NotAnEvent),
    /// It is one that this consumer cannot use: another type, or data that does not fit.
    Unusable(Vec<Violation>),
    /// An event with this id had an effect, and said something else.
    Contradiction,
}

impl Refusal {
    /// The answer of a collection.
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

/// Admits a request that has the operator's token.
///
/// # Errors
/// It has none, or another one; or none is configured, which admits nobody.
pub fn admit(head: &impl Head, token: &str) -> Result<(), Problem> {
    let values = head.values("authorization");
    let [value] = values.as_slice() else {
        return Err(Problem::Unidentified(Unidentified::NoToken));
    };
    let sent = match value.split_at_checked(7) {
        Some((scheme, sent)) if scheme.eq_ignore_ascii_case(b"Bearer ") => sent,
        _ => return Err(Problem::Unidentified(Unidentified::NoToken)),
    };
    match !token.is_empty() && is_equal(sent.trim_ascii(), token.as_bytes()) {
        true => Ok(()),
        false => Err(Problem::Unidentified(Unidentified::InvalidToken)),
    }
}

/// Compares in a time that depends on the lengths alone: otherwise it tells how much of a guess is right.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differences) == 0
}

/// Reads a delivered event.
///
/// # Errors
/// The body cannot be read. What is in it is the inner result.
pub async fn read_event(
    head: &impl Head,
    body: impl Body,
) -> Result<Result<CloudEvent, NotAnEvent>, Problem> {
    let body = read_body(head, body, MEDIA_TYPE, MAX_EVENT_BYTES).await?;
    Ok(CloudEvent::from_json(&body))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Authorization(&'static str);

    impl Head for Authorization {
        fn method(&self) -> http_api::Method {
            http_api::Method::Post
        }

        fn target(&self) -> String {
            "/".to_owned()
        }

        fn values(&self, _: &str) -> Vec<Vec<u8>> {
            vec![self.0.as_bytes().to_vec()]
        }
    }

    #[test]
    fn only_the_token_is_admitted_and_no_token_admits_nobody() {
        let admitted = |value, token| admit(&Authorization(value), token).is_ok();
        assert!(admitted("Bearer secret", "secret"));
        assert!(admitted("bearer secret ", "secret"));
        for value in [
            "",
            "Bearer ",
            "secret",
            "Basic secret",
            "Bearer secre",
            "Bearer secret2",
        ] {
            assert!(!admitted(value, "secret"), "{value}");
            assert!(!admitted(value, ""), "{value}");
        }
    }
}
