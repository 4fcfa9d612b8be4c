//! The component's API and protocol, natively: the same core over native connections.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use exactly_once_http::respond;
use orders::ORDERS;

use crate::host::NativeHost;
use crate::server::{receive, send};

/// Serves everything that the component serves.
pub fn router(host: NativeHost) -> Router {
    Router::new().fallback(answer).with_state(Arc::new(host))
}

async fn answer(State(host): State<Arc<NativeHost>>, request: Request) -> Response {
    let (head, body) = receive(request);
    send(respond(&ORDERS, &head, body, &*host).await)
}
