//! A request's way to its response: a file with its validators and the browser's restrictions, or a problem (RFC 9457).

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LINK, LOCATION,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde_json::json;

use crate::files::{File, Found, find};

/// Pages run the scripts and styles of this origin and no others, ask only this origin, and are in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The links to the API's description (RFC 8631).
const DESCRIBED: &str = "</openapi.json>; rel=\"service-desc\", </reference/>; rel=\"service-doc\"";

/// A browser asks each time whether its copy is current: names of files stay the same when their content changes.
const CACHED: &str = "no-cache";

const METHODS: &str = "GET, HEAD";

/// Why a response has no file.
enum Problem {
    NotFound,
    MethodNotAllowed,
}

/// Answers a request. The host leaves the body of a response to `HEAD` out.
pub fn respond(method: &Method, path: &str, fields: &HeaderMap) -> Response<Bytes> {
    let found = find(path);
    let mut response = match (found, method) {
        (Found::Nothing, _) => problem(&Problem::NotFound),
        (_, method) if !matches!(*method, Method::GET | Method::HEAD) => problem(&Problem::MethodNotAllowed),
        (Found::Moved(to), _) => moved(to),
        (Found::File(file), _) if is_current(file, fields) => not_modified(file),
        (Found::File(file), _) => whole(file),
    };
    let headers = response.headers_mut();
    set(headers, X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(headers, REFERRER_POLICY, "no-referrer");
    set(headers, CONTENT_SECURITY_POLICY, POLICY);
    response
}

fn whole(file: &'static File) -> Response<Bytes> {
    let mut response = answer(StatusCode::OK, Bytes::from_static(file.content));
    let headers = response.headers_mut();
    set(headers, CONTENT_TYPE, file.content_type);
    set(headers, ETAG, file.etag);
    set(headers, CACHE_CONTROL, CACHED);
    if let "text/html; charset=utf-8" | "application/json" = file.content_type {
        set(headers, LINK, DESCRIBED);
    }
    response
}

fn not_modified(file: &'static File) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    set(response.headers_mut(), ETAG, file.etag);
    set(response.headers_mut(), CACHE_CONTROL, CACHED);
    response
}

fn moved(to: &'static str) -> Response<Bytes> {
    let mut response = answer(StatusCode::PERMANENT_REDIRECT, Bytes::new());
    set(response.headers_mut(), LOCATION, to);
    set(response.headers_mut(), CACHE_CONTROL, CACHED);
    response
}

fn problem(problem: &Problem) -> Response<Bytes> {
    let (status, kind, link, title, detail) = match problem {
        Problem::NotFound => (
            StatusCode::NOT_FOUND,
            "not-found",
            "</openapi.json>; rel=\"service-desc\", </reference/#not-found>; rel=\"help\"",
            "There is nothing at this path",
            "The console is at /, the description of the API at /openapi.json, its reference at \
             /reference/."
                .to_owned(),
        ),
        Problem::MethodNotAllowed => (
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "</openapi.json>; rel=\"service-desc\", </reference/#method-not-allowed>; rel=\"help\"",
            "The method is not allowed",
            format!("Use one of: {METHODS}."),
        ),
    };
    let document = json!({
        "type": format!("urn:problem-type:orders:{kind}"),
        "title": title,
        "status": status.as_u16(),
        "detail": detail,
    });
    let mut response = answer(status, document.to_string().into());
    let headers = response.headers_mut();
    set(headers, CONTENT_TYPE, "application/problem+json");
    // Without it a cache may keep a 404 or a 405 for as long as it likes (RFC 9111 section 4.2.2).
    set(headers, CACHE_CONTROL, "no-store");
    set(headers, LINK, link);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        set(headers, ALLOW, METHODS);
    }
    response
}

