//! Which pages of other origins may read responses in a browser (CORS, in the Fetch standard). It does not protect the
//! service: only browsers respect it.

use http::{StatusCode, header};

use crate::head::{Head, Method, text};
use crate::outcome::Outcome;
use crate::response::Response;

/// Headers that a page may send; the last three are those of tracing (W3C). The header of `identity=header` is not
/// among them: only a gateway may send it.
const ALLOWED_FIELDS: &str = "authorization, content-type, idempotency-key, if-match, if-none-match, x-request-id, \
                              traceparent, tracestate, baggage";
/// Headers that a page may read, besides those that the Fetch standard allows.
const EXPOSED_FIELDS: &str = "etag, location, idempotent-replayed, retry-after, x-request-id";
/// How long a browser may keep the response to a preflight, in seconds. The longest that all browsers accept is 600.
const MAX_AGE_SECONDS: &str = "600";

/// The origins whose pages may use the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Every origin.
    Any,
    /// These, as browsers send them.
    Listed(Vec<String>),
}

impl Origins {
    /// Reads `*`, or origins that are separated by commas or spaces; `Some(None)` for an empty text.
    ///
    /// # Errors
    /// `None` when no browser sends one of them as `Origin`: it could never match.
    #[allow(clippy::option_option, reason = "no origin is not a mistake")]
    pub fn parse(list: &str) -> Option<Option<Self>> {
        match listed(list).as_slice() {
            [] => Some(None),
            ["*"] => Some(Some(Self::Any)),
            listed => listed.iter().all(|origin| is_origin(origin)).then(|| {
                let listed = listed.iter().map(|origin| (*origin).to_owned());
                Some(Self::Listed(listed.collect()))
            }),
        }
    }

    /// The response to a preflight of a page that may use the API, at a path with the methods `allow`; `more` are
    /// headers besides the usual ones. A preflight carries no credentials, so no customer is identified.
    pub fn preflight(&self, head: &impl Head, allow: &str, more: &str) -> Option<Response> {
        let asked = || head.values(header::ACCESS_CONTROL_REQUEST_METHOD.as_str());
        if head.method() != Method::Options || asked().is_empty() {
            return None;
        }
        let origin = self.allowed(head)?;
        let comma = if more.is_empty() { "" } else { ", " };
        let fields = [ALLOWED_FIELDS, comma, more].concat();
        let response = Response {
            status: StatusCode::NO_CONTENT,
            headers: Vec::new(),
            body: String::new(),
            outcome: Outcome::Read,
        };
        Some(
            response
                .with(header::ACCESS_CONTROL_ALLOW_ORIGIN.as_str(), origin)
                .with(header::ACCESS_CONTROL_ALLOW_METHODS.as_str(), allow)
                .with(header::ACCESS_CONTROL_ALLOW_HEADERS.as_str(), fields)
                .with(header::ACCESS_CONTROL_MAX_AGE.as_str(), MAX_AGE_SECONDS),
        )
    }

    /// A response that pages of these origins may read.
    pub fn share(&self, head: &impl Head, response: Response) -> Response {
        match self.allowed(head) {
            Some(origin) => response
                .with(header::ACCESS_CONTROL_ALLOW_ORIGIN.as_str(), origin)
                .with(header::ACCESS_CONTROL_EXPOSE_HEADERS.as_str(), EXPOSED_FIELDS),
            None => response,
        }
    }

    /// Whether responses differ by `Origin`.
    pub fn vary(&self) -> bool {
        matches!(self, Self::Listed(_))
    }

    /// The value of `Access-Control-Allow-Origin`, if the request comes from a page that may use the API.
    fn allowed(&self, head: &impl Head) -> Option<String> {
        let values = head.values(header::ORIGIN.as_str());
        let [value] = values.as_slice() else {
            return None;
        };
        let origin = text(value)?;
        match self {
            Self::Any => Some("*".to_owned()),
            Self::Listed(listed) => listed.iter().find(|one| *one == origin).cloned(),
        }
    }
}

/// The parts of a list that commas or spaces separate.
#[inline(never)]
pub fn listed(list: &str) -> Vec<&str> {
    list.split([',', ' ']).filter(|part| !part.is_empty()).collect()
}

