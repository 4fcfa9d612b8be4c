//! A complete response.

use exactly_once::json::to_json;
use http::{StatusCode, header};

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
        let kind = format!("urn:problem-type:{collection}:{kind}");
        let [kind, title, detail] = [&kind, title, detail].map(|text| to_json(&text));
        let code = status.as_u16();
        let problem = format!(r#"{{"type":{kind},"title":{title},"status":{code},"detail":{detail}}}"#);
        // Without no-store a cache may keep a 404 or a 405 for as long as it likes (RFC 9111 section 4.2.2).
        Self::of_type("application/problem+json", status, problem).with(header::CACHE_CONTROL.as_str(), "no-store")
    }

    /// The same response with an outcome that its status does not imply.
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// The same response with `base` in front of its paths: in `Location`, `Link` and a page's `next`. In a body, no
    /// text within a string looks like `next`: quotation marks are escaped there.
    #[must_use]
    pub fn below(mut self, base: &str) -> Self {
        for (name, value) in &mut self.headers {
            match *name {
                "location" => value.insert_str(0, base),
                "link" => {
                    *value = value.replace("</", &format!("<{base}/"));
                    self.body = self.body.replace("\"next\":\"/", &format!("\"next\":\"{base}/"));
                }
                _ => {}
            }
        }
        self
    }

    /// The same response with one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_with_the_base() {
        let body = r#"{"orders":[{"note":"\"next\":\"/"}],"next":"/orders?cursor=1"}"#;
        let page = Response::json(StatusCode::OK, body.to_owned())
            .with("link", "</orders?cursor=1>; rel=\"next\", </a>; rel=\"help\"")
            .with("location", "/orders/1")
            .below("/shop");
        assert_eq!(page.body, body.replace("/orders", "/shop/orders"));
        let values: Vec<&str> = page.headers.iter().map(|(_, value)| value.as_str()).collect();
        let links = "</shop/orders?cursor=1>; rel=\"next\", </shop/a>; rel=\"help\"";
        assert_eq!(values, ["application/json", links, "/shop/orders/1"]);
    }
}
