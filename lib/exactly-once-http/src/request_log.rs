//! The request log: one line of JSON per request. It contains no key, no customer and nothing of a body. Paths lose
//! their parameters, and the only headers that are repeated are well-formed ids of the request and of its trace.

use exactly_once::Collection;
use exactly_once::json::to_json;
use serde::Serialize;

use crate::feed::EVENTS;
use crate::head::{Head, text};
use crate::outcome::Outcome;
use crate::respond::{KEYS, beside, segment_below};

const TRACEPARENT: &str = "traceparent";
/// The header of a request's id, in requests and in responses.
pub const REQUEST_ID: &str = "x-request-id";
/// How long an id of a client may be, in bytes.
const MAX_REQUEST_ID: usize = 64;

/// A line of the log. The names of the members are an interface: metrics are derived from them.
#[derive(Clone, Debug, Serialize)]
pub struct LogLine<'l> {
    /// When the response was complete, RFC 3339.
    pub time: String,
    /// See [`route_pattern`].
    pub route: String,
    /// The HTTP status.
    pub status: u16,
    /// The outcome of the request.
    pub outcome: Outcome,
    /// From the request's head to the response, in milliseconds.
    pub duration_ms: f64,
    /// How long the request waited for Redis, in milliseconds.
    pub redis_ms: f64,
    /// How long the request waited for Postgres, in milliseconds.
    pub postgres_ms: f64,
    /// How many commands and statements the request sent.
    pub trips: u32,
    /// The state of the breaker of Redis.
    pub breaker: &'static str,
    /// The client's [`request_id`], or one that was made.
    pub request_id: &'l str,
    /// See [`trace_id`].
    pub trace_id: Option<String>,
}

impl LogLine<'_> {
    /// The line, without a line break.
    pub fn to_json(&self) -> String {
        to_json(self)
    }
}

/// A number of seconds as milliseconds with three decimals.
pub fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1_000_000.0).round() / 1000.0
}

/// The path with `{}` for its parameters, or `other` for an unknown path, which could contain anything.
pub fn route_pattern(collection: &Collection, path: &str) -> String {
    let beside = beside(collection, path);
    match path {
        "/healthz" | "/readyz" => path.to_owned(),
        _ if path == collection.path || matches!(beside, Some("healthz" | "readyz" | EVENTS)) => path.to_owned(),
        _ if segment_below(path, collection.path.trim_end_matches('/')).is_some() => {
            format!("{}/{{}}", collection.path.trim_end_matches('/'))
        }
        _ if beside.is_some_and(|rest| segment_below(rest, KEYS).is_some()) => {
            let (keys, _) = path.rsplit_once('/').unwrap_or_default();
            format!("{keys}/{{}}")
        }
        _ => "other".to_owned(),
    }
}

/// The id that the client gives its request: 1 to 64 letters, digits and `-._=:/+@`, so that it can stand in a log and
/// in a header. `None` when the header is missing, repeated or something else.
pub fn request_id(head: &impl Head) -> Option<String> {
    let [value] = <[_; 1]>::try_from(head.values(REQUEST_ID)).ok()?;
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._=:/+@".contains(byte);
    let is_id = (1..=MAX_REQUEST_ID).contains(&value.len()) && value.iter().all(fits);
    String::from_utf8(value).ok().filter(|_| is_id)
}

/// The trace id of `traceparent` (W3C Trace Context): 32 hexadecimal digits in lower case, not all of them zero. `None`
/// when the header is missing, repeated or malformed.
pub fn trace_id(head: &impl Head) -> Option<String> {
    let values = head.values(TRACEPARENT);
    let [value] = values.as_slice() else {
        return None;
    };
    let mut parts = text(value)?.trim().split('-');
    let mut part = |digits: usize| {
        let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let part = parts.next()?;
        (part.len() == digits && part.chars().all(is_hex)).then_some(part)
    };
    let (version, trace) = (part(2)?, part(32)?);
    let (parent, _flags) = (part(16)?, part(2)?);
    // Versions after 00 may append parts.
    let complete = version != "ff" && (version != "00" || parts.next().is_none());
    let is_set = |part: &str| part.chars().any(|c| c != '0');
    (complete && is_set(trace) && is_set(parent)).then(|| trace.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{Method, TestHead};

    const ORDERS: Collection = Collection { name: "orders", one: "order", path: "/api/v1/orders" };

    #[test]
    fn a_route_is_a_path_without_its_parameters() {
        for (path, pattern) in [
            ("/healthz", "/healthz"),
            ("/readyz", "/readyz"),
            ("/api/v1/orders", "/api/v1/orders"),
            ("/api/v1/orders/s3cret", "/api/v1/orders/{}"),
            ("/api/v1/idempotency-keys/s3cret", "/api/v1/idempotency-keys/{}"),
            ("/api/v1/events", "/api/v1/events"),
            ("/api/v1/orders/events", "/api/v1/orders/events"),
            ("/api/v1/orders/readyz", "/api/v1/orders/readyz"),
            ("/api/v1/orders/idempotency-keys/s3cret", "/api/v1/orders/idempotency-keys/{}"),
            ("/api/v1/events/s3cret", "other"),
            ("/api/v1/orders/", "other"),
            ("/api/v1/orders/s3cret/items", "other"),
            ("/api/v1/idempotency-keys/a/b", "other"),
            ("/s3cret", "other"),
            ("", "other"),
        ] {
            assert_eq!(route_pattern(&ORDERS, path), pattern, "{path}");
        }
        let root = Collection { path: "/", ..ORDERS };
        assert_eq!(route_pattern(&root, "/"), "/");
        assert_eq!(route_pattern(&root, "/s3cret"), "/{}");
    }

    #[test]
    fn a_request_id_is_one_short_word() {
        let id = |fields: &[(&str, &str)]| request_id(&TestHead { method: Method::Get, target: "/", fields });
        let longest = "x".repeat(64);
        for good in ["7", "Root=1-67891233-abcdef012345678912345678", "a/b+c@d:e_f.g", &longest] {
            assert_eq!(id(&[(REQUEST_ID, good)]).as_deref(), Some(good));
        }
        for bad in ["", "a b", "a\"b", "a,b", "ü", &format!("{longest}x")] {
            assert_eq!(id(&[(REQUEST_ID, bad)]), None, "{bad}");
        }
        assert_eq!(id(&[]), None);
        assert_eq!(id(&[(REQUEST_ID, "1"), (REQUEST_ID, "1")]), None);
    }

    #[test]
    fn only_a_well_formed_trace_id_is_repeated() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let id = |fields: &[(&str, &str)]| trace_id(&TestHead { method: Method::Get, target: "/", fields });
        let of = |value: &str| id(&[(TRACEPARENT, value)]);
        assert_eq!(of(&format!("00-{trace}-00f067aa0ba902b7-01")).as_deref(), Some(trace));
        assert_eq!(of(&format!("cc-{trace}-00f067aa0ba902b7-01-more")).as_deref(), Some(trace));
        for bad in [
            String::new(),
            "s3cret".to_owned(),
            format!("00-{trace}-00f067aa0ba902b7"),
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}\"-00f067aa0ba902b7-01", &trace[1..]),
        ] {
            assert_eq!(of(&bad), None, "{bad}");
        }
        assert_eq!(id(&[]), None);
        let good = format!("00-{trace}-00f067aa0ba902b7-01");
        assert_eq!(id(&[(TRACEPARENT, &good), (TRACEPARENT, &good)]), None);
    }
}
