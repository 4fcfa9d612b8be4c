//! Every error answer, in one place: status, stable type, and what the caller can do next (RFC 9457). A store's own
//! words about a failure cannot get in here.

use std::time::Duration;

use exactly_once::error::{CreateError, DatabaseUnavailable};
use exactly_once::feed::FeedError;
use exactly_once::json::{Malformed, to_json};
use exactly_once::key::{KeyError, MAX_KEY_CHARS};
use exactly_once::{Collection, Documentation, ListState, Resource, ResourceId, Violation};
use http::{StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::etag::ETag;
use crate::feed::feed_path;
use crate::head::BodyError;
use crate::identity::Unidentified;
use crate::outcome::Outcome;
use crate::query::{MAX_LIMIT, QueryError};
use crate::response::Response;

/// How long a client should wait before it repeats a request that a store did not answer, in seconds.
const RETRY_AFTER_SECONDS: &str = "1";

/// How many violations an answer lists at most.
const MAX_VIOLATIONS: usize = 50;
/// How long they may be in all, in bytes.
const MAX_VIOLATION_BYTES: usize = 8 * 1024;
/// The longest pointer that an answer repeats, in bytes.
const MAX_POINTER_BYTES: usize = 256;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The request does not identify a customer.
    Unidentified(Unidentified),
    /// The gateway in front has not admitted the request.
    Forbidden,
    /// The `Idempotency-Key` field is not one key.
    Key(KeyError),
    /// The body is not declared to be of this media type.
    UnsupportedMediaType(&'static str),
    /// The body is compressed.
    UnsupportedContentCoding,
    /// The body is longer than this many bytes.
    BodyTooLarge(usize),
    /// The body ended before it was complete.
    BodyTruncated,
    /// The body did not arrive in time.
    BodyTimedOut,
    /// The body is not a JSON document.
    NotJson(Malformed),
    /// The body is not a valid document of the resource.
    Invalid(Vec<Violation>),
    /// The key belongs to a resource with another document.
    KeyReused {
        /// That resource.
        id: ResourceId,
        /// JSON Pointers to what differs.
        differs: Vec<String>,
    },
    /// A condition is required, and there is none, or one that is always met and no key.
    PreconditionRequired,
    /// What is to be read is not what `If-Match` names.
    Changed {
        /// Its tag, if it has one.
        etag: Option<ETag>,
    },
    /// `If-None-Match: *` on a request to create: the list exists.
    ListExists,
    /// Another `If-None-Match` on a request to create.
    UnsupportedCondition,
    /// The list is in another state than the condition expects.
    PreconditionFailed {
        /// The state that it is in.
        current: ListState,
    },
    /// Another request is creating a resource on a condition.
    CollectionLocked {
        /// The rest of its lease.
        remaining: Duration,
    },
    /// The query is not valid.
    Query(QueryError),
    /// There is nothing at this path.
    UnknownPath,
    /// There is no such resource, or it is another customer's.
    NotFound,
    /// No request with this key is known, or it is another customer's.
    KeyNotFound,
    /// The feed has no token.
    FeedOff,
    /// The feed's numbers up to a cursor may mean other resources than before.
    CursorOfAnotherHistory,
    /// The path exists and does not support this method.
    MethodNotAllowed {
        /// The methods that it supports, as in the `Allow` field.
        allow: &'static str,
    },
    /// A stored document cannot be read; the log has the id.
    Unreadable,
    /// Postgres did not answer a question.
    DatabaseUnavailable,
    /// Postgres did not answer an attempt to create a resource, which may exist or not.
    CreationUndecided,
    /// The same for a request without a key, which cannot be repeated to find out.
    UndecidedWithoutKey,
    /// A variable is wrong; the log names it.
    Misconfigured,
}

impl From<CreateError> for Problem {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::KeyReused { id, differs } => Self::KeyReused { id, differs },
            CreateError::Stale(current) => Self::PreconditionFailed { current },
            CreateError::Locked { remaining } => Self::CollectionLocked { remaining },
            CreateError::Unavailable => Self::CreationUndecided,
        }
    }
}

