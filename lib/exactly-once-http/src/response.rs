//! A complete response.

use http::{StatusCode, header};
use serde_json::json;

use crate::outcome::Outcome;

/// A complete response. It has its whole body, so that the sender can set `Content-Length`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// Headers other than `Content-Length`, names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
    /// For the log; it is not sent.
    pub outcome: Outcome,
}

impl Response {
    /// A response with a JSON body.
    pub fn json(status: StatusCode, body: String) -> Self {
        Self::of_type("application/json", status, body)
    }

    /// A response with a body of that type.
    pub fn of_type(media_type: &str, status: StatusCode, body: String) -> Self {
        Self {
            status,
            headers: vec![(header::CONTENT_TYPE.as_str(), media_type.to_owned())],
            body,
            outcome: Outcome::of(status),
        }
    }

    /// A problem (RFC 9457) of an API that has problems besides [`crate::Problem`]. `kind` is the last part of its
    /// type.
    pub fn problem(status: StatusCode, collection: &str, kind: &str, title: &str, detail: &str) -> Self {
        let problem = json!({
            "type": format!("urn:problem-type:{collection}:{kind}"),
            "title": title,
            "status": status.as_u16(),
            "detail": detail,
        });
        Self::of_type("application/problem+json", status, problem.to_string())
            .with(header::CACHE_CONTROL.as_str(), "no-store")
    }

    /// The same response with an outcome that its status does not imply.
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// The same response with one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
