//! Serves a router as a careful user would: keep-alive, TCP_NODELAY, bounded bodies. Converts between axum's requests
//! and responses and the core's.

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use exactly_once_http::{self as api, BodyError};
use http_body_util::LengthLimitError;
use tokio::net::TcpListener;

/// How long a body may take to arrive; the component's limit.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Serves until the process ends.
pub async fn serve(router: Router, listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await?.tap_io(|stream| {
        // A connection that is closed already fails when it is read.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

/// A request as the core reads it.
pub fn receive(request: Request) -> (Head, Body) {
    let (head, body) = request.into_parts();
    (Head(head), Body(body))
}

/// A request's head.
pub struct Head(Parts);

impl api::Head for Head {
    fn method(&self) -> api::Method {
        match self.0.method {
            Method::GET => api::Method::Get,
            Method::HEAD => api::Method::Head,
            Method::POST => api::Method::Post,
            _ => api::Method::Other,
        }
    }

    fn target(&self) -> String {
        let target = self.0.uri.path_and_query();
        target.map(ToString::to_string).unwrap_or_default()
    }

    fn values(&self, name: &str) -> Vec<Vec<u8>> {
        let values = self.0.headers.get_all(name).iter();
        values.map(|value| value.as_bytes().to_vec()).collect()
    }
}

/// A request's body.
pub struct Body(axum::body::Body);

impl api::Body for Body {
    async fn read(self, _: Option<u64>, limit: usize) -> Result<Vec<u8>, BodyError> {
        let body = tokio::time::timeout(BODY_DEADLINE, to_bytes(self.0, limit)).await;
        match body.map_err(|_| BodyError::TimedOut)? {
            Ok(body) => Ok(body.into()),
            Err(error) if error.source().is_some_and(|cause| cause.is::<LengthLimitError>()) => {
                Err(BodyError::TooLarge)
            }
            Err(_) => Err(BodyError::Truncated),
        }
    }
}

/// A response of the core, for axum.
pub fn send(answer: api::Response) -> Response {
    let mut response = (answer.status, answer.body).into_response();
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