impl From<DatabaseUnavailable> for Problem {
    fn from(DatabaseUnavailable: DatabaseUnavailable) -> Self {
        Self::DatabaseUnavailable
    }
}

impl From<FeedError> for Problem {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::AnotherHistory => Self::CursorOfAnotherHistory,
            FeedError::Unavailable => Self::DatabaseUnavailable,
        }
    }
}

impl Problem {
    /// Why a body of at most `limit` bytes could not be read.
    pub(crate) fn of_body(error: BodyError, limit: usize) -> Self {
        match error {
            BodyError::TooLarge => Self::BodyTooLarge(limit),
            BodyError::Truncated => Self::BodyTruncated,
            BodyError::TimedOut => Self::BodyTimedOut,
        }
    }

    /// The status that the problem is sent with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Key(_)
            | Self::NotJson(_)
            | Self::BodyTruncated
            | Self::Query(_)
            | Self::UnsupportedCondition => StatusCode::BAD_REQUEST,
            Self::Unidentified(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::UnknownPath | Self::NotFound | Self::KeyNotFound | Self::FeedOff => {
                StatusCode::NOT_FOUND
            }
            Self::CursorOfAnotherHistory => StatusCode::GONE,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::CollectionLocked { .. } => StatusCode::CONFLICT,
            Self::PreconditionFailed { .. } | Self::Changed { .. } | Self::ListExists => {
                StatusCode::PRECONDITION_FAILED
            }
            Self::PreconditionRequired => StatusCode::PRECONDITION_REQUIRED,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType(_) | Self::UnsupportedContentCoding => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            Self::Invalid(_) | Self::KeyReused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unreadable | Self::Misconfigured => StatusCode::INTERNAL_SERVER_ERROR,
            Self::DatabaseUnavailable | Self::CreationUndecided | Self::UndecidedWithoutKey => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// What the log calls it.
    fn outcome(&self) -> Outcome {
        match self {
            Self::KeyReused { .. } => Outcome::Reused,
            _ => Outcome::of(self.status()),
        }
    }

    /// The last part of the problem's type, and its title.
    fn kind(&self, collection: &Collection) -> (String, String) {
        let Collection { name, one, .. } = collection;
        let (kind, title) = match self {
            Self::Unidentified(Unidentified::NotNamed | Unidentified::NoToken) => {
                ("unauthenticated", "Authentication required")
            }
            Self::Unidentified(Unidentified::InvalidToken | Unidentified::ExpiredToken) => {
                ("invalid-token", "The token is not valid")
            }
            Self::Forbidden => ("forbidden", "The request is not admitted"),
            Self::Key(KeyError::Missing) => {
                ("idempotency-key-missing", "Idempotency-Key is missing")
            }
            Self::Key(KeyError::Malformed) => {
                ("idempotency-key-malformed", "Idempotency-Key is malformed")
            }
            Self::Key(KeyError::Ambiguous) => {
                ("idempotency-key-ambiguous", "Idempotency-Key is ambiguous")
            }
            Self::UnsupportedMediaType(_) => ("unsupported-media-type", "The body must be JSON"),
            Self::UnsupportedContentCoding => (
                "unsupported-content-encoding",
                "The body must not be compressed",
            ),
            Self::BodyTooLarge(_) => ("body-too-large", "The body is too large"),
            Self::BodyTruncated => ("body-truncated", "The body is incomplete"),
            Self::BodyTimedOut => ("body-timed-out", "The body did not arrive in time"),
            Self::NotJson(_) => ("malformed-json", "The body is not valid JSON"),
            Self::Invalid(_) => {
                return (format!("invalid-{one}"), format!("The {one} is not valid"));
            }
            Self::KeyReused { .. } => {
                let title = format!("Idempotency-Key was used for another {one}");
                return ("idempotency-key-reused".into(), title);
            }
            Self::PreconditionRequired => ("precondition-required", "If-Match is missing"),
            Self::Changed { .. } => ("precondition-failed", "This is not what If-Match names"),
            Self::ListExists => {
                let title = format!("The list of {name} exists");
                return ("precondition-failed".into(), title);
            }
            Self::UnsupportedCondition => (
                "unsupported-condition",
                "If-None-Match is not supported here",
            ),
            Self::PreconditionFailed { .. } => {
                let title = format!("The list of {name} has changed");
                return ("precondition-failed".into(), title);
            }
            Self::CollectionLocked { .. } => {
                let title = format!("Another {one} is being created on a condition");
                return ("collection-locked".into(), title);
            }
            Self::Query(_) => ("invalid-query", "The query is not valid"),
            Self::UnknownPath => ("not-found", "There is nothing at this path"),
            Self::NotFound => {
                return (
                    format!("{one}-not-found"),
                    format!("There is no such {one}"),
                );
            }
            Self::KeyNotFound => (
                "idempotency-key-not-found",
                "No request with this key is known",
            ),
            Self::FeedOff => ("feed-off", "The feed is off"),
            Self::CursorOfAnotherHistory => (
                "cursor-of-another-history",
                "The cursor is of another history of the database",
            ),
            Self::MethodNotAllowed { .. } => ("method-not-allowed", "The method is not allowed"),
            Self::Unreadable => {
                let title = format!("The stored {one} cannot be read");
                return (format!("unreadable-{one}"), title);
            }
            Self::DatabaseUnavailable | Self::CreationUndecided => {
                ("unavailable", "The database is not available")
            }
            Self::UndecidedWithoutKey => {
                let title = format!("It is not known whether the {one} was created");
                return ("undecided".into(), title);
            }
            Self::Misconfigured => ("misconfigured", "The service is not configured correctly"),
        };
        (kind.into(), title.into())
    }

    fn detail(&self, collection: &Collection) -> String {
        let Collection { one, path, .. } = collection;
        match self {
            Self::Unidentified(Unidentified::NotNamed) => {
                "The gateway in front of this service must name the customer, once and in 1 to 128 characters, and not \
                 \"anonymous\", which is reserved."
                    .into()
            }
            Self::Unidentified(Unidentified::NoToken) => "Send Authorization: Bearer with a token.".into(),
            Self::Unidentified(Unidentified::InvalidToken) => "Send a token that is issued for this service.".into(),
            Self::Unidentified(Unidentified::ExpiredToken) => "The token has expired. Get a new one.".into(),
            Self::Forbidden => {
                "Send the request through the gateway, which names the customer.".into()
            }
            Self::Key(KeyError::Missing) => format!(
                "Send an Idempotency-Key header: a value of your choice, such as a UUID. Use a new one for each new \
                 {one} and the same one for every retry."
            ),
            Self::Key(KeyError::Malformed) => format!(
                "Send 1 to {MAX_KEY_CHARS} visible ASCII characters, bare or as one quoted Structured Field string."
            ),
            Self::Key(KeyError::Ambiguous) => {
                "Send Idempotency-Key once. The request has several with different values.".into()
            }
            Self::UnsupportedMediaType(expected) => format!("Send Content-Type: {expected}."),
            Self::UnsupportedContentCoding => "Send the body without Content-Encoding.".into(),
            Self::BodyTooLarge(limit) => format!("Send at most {limit} bytes."),
            Self::BodyTruncated => {
                "The connection ended before the body was complete. Nothing was stored. Send the request again.".into()
            }
            Self::BodyTimedOut => "Nothing was stored. Send the whole request again.".into(),
            Self::NotJson(Malformed(why)) => format!("Send one JSON document: {why}."),
            Self::Invalid(_) => format!(
                "Nothing was stored. Correct the members in \"violations\" and send the {one} again; the same \
                 Idempotency-Key may be used."
            ),
            Self::KeyReused { .. } => format!(
                "This key belongs to the {one} in \"{one}Id\". \"differs\" lists the members in which the {one} that \
                 you sent differs. To repeat the first request, send it unchanged; for another {one}, use a new key."
            ),
            Self::PreconditionRequired => {
                format!("Send If-Match with the ETag of GET {path}. \"*\" needs an Idempotency-Key.")
            }
            Self::Changed { .. } => "Read it without If-Match.".into(),
            Self::ListExists | Self::UnsupportedCondition => format!(
                "Nothing was stored. Leave If-None-Match out. To create the {one} on a state of the list, send If-Match \
                 with the ETag of GET {path}."
            ),
            Self::PreconditionFailed { .. } => format!(
                "This request stored nothing. Read what was added to the list. If you still want the {one}, send it again \
                 with the ETag of this answer in If-Match and, if you sent one, the same Idempotency-Key: an earlier \
                 attempt may still be under way."
            ),
            Self::CollectionLocked { .. } => {
                "This request stored nothing. Send it again after the time in Retry-After.".into()
            }
            Self::Query(QueryError::Unknown) => "Send no parameters but limit and cursor.".into(),
            Self::Query(QueryError::Repeated) => "Send each parameter once.".into(),
            Self::Query(QueryError::Limit) => format!("limit must be a number from 1 to {MAX_LIMIT}."),
            Self::Query(QueryError::Cursor) => {
                "cursor must come from \"next\" of one of your pages. Leave it out to start with the first page.".into()
            }
            Self::Query(QueryError::Parameter { name, rule }) => format!("{name} {rule}."),
            Self::UnknownPath => "See the documentation for the paths of this API.".into(),
            Self::NotFound => format!("Check the {one} id."),
            Self::KeyNotFound => format!(
                "No request with this key has arrived, or it left no trace. A request with the key creates its {one} \
                 once."
            ),
            Self::FeedOff => "The operator turns it on with the variable events_token.".into(),
            Self::CursorOfAnotherHistory => format!(
                "The database has failed over or was restored: events before the cursor may be new. Start again without \
                 after, and ignore each event whose id you know. No {one} is skipped then."
            ),
            Self::MethodNotAllowed { allow } => format!("Use one of: {allow}."),
            Self::Unreadable => "The operator finds the reason in the log.".into(),
            Self::DatabaseUnavailable => "Send the request again.".into(),
            Self::CreationUndecided => format!(
                "It is not known whether the {one} was created. Send the same request with the same Idempotency-Key \
                 again: the {one} is created once, or found."
            ),
            Self::UndecidedWithoutKey => format!(
                "It is not known whether the {one} was created. Do not repeat the request: read GET {path} first, and \
                 send the {one} again only if it is not there. With an Idempotency-Key, the request could be repeated."
            ),
            Self::Misconfigured => "The operator finds the reason in the log.".into(),
        }
    }

    /// The answer of an API to requests for a kind of resource, with links to where it is described.
    pub fn into_response_of(self, resource: &Resource) -> Response {
        let links = resource.documentation.map(|documentation| {
            let (kind, _) = self.kind(&resource.collection);
            let Documentation {
                description,
                reference,
            } = documentation;
            format!("<{description}>; rel=\"service-desc\", <{reference}#{kind}>; rel=\"help\"")
        });
        let response = self.into_response(&resource.collection);
        match links {
            Some(links) => response.with(header::LINK.as_str(), links),
            None => response,
        }
    }

    /// The answer of a collection.
    pub fn into_response(self, collection: &Collection) -> Response {
        let status = self.status();
        let (kind, title) = self.kind(collection);
        let mut document = Document {
            kind: format!("urn:problem-type:{}:{kind}", collection.name),
            title,
            status: status.as_u16(),
            detail: self.detail(collection),
            members: Map::new(),
        };
        let mut response = Response {
            status,
            headers: vec![(
                header::CONTENT_TYPE.as_str(),
                "application/problem+json".to_owned(),
            )],
            body: String::new(),
            outcome: self.outcome(),
        };
        // Without it a cache may keep a 404 or a 405 for as long as it likes (RFC 9111 section 4.2.2).
        response = response.with(header::CACHE_CONTROL.as_str(), "no-store");
        match self {
            Self::KeyReused { id, differs } => {
                let id_member = format!("{}Id", collection.one);
                document.members.insert(id_member, id.to_string().into());
                document.members.insert("differs".into(), differs.into());
            }
            Self::Invalid(violations) => {
                let shown = shown(&violations);
                if shown.len() < violations.len() {
                    let count = violations.len().into();
                    document.members.insert("violationCount".into(), count);
                }
                document.members.insert("violations".into(), shown.into());
            }
            Self::Unidentified(why) => {
                response = response.with(header::WWW_AUTHENTICATE.as_str(), challenge(why));
            }
            Self::MethodNotAllowed { allow } => {
                response = response.with(header::ALLOW.as_str(), allow);
            }
            Self::PreconditionFailed { current } => {
                let etag = ETag::of_state(&current).to_string();
                response = response.with(header::ETAG.as_str(), etag);
            }
            Self::Changed { etag: Some(etag) } => {
                response = response.with(header::ETAG.as_str(), etag.to_string());
            }
            Self::CursorOfAnotherHistory => {
                let first = format!("<{}>; rel=\"first\"", feed_path(collection));
                response = response.with(header::LINK.as_str(), first);
            }
            Self::UnsupportedContentCoding => {
                response = response.with(header::ACCEPT_ENCODING.as_str(), "identity");
            }
            Self::CollectionLocked { remaining } => {
                response = response.with(header::RETRY_AFTER.as_str(), whole_seconds(remaining));
            }
            Self::DatabaseUnavailable | Self::CreationUndecided => {
                response = response.with(header::RETRY_AFTER.as_str(), RETRY_AFTER_SECONDS);
            }
            _ => {}
        }
        response.body = to_json(&document);
        response
    }
}

/// The first violations, as many as fit. A client chooses how many there are and how long their pointers: without a limit, an
/// answer could be ten times as long as its request.
fn shown(violations: &[Violation]) -> Vec<Value> {
    let mut bytes = 0;
    let fits = |violation: &Value| {
        bytes += to_json(violation).len();
        bytes <= MAX_VIOLATION_BYTES
    };
    let first = violations.iter().take(MAX_VIOLATIONS);
    first.map(violation).take_while(fits).collect()
}

/// One violation. In place of a long pointer there is that of the object that contains the member.
fn violation(violation: &Violation) -> Value {
    let Violation { pointer, detail } = violation;
    if pointer.len() <= MAX_POINTER_BYTES {
        return serde_json::json!({"pointer": pointer, "detail": detail});
    }
    let mut parent = pointer.as_str();
    while parent.len() > MAX_POINTER_BYTES {
        parent = parent.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    serde_json::json!({"pointer": parent, "detail": format!("a member with a long name {detail}")})
}

/// As `Retry-After` takes it (RFC 9110 section 10.2.3): rounded up, at least one second.
fn whole_seconds(time: Duration) -> String {
    time.as_millis().div_ceil(1000).max(1).to_string()
}

/// The authentication that the service expects (RFC 9110 section 11.6.1). An error is named only to a client that has
/// sent a token (RFC 6750 section 3.1). No scheme is registered for authentication by a gateway, and a 401 must name one.
fn challenge(why: Unidentified) -> &'static str {
    match why {
        Unidentified::NotNamed => "Gateway",
        Unidentified::NoToken => "Bearer",
        Unidentified::InvalidToken | Unidentified::ExpiredToken => "Bearer error=\"invalid_token\"",
    }
}

/// RFC 9457 section 3.1, and extension members.
#[derive(Serialize)]
struct Document {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    detail: String,
    #[serde(flatten)]
    members: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ORDERS: Collection = Collection {
        name: "orders",
        one: "order",
        path: "/orders",
    };

