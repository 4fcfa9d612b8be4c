//! Serves a router as a careful user would: keep-alive, TCP_NODELAY, bounded bodies.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use orders::create::conditional::Precondition;
use orders::customer::Customer;
use orders::http::{self as api, BodyError, MAX_BODY_BYTES, Operation, Problem, Route};
use orders::idempotency::KeyScope;
use tokio::net::TcpListener;

/// How long a body may take to arrive; the component's limit.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Serves until the process ends.
pub async fn serve(router: Router, listen: SocketAddr) -> Result<()> {
    let router = router.route("/healthz", get(|| async { send(api::health()) }));
    let listener = TcpListener::bind(listen).await?.tap_io(|stream| {
        // A connection that is gone already says so when it is read.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

/// Judges a request for a new order and reads its body.
pub async fn receive(request: axum::extract::Request) -> Result<(KeyScope, Bytes), Problem> {
    let (head, body) = request.into_parts();
    let Route::Of(resource) = api::route(method(&head.method), head.uri.path())? else {
        return Err(Problem::UnknownPath);
    };
    match resource.admit(
        Customer::anonymous(),
        head.uri.query(),
        &Fields(&head.headers),
        Precondition::Key,
    )? {
        Operation::CreateRequest(scope) => Ok((scope, read(body).await?)),
        _ => Err(Problem::UnknownPath),
    }
}

fn method(method: &Method) -> api::Method {
    match *method {
        Method::GET => api::Method::Get,
        Method::HEAD => api::Method::Head,
        Method::POST => api::Method::Post,
        _ => api::Method::Other,
    }
}

struct Fields<'h>(&'h HeaderMap);

impl api::Fields for Fields<'_> {
    fn values(&self, name: &str) -> Vec<Vec<u8>> {
        let values = self.0.get_all(name).iter();
        values.map(|value| value.as_bytes().to_vec()).collect()
    }
}

async fn read(body: Body) -> Result<Bytes, BodyError> {
    tokio::time::timeout(BODY_DEADLINE, to_bytes(body, MAX_BODY_BYTES))
        .await
        .map_err(|_| BodyError::TimedOut)?
        .map_err(|_| BodyError::Truncated)
}

/// An answer of the core, on the wire.
pub fn send(answer: api::Response) -> Response {
    let mut response = (answer.status, answer.body).into_response();
    for (name, value) in answer.headers {
        if let Ok(value) = http::HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