/// A response with its length: without one, Spin sends it in two segments, and the client waits 40 ms for the second.
fn answer(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

/// Whether the client has this very content already (RFC 9110 section 13.1.2: tags are compared weakly).
fn is_current(file: &File, fields: &HeaderMap) -> bool {
    fields
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == file.etag)
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails panics")]

    use super::*;

    fn get(path: &str) -> Response<Bytes> {
        respond(&Method::GET, path, &HeaderMap::new())
    }

    fn field(response: &Response<Bytes>, name: HeaderName) -> &str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn a_page_has_its_type_its_length_and_its_restrictions() {
        let page = get("/");
        assert_eq!(page.status(), 200);
        assert_eq!(field(&page, CONTENT_TYPE), "text/html; charset=utf-8");
        let length = page.body().len().to_string();
        assert_eq!(field(&page, CONTENT_LENGTH), length);
        assert_eq!(field(&page, CACHE_CONTROL), "no-cache");
        for path in ["/", "/none", "/console"] {
            let page = get(path);
            assert_eq!(field(&page, X_CONTENT_TYPE_OPTIONS), "nosniff");
            assert_eq!(field(&page, REFERRER_POLICY), "no-referrer");
            let policy = field(&page, CONTENT_SECURITY_POLICY);
            assert!(policy.starts_with("default-src 'none'; "), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
        }
    }

    #[test]
    fn every_file_is_served_where_it_lies() {
        for (path, content_type) in [
            ("/console/console.js", "text/javascript; charset=utf-8"),
            ("/console/console.css", "text/css; charset=utf-8"),
            ("/openapi.json", "application/json"),
            ("/reference/", "text/html; charset=utf-8"),
            ("/reference/reference.js", "text/javascript; charset=utf-8"),
            ("/reference/reference.css", "text/css; charset=utf-8"),
        ] {
            let file = get(path);
            assert_eq!(file.status(), 200, "{path}");
            assert_eq!(field(&file, CONTENT_TYPE), content_type, "{path}");
        }
    }

    #[test]
    fn a_page_says_where_the_api_is_described() {
        for path in ["/", "/reference/", "/openapi.json"] {
            assert_eq!(field(&get(path), LINK), DESCRIBED, "{path}");
        }
        assert_eq!(field(&get("/console/console.js"), LINK), "");
        let problem = get("/none");
        assert!(field(&problem, LINK).ends_with("</reference/#not-found>; rel=\"help\""));
        let page = get("/reference/");
        let page = std::str::from_utf8(page.body()).unwrap();
        for id in ["not-found", "method-not-allowed"] {
            assert!(page.contains(&format!("<section id=\"{id}\">")), "{id}");
        }
    }

    #[test]
    fn a_copy_with_the_current_tag_is_enough() {
        let etag = field(&get("/"), ETAG).to_owned();
        for (sent, status) in [
            (etag.clone(), 304),
            (format!("\"other\", W/{etag}"), 304),
            ("*".into(), 304),
            ("\"other\"".into(), 200),
            (etag.trim_matches('"').into(), 200),
        ] {
            let fields = HeaderMap::from_iter([(IF_NONE_MATCH, sent.parse().unwrap())]);
            let answer = respond(&Method::GET, "/", &fields);
            assert_eq!(answer.status(), status, "{sent}");
            assert_eq!(field(&answer, ETAG), etag);
            assert_eq!(answer.body().is_empty(), status == 304, "{sent}");
        }
    }

    #[test]
    fn what_is_not_there_is_a_problem() {
        for path in ["/none", "/console/none.js", "/index", "/console/../index.html"] {
            let answer = get(path);
            assert_eq!(answer.status(), 404, "{path}");
            assert_eq!(field(&answer, CONTENT_TYPE), "application/problem+json");
            let document: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!(document["type"], "urn:problem-type:orders:not-found");
        }
    }

    #[test]
    fn other_methods_are_refused() {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let answer = respond(&method, "/", &HeaderMap::new());
            assert_eq!(answer.status(), 405, "{method}");
            assert_eq!(field(&answer, ALLOW), "GET, HEAD");
        }
        assert_eq!(respond(&Method::POST, "/none", &HeaderMap::new()).status(), 404);
        assert_eq!(respond(&Method::HEAD, "/", &HeaderMap::new()).status(), 200);
    }

    #[test]
    fn a_folder_without_its_slash_is_elsewhere() {
        for (path, to) in [("/console", "/"), ("/console/", "/"), ("/reference", "/reference/")] {
            let answer = get(path);
            assert_eq!(answer.status(), 308, "{path}");
            assert_eq!(field(&answer, LOCATION), to);
        }
    }
}