    #[test]
    fn retry_after_is_in_whole_seconds() {
        for (milliseconds, seconds) in [(0, "1"), (1000, "1"), (1001, "2"), (4999, "5")] {
            let remaining = std::time::Duration::from_millis(milliseconds);
            let response = Problem::CollectionLocked { remaining }.into_response(&ORDERS);
            assert_eq!(response.status, 409);
            let field = ("retry-after", seconds.to_owned());
            assert!(response.headers.contains(&field), "{milliseconds}");
        }
    }

    #[test]
    fn problems_follow_rfc_9457_and_say_what_to_do() {
        let problem = Problem::KeyReused {
            id: ResourceId::parse("01970000-0000-7000-8000-000000000001").expect("an id"),
            differs: vec!["/note".into()],
        };
        let response = problem.into_response(&ORDERS);
        assert_eq!(response.status, 422);
        assert_eq!(
            response.headers,
            [
                ("content-type", "application/problem+json".to_owned()),
                ("cache-control", "no-store".to_owned())
            ]
        );
        let body: Value = serde_json::from_str(&response.body).expect("JSON");
        assert_eq!(
            body["type"],
            "urn:problem-type:orders:idempotency-key-reused"
        );
        assert_eq!(body["status"], 422);
        assert_eq!(body["orderId"], "01970000-0000-7000-8000-000000000001");
        assert_eq!(body["differs"], json!(["/note"]));
        assert!(
            body["detail"]
                .as_str()
                .is_some_and(|d| d.contains("new key"))
        );
    }