/// Whether a browser could send this as `Origin`: scheme, host and, unless it is the default, port; in lower case.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let only = |text: &str, others: &[u8]| {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || others.contains(&byte);
        !text.is_empty() && text.bytes().all(fits)
    };
    let own_port = match scheme {
        "http" => authority.ends_with(":80"),
        "https" => authority.ends_with(":443"),
        _ => false,
    };
    only(scheme, b"+-.") && only(authority, b"-._:[]") && !own_port
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::TestHead;

    const SHOP: &str = "https://shop.example";

    fn origins(list: &str) -> Origins {
        Origins::parse(list).flatten().expect("origins")
    }

    fn from<'t>(method: Method, fields: &'t [(&'t str, &'t str)]) -> TestHead<'t> {
        TestHead { method, target: "/", fields }
    }

    fn field<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
        let found = response.headers.iter().find(|(other, _)| *other == name);
        found.map(|(_, value)| value.as_str())
    }

    #[test]
    fn origins_are_what_browsers_send() {
        assert_eq!(Origins::parse(""), Some(None));
        assert_eq!(Origins::parse(" , "), Some(None));
        assert_eq!(origins("*"), Origins::Any);
        let two = [SHOP.to_owned(), "http://127.0.0.1:8080".to_owned()];
        let listed = origins("https://shop.example, http://127.0.0.1:8080");
        assert_eq!(listed, Origins::Listed(two.to_vec()));
        assert!(Origins::parse("capacitor://localhost http://[::1]:3000").is_some());
        for never_sent in [
            "shop.example",
            "https://shop.example/",
            "https://Shop.example",
            "https://shop.example:443",
            "http://shop.example:80",
            "https://*.shop.example",
            "https://u@shop.example",
            "https://",
            "://shop.example",
            "null",
            "* https://shop.example",
        ] {
            assert_eq!(Origins::parse(never_sent), None, "{never_sent}");
        }
    }

    #[test]
    fn an_answer_is_shared_with_the_pages_of_listed_origins() {
        let shared = |origins: &Origins, fields: &[(&str, &str)]| {
            let answer = Response::json(StatusCode::OK, "{}".to_owned());
            let shared = origins.share(&from(Method::Get, fields), answer);
            let exposed = field(&shared, "access-control-expose-headers").map(str::to_owned);
            let allowed = field(&shared, "access-control-allow-origin").map(str::to_owned);
            assert_eq!(exposed.is_some(), allowed.is_some());
            assert_eq!(field(&shared, "access-control-allow-credentials"), None);
            assert!(exposed.is_none_or(|fields| fields == EXPOSED_FIELDS));
            allowed
        };
        let listed = origins(SHOP);
        assert_eq!(shared(&listed, &[("origin", SHOP)]), Some(SHOP.to_owned()));
        for other in ["https://evil.example", "https://shop.example.evil", "null"] {
            assert_eq!(shared(&listed, &[("origin", other)]), None, "{other}");
            let any = shared(&Origins::Any, &[("origin", other)]);
            assert_eq!(any, Some("*".to_owned()));
        }
        assert_eq!(shared(&listed, &[]), None);
        assert_eq!(shared(&listed, &[("origin", SHOP), ("origin", SHOP)]), None);
        assert!(listed.vary() && !Origins::Any.vary());
    }

    #[test]
    fn a_preflight_is_answered_to_listed_origins() {
        let asks = ("access-control-request-method", "POST");
        let listed = origins(SHOP);
        let good = [("origin", SHOP), asks];
        let answer = listed.preflight(&from(Method::Options, &good), "GET, HEAD, POST", "x-own");
        let answer = answer.expect("allowed");
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        assert_eq!(field(&answer, "access-control-allow-origin"), Some(SHOP));
        let methods = field(&answer, "access-control-allow-methods");
        assert_eq!(methods, Some("GET, HEAD, POST"));
        let fields = field(&answer, "access-control-allow-headers").expect("fields");
        assert!(fields.contains("idempotency-key") && !fields.contains("x-user-id"));
        assert!(fields.ends_with(", traceparent, tracestate, baggage, x-own"), "{fields}");

        let refused = |method, fields: &[(&str, &str)]| listed.preflight(&from(method, fields), "GET", "").is_none();
        assert!(refused(Method::Post, &good));
        assert!(refused(Method::Options, &[("origin", SHOP)]));
        assert!(refused(Method::Options, &[asks]));
        assert!(refused(Method::Options, &[("origin", "https://evil.example"), asks]));
    }
}
