//! Every error response in one table: status, stable type, title, what the caller can do next (RFC 9457), and the
//! header that only it has. A store's own words about a failure cannot get in here.

use std::time::Duration;

use exactly_once::error::{CreateError, DatabaseError};
use exactly_once::json::{Malformed, to_json};
use exactly_once::key::{KeyError, MAX_KEY_CHARS};
use exactly_once::{Collection, Documentation, ListState, Resource, ResourceId, Violation};
use http::{StatusCode, header};

use crate::etag::ETag;
use crate::head::BodyError;
use crate::identity::Unidentified;
use crate::outcome::Outcome;
use crate::query::{MAX_LIMIT, QueryError};
use crate::response::Response;
use crate::violations::shown;

/// How long a client should wait before it repeats a request for which a store did not respond, in seconds.
const RETRY_AFTER_SECONDS: &str = "1";

/// Why a request is rejected. The titles of the table below say what each variant means.
#[allow(missing_docs, reason = "the titles of the table")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    Unidentified(Unidentified),
    Forbidden,
    Key(KeyError),
    /// The one that is expected.
    UnsupportedMediaType(&'static str),
    UnsupportedContentCoding,
    /// The limit, in bytes.
    BodyTooLarge(usize),
    BodyTruncated,
    BodyTimedOut,
    NotJson(Malformed),
    Invalid(Vec<Violation>),
    /// The key belongs to this resource; `differs` has JSON Pointers.
    KeyReused {
        id: ResourceId,
        differs: Vec<String>,
    },
    /// A condition is required, and there is none; or it matches any state, and there is no key.
    PreconditionRequired,
    /// `If-Match` of a read names another tag than the present one; the present tag, if there is one.
    Changed {
        etag: Option<ETag>,
    },
    /// `If-None-Match: *` on a request to create: the list exists.
    ListExists,
    /// Another `If-None-Match` on a request to create.
    UnsupportedCondition,
    /// `If-Match` on a request to create is not a list of tags.
    MalformedCondition,
    /// The list is in another state than the condition expects.
    PreconditionFailed {
        current: ListState,
    },
    /// Another request is creating a resource on a condition; the rest of its lease.
    CollectionLocked {
        remaining: Duration,
    },
    Query(QueryError),
    UnknownPath,
    /// There is no such resource, or it is another customer's.
    NotFound,
    /// No request with this key is known, or it is another customer's.
    KeyNotFound,
    FeedOff,
    /// The path of the feed.
    CursorOfAnotherHistory {
        feed: String,
    },
    /// The supported methods, as in the `Allow` header.
    MethodNotAllowed {
        allow: &'static str,
    },
    /// The log has the id.
    Unreadable,
    /// The issuer of tokens did not respond, and its keys are not known.
    KeysUnavailable,
    /// The database did not respond to a read.
    DatabaseUnavailable,
    /// The database cannot hold a value of the request.
    ValueRejected,
    /// Another database has the customer.
    Misdirected,
    /// The database did not respond to an attempt to create a resource, which may exist or not.
    CreationUndecided,
    /// The same for a request without a key, which cannot be repeated to find out.
    UndecidedWithoutKey,
    /// The log names the variable.
    Misconfigured,
    /// The same for a probe of readiness, which gets the names of the variables.
    WrongVariables(Vec<&'static str>),
}

impl From<CreateError> for Problem {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::KeyReused { id, differs } => Self::KeyReused { id, differs },
            CreateError::Stale(current) => Self::PreconditionFailed { current },
            CreateError::Locked { remaining } => Self::CollectionLocked { remaining },
            CreateError::Unavailable => Self::CreationUndecided,
            CreateError::ValueRejected => Self::ValueRejected,
            CreateError::Elsewhere => Self::Misdirected,
        }
    }
}

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Unavailable => Self::DatabaseUnavailable,
            DatabaseError::ValueRejected => Self::ValueRejected,
            DatabaseError::Elsewhere => Self::Misdirected,
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
        self.row().status
    }

    /// What `{value}` stands for in the text of its row.
    fn value(&self) -> String {
        match self {
            Self::Key(_) => MAX_KEY_CHARS.to_string(),
            Self::UnsupportedMediaType(text) | Self::MethodNotAllowed { allow: text } => (*text).into(),
            Self::BodyTooLarge(limit) => limit.to_string(),
            Self::NotJson(Malformed(why)) => why.clone(),
            Self::Query(QueryError::Parameter { name, rule }) => format!("{name} {rule}"),
            Self::Query(_) => MAX_LIMIT.to_string(),
            Self::WrongVariables(names) => names.join(", "),
            _ => String::new(),
        }
    }

    /// The value of the header that its row names.
    fn field_value(&self) -> Option<String> {
        Some(match self {
            Self::Unidentified(why) => challenge(*why).into(),
            Self::MethodNotAllowed { allow } => (*allow).into(),
            Self::PreconditionFailed { current } => ETag::of_state(current).to_string(),
            Self::Changed { etag } => etag.as_ref()?.to_string(),
            Self::CursorOfAnotherHistory { feed } => format!("<{feed}>; rel=\"first\""),
            Self::UnsupportedContentCoding => "identity".into(),
            Self::CollectionLocked { remaining } => whole_seconds(*remaining),
            Self::KeysUnavailable | Self::DatabaseUnavailable | Self::CreationUndecided | Self::Misdirected => {
                RETRY_AFTER_SECONDS.into()
            }
            _ => return None,
        })
    }

    /// The members that only it has, as JSON, each after a comma.
    fn members(&self, collection: &Collection) -> String {
        match self {
            Self::KeyReused { id, differs } => {
                format!(r#","differs":{},"{}":"{id}""#, to_json(differs), collection.id_member())
            }
            Self::PreconditionFailed { current } => format!(r#","state":"{current}""#),
            Self::Invalid(violations) => {
                let shown = shown(violations);
                let count = match violations.len() {
                    count if count > shown.len() => format!(r#","violationCount":{count}"#),
                    _ => String::new(),
                };
                format!(r#"{count},"violations":[{}]"#, shown.join(","))
            }
            _ => String::new(),
        }
    }

    /// The response of an API to requests for a kind of resource, with links to its description.
    pub fn into_response_of(self, resource: &Resource) -> Response {
        let links = resource.documentation.map(|documentation| {
            let kind = row_text(self.row().kind, &resource.collection, "-");
            let Documentation { description, reference } = documentation;
            format!("<{description}>; rel=\"service-desc\", <{reference}#{kind}>; rel=\"help\"")
        });
        let response = self.into_response(&resource.collection);
        match links {
            Some(links) => response.with(header::LINK.as_str(), links),
            None => response,
        }
    }

    /// The response of a collection.
    pub fn into_response(self, collection: &Collection) -> Response {
        let row = self.row();
        let prose = |template| row_text(template, collection, " ");
        let outcome = match self {
            Self::KeyReused { .. } => Outcome::Reused,
            _ => Outcome::of(row.status),
        };
        // Last: the value may contain anything.
        let detail = prose(row.detail).replace("{value}", &self.value());
        let (kind, title) = (row_text(row.kind, collection, "-"), prose(row.title));
        let mut response = Response::problem(row.status, collection.name, &kind, &title, &detail);
        if let Some(value) = self.field_value() {
            response = response.with(row.field, value);
        }
        response.outcome = outcome;
        response.body.pop();
        response.body += &self.members(collection);
        response.body.push('}');
        response
    }
}

/// A row of the table of problems. In its texts, `{name}`, `{one}` and `{path}` are the collection's, and `{value}` is
/// a limit or a part of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The status.
    pub status: StatusCode,
    /// The last part of the problem's type.
    pub kind: &'static str,
    /// The title.
    pub title: &'static str,
    /// The header that it may have besides those of every problem, in lower case; empty if there is none.
    pub field: &'static str,
    /// What the caller can do.
    pub detail: &'static str,
}

/// A text of a row for a collection, with this between the words of its names.
#[inline(never)]
pub(crate) fn row_text(template: &str, collection: &Collection, between: &str) -> String {
    let [name, one] = [collection.name, collection.one].map(|words| words.replace('_', between));
    let text = template.replace("{one}Id", &collection.id_member());
    text.replace("{name}", &name).replace("{one}", &one).replace("{path}", collection.path)
}

/// The table, once as a constant and once by problem.
macro_rules! problems {
    ($($problem:pat, $status:ident, $kind:literal, $title:literal, $field:literal, $detail:literal;)*) => {
        /// All rows. Two problems of one type differ in what the caller can do.
        pub const PROBLEMS: &[Row] = &[$(problems!($status $kind $title $field $detail)),*];

        impl Problem {
            /// The row of this problem.
            pub fn row(&self) -> Row {
                match self { $($problem => problems!($status $kind $title $field $detail),)* }
            }
        }
    };
    ($status:ident $kind:literal $title:literal $field:literal $detail:literal) => {
        Row { status: StatusCode::$status, kind: $kind, title: $title, field: $field, detail: $detail }
    };
}

// problem, status, type, title, header, what the caller can do
problems! {
    Self::Key(KeyError::Missing), BAD_REQUEST, "idempotency-key-missing", "Idempotency-Key is missing", "",
        "Send an Idempotency-Key header: a value of your choice, such as a UUID. Use a new one for each new {one} and \
         the same one for every retry.";
    Self::Key(KeyError::Malformed), BAD_REQUEST, "idempotency-key-malformed", "Idempotency-Key is malformed", "",
        "Send 1 to {value} visible ASCII characters, bare or as one quoted Structured Field string.";
    Self::Key(KeyError::Ambiguous), BAD_REQUEST, "idempotency-key-ambiguous", "Idempotency-Key is ambiguous", "",
        "Send Idempotency-Key once. The request has several with different values.";
    Self::NotJson(_), BAD_REQUEST, "malformed-json", "The body is not valid JSON", "",
        "Send one JSON document: {value}.";
    Self::BodyTruncated, BAD_REQUEST, "body-truncated", "The body is incomplete", "",
        "The connection ended before the body was complete. Nothing was stored. Send the request again.";
    Self::UnsupportedCondition, BAD_REQUEST, "unsupported-condition", "If-None-Match is not supported here", "",
        "Nothing was stored. Leave If-None-Match out. To create the {one} on a state of the list, send If-Match with \
         the ETag of GET {path}.";
    Self::MalformedCondition, BAD_REQUEST, "malformed-condition", "If-Match is malformed", "",
        "Nothing was stored. Send the ETag of GET {path} as it is, with its quotation marks, or \"*\".";
    Self::Query(QueryError::Unknown), BAD_REQUEST, "invalid-query", "The query is not valid", "",
        "Send no parameters but limit, cursor and createdAfter.";
    Self::Query(QueryError::Repeated), BAD_REQUEST, "invalid-query", "The query is not valid", "",
        "Send each parameter once.";
    Self::Query(QueryError::Limit), BAD_REQUEST, "invalid-query", "The query is not valid", "",
        "limit must be a number from 1 to {value}.";
    Self::Query(QueryError::Cursor), BAD_REQUEST, "invalid-query", "The query is not valid", "",
        "cursor must come from \"next\" of one of your pages. Leave it out to start with the first page.";
    Self::Query(QueryError::Parameter { .. }), BAD_REQUEST, "invalid-query", "The query is not valid", "", "{value}.";
    Self::Unidentified(Unidentified::NotNamed), UNAUTHORIZED, "unauthenticated",
        "Authentication required", "www-authenticate",
        "The gateway in front of this service must name the customer, once and in 1 to 128 characters without commas, \
         and not \"anonymous\", which is reserved.";
    Self::Unidentified(Unidentified::NoToken), UNAUTHORIZED, "unauthenticated",
        "Authentication required", "www-authenticate",
        "Send Authorization: Bearer with a token.";
    Self::Unidentified(Unidentified::InvalidToken | Unidentified::UnknownKey), UNAUTHORIZED, "invalid-token",
        "The token is not valid", "www-authenticate",
        "Send a token that is issued for this service.";
    Self::Unidentified(Unidentified::KeyNotNamed), UNAUTHORIZED, "invalid-token",
        "The token is not valid", "www-authenticate",
        "Send a token whose header names its key (kid): several keys fit.";
    Self::Unidentified(Unidentified::ExpiredToken), UNAUTHORIZED, "invalid-token",
        "The token is not valid", "www-authenticate",
        "The token has expired. Get a new one.";
    Self::Forbidden, FORBIDDEN, "forbidden", "The request is not admitted", "",
        "Send the request through the gateway, which names the customer.";
    Self::UnknownPath, NOT_FOUND, "not-found", "There is nothing at this path", "",
        "See the documentation for the paths of this API.";
    Self::NotFound, NOT_FOUND, "{one}-not-found", "There is no such {one}", "", "Check the {one} id.";
    Self::KeyNotFound, NOT_FOUND, "idempotency-key-not-found", "No request with this key is known", "",
        "No request with this key has arrived, or it left no trace. A request with the key creates its {one} once.";
    Self::FeedOff, NOT_FOUND, "feed-off", "The feed is off", "",
        "The operator turns it on with the variable events_token. A distributed table has no feed.";
    Self::MethodNotAllowed { .. }, METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed", "allow",
        "Use one of: {value}.";
    Self::BodyTimedOut, REQUEST_TIMEOUT, "body-timed-out", "The body did not arrive in time", "",
        "Nothing was stored. Send the whole request again.";
    Self::CollectionLocked { .. }, CONFLICT, "collection-locked",
        "Another {one} is being created on a condition", "retry-after",
        "This request stored nothing. Send it again after the time in Retry-After.";
    Self::CursorOfAnotherHistory { .. }, GONE, "cursor-of-another-history",
        "The cursor is of another history of the database", "link",
        "The database has failed over or was restored: events before the cursor may be new. Start again without after, \
         and ignore each event whose id you know. No {one} is skipped then.";
    Self::ListExists, PRECONDITION_FAILED, "precondition-failed", "The list of {name} exists", "",
        "Nothing was stored. Leave If-None-Match out. To create the {one} on a state of the list, send If-Match with \
         the ETag of GET {path}.";
    Self::PreconditionFailed { .. }, PRECONDITION_FAILED, "precondition-failed",
        "The list of {name} has changed", "etag",
        "This request stored nothing. Read what was added to the list. If you still want the {one}, send it again with \
         the ETag of this answer in If-Match and, if you sent one, the same Idempotency-Key: an earlier attempt may \
         still be under way.";
    Self::Changed { .. }, PRECONDITION_FAILED, "precondition-failed", "This is not what If-Match names", "etag",
        "Read it without If-Match.";
    Self::BodyTooLarge(_), PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large", "",
        "Send at most {value} bytes.";
    Self::UnsupportedMediaType(_), UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body must be JSON", "",
        "Send Content-Type: {value}.";
    Self::UnsupportedContentCoding, UNSUPPORTED_MEDIA_TYPE, "unsupported-content-encoding",
        "The body must not be compressed", "accept-encoding",
        "Send the body without Content-Encoding.";
    Self::Misdirected, MISDIRECTED_REQUEST, "misdirected", "Another database has the customer's {name}", "retry-after",
        "The gateway has sent the request to the wrong place, or the customer is being moved. Send the same request \
         again, with the same Idempotency-Key.";
    Self::Invalid(_), UNPROCESSABLE_ENTITY, "invalid-{one}", "The {one} is not valid", "",
        "Nothing was stored. Correct the members in \"violations\" and send the {one} again; the same Idempotency-Key \
         may be used.";
    Self::KeyReused { .. }, UNPROCESSABLE_ENTITY, "idempotency-key-reused",
        "Idempotency-Key was used for another {one}", "",
        "This key belongs to the {one} in \"{one}Id\". \"differs\" lists the members in which the {one} that you sent \
         differs. To repeat the first request, send it unchanged; for another {one}, use a new key.";
    Self::PreconditionRequired, PRECONDITION_REQUIRED, "precondition-required", "If-Match is missing", "",
        "Send If-Match with the ETag of GET {path}. \"*\" needs an Idempotency-Key.";
    Self::Misconfigured, INTERNAL_SERVER_ERROR, "misconfigured", "The service is not configured correctly", "",
        "The operator finds the reason in the log.";
    Self::WrongVariables(_), INTERNAL_SERVER_ERROR, "misconfigured", "The service is not configured correctly", "",
        "Missing or wrong: {value}. The operator finds the rules in the log.";
    Self::Unreadable, INTERNAL_SERVER_ERROR, "unreadable-{one}", "The stored {one} cannot be read", "",
        "The operator finds the reason in the log.";
    Self::ValueRejected, INTERNAL_SERVER_ERROR, "value-rejected", "The database cannot hold a value of the request", "",
        "Nothing was stored, and the same request would be rejected again. The operator finds the reason in the log.";
    Self::KeysUnavailable, SERVICE_UNAVAILABLE, "unavailable", "The keys of tokens are not available", "retry-after",
        "Send the request again.";
    Self::DatabaseUnavailable, SERVICE_UNAVAILABLE, "unavailable", "The database is not available", "retry-after",
        "Send the request again.";
    Self::CreationUndecided, SERVICE_UNAVAILABLE, "unavailable", "The database is not available", "retry-after",
        "It is not known whether the {one} was created. Send the same request with the same Idempotency-Key again: the \
         {one} is created once, or found.";
    Self::UndecidedWithoutKey, SERVICE_UNAVAILABLE, "undecided", "It is not known whether the {one} was created", "",
        "It is not known whether the {one} was created. Do not repeat the request: read GET {path} first, and send the \
         {one} again only if it is not there. With an Idempotency-Key, the request could be repeated.";
}

/// As `Retry-After` takes it (RFC 9110 section 10.2.3): rounded up, at least one second.
fn whole_seconds(time: Duration) -> String {
    time.as_millis().div_ceil(1000).max(1).to_string()
}

/// The authentication that the service expects (RFC 9110 section 11.6.1). An error is named only to a client that has
/// sent a token (RFC 6750 section 3.1). No scheme is registered for authentication by a gateway; a 401 must name one.
fn challenge(why: Unidentified) -> &'static str {
    match why {
        Unidentified::NotNamed => "Gateway",
        Unidentified::NoToken => "Bearer",
        Unidentified::InvalidToken
        | Unidentified::UnknownKey
        | Unidentified::KeyNotNamed
        | Unidentified::ExpiredToken => "Bearer error=\"invalid_token\"",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ORDERS: Collection = Collection { name: "orders", one: "order", path: "/orders" };

    fn body_of(problem: Problem) -> Value {
        let response = problem.into_response(&ORDERS);
        serde_json::from_str(&response.body).expect("JSON")
    }

    #[test]
    fn every_field_is_the_one_of_the_row() {
        let locked = |milliseconds| {
            let remaining = Duration::from_millis(milliseconds);
            Problem::CollectionLocked { remaining }
        };
        for (problem, status, value) in [
            (locked(0), 409, Some("1")),
            (locked(1000), 409, Some("1")),
            (locked(1001), 409, Some("2")),
            (locked(4999), 409, Some("5")),
            (Problem::DatabaseUnavailable, 503, Some("1")),
            (Problem::CreationUndecided, 503, Some("1")),
            // It must not be repeated blindly.
            (Problem::UndecidedWithoutKey, 503, None),
            (Problem::UnsupportedContentCoding, 415, Some("identity")),
            (Problem::BodyTruncated, 400, None),
        ] {
            let field = problem.row().field;
            let response = problem.into_response(&ORDERS);
            let mut expected =
                vec![("content-type", "application/problem+json".to_owned()), ("cache-control", "no-store".to_owned())];
            expected.extend(value.map(|value| (field, value.to_owned())));
            assert_eq!(field.is_empty(), value.is_none());
            assert_eq!((response.status.as_u16(), response.headers), (status, expected));
        }
    }

    #[test]
    fn problems_follow_rfc_9457_and_say_what_to_do() {
        let problem = Problem::KeyReused {
            id: ResourceId::parse("01970000-0000-7000-8000-000000000001").expect("an id"),
            differs: vec!["/note".into()],
        };
        let body = body_of(problem);
        assert_eq!(body["type"], "urn:problem-type:orders:idempotency-key-reused");
        assert_eq!(body["status"], 422);
        assert_eq!(body["orderId"], "01970000-0000-7000-8000-000000000001");
        assert_eq!(body["differs"], json!(["/note"]));
        let detail = "Send one JSON document: {one}{value}.";
        let why = Malformed("{one}{value}".into());
        assert_eq!(body_of(Problem::NotJson(why))["detail"], detail);
        let violation = Violation::new("/x", "is unknown");
        let count = |violations| body_of(Problem::Invalid(violations))["violationCount"].clone();
        assert_eq!(count(vec![violation.clone()]), Value::Null);
        assert_eq!(count(vec![violation; 51]), 51);
        let undecided = body_of(Problem::UndecidedWithoutKey)["detail"].to_string();
        assert!(undecided.contains("read GET /orders first"));
    }
}