    #[test]
    fn an_invalid_document_is_answered_with_its_violations() {
        let violations = vec![Violation {
            pointer: "/items".into(),
            detail: "is required".into(),
        }];
        let response = Problem::Invalid(violations).into_response(&ORDERS);
        assert_eq!(response.status, 422);
        let body: Value = serde_json::from_str(&response.body).expect("JSON");
        assert_eq!(
            body["violations"],
            json!([{"pointer": "/items", "detail": "is required"}])
        );
        assert_eq!(
            (&body["orderId"], &body["differs"]),
            (&Value::Null, &Value::Null)
        );
    }

    #[test]
    fn violations_are_few_and_short_enough() {
        let answer = |violations: Vec<Violation>| {
            let response = Problem::Invalid(violations).into_response(&ORDERS);
            assert!(response.body.len() < 16 * 1024, "{}", response.body.len());
            let body: Value = serde_json::from_str(&response.body).expect("JSON");
            let shown = body["violations"].as_array().expect("violations").len();
            (
                shown,
                body["violationCount"].clone(),
                body["violations"][0].clone(),
            )
        };
        let with_pointer = |pointer: String| Violation {
            pointer,
            detail: "is unknown".into(),
        };
        let short = |count: usize| (0..count).map(|n| with_pointer(format!("/{n}"))).collect();
        assert_eq!(
            answer(short(50)),
            (
                50,
                Value::Null,
                json!({"pointer": "/0", "detail": "is unknown"})
            )
        );
        let (shown, count, _) = answer(short(7_000));
        assert_eq!((shown, count), (50, json!(7_000)));
        // Control characters take six bytes each.
        let (shown, count, _) = answer(vec![with_pointer("\u{1}".repeat(256)); 50]);
        assert!((4..10).contains(&shown), "{shown}");
        assert_eq!(count, 50);
        for (pointer, parent) in [
            (format!("/{}", "x".repeat(60_000)), ""),
            (format!("/items/7/{}", "x".repeat(256)), "/items/7"),
            (format!("/{}/y", "x".repeat(256)), ""),
        ] {
            let expected =
                json!({"pointer": parent, "detail": "a member with a long name is unknown"});
            assert_eq!(
                answer(vec![with_pointer(pointer)]),
                (1, Value::Null, expected)
            );
        }
    }

    #[test]
    fn a_compressed_body_is_told_what_is_accepted() {
        let response = Problem::UnsupportedContentCoding.into_response(&ORDERS);
        assert_eq!(response.status, 415);
        let accepted = ("accept-encoding", "identity".to_owned());
        assert!(response.headers.contains(&accepted));
    }

    #[test]
    fn a_creation_without_a_key_is_not_to_be_repeated_blindly() {
        let response = Problem::UndecidedWithoutKey.into_response(&ORDERS);
        assert_eq!(response.status, 503);
        assert!(
            response
                .headers
                .iter()
                .all(|(name, _)| *name != "retry-after")
        );
        assert!(response.body.contains("read GET /orders first"));
    }

    #[test]
    fn unavailable_asks_for_a_retry() {
        for problem in [Problem::DatabaseUnavailable, Problem::CreationUndecided] {
            let response = problem.into_response(&ORDERS);
            assert_eq!(response.status, 503);
            assert!(response.headers.contains(&("retry-after", "1".to_owned())));
        }
    }
}
