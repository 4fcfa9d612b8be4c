//! The component's API and protocol, natively: the same core and composition over native connections.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use exactly_once_http::respond;
use orders::ORDERS;
use tokio_util::task::LocalPoolHandle;

use crate::host::{NativeHost, Service};
use crate::server::{receive, send};

/// Serves everything that the component serves, on as many threads as there are processors.
pub fn router(service: Service) -> Router {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let state = (LocalPoolHandle::new(threads), service);
    Router::new().fallback(answer).with_state(state)
}

async fn answer(
    State((threads, service)): State<(LocalPoolHandle, Service)>,
    request: Request,
) -> Response {
    let answered = threads.spawn_pinned(|| async move {
        let (head, body) = receive(request);
        send(respond(&ORDERS, &head, body, &NativeHost::new(&service)).await)
    });
    // It is an error where the request's task has panicked.
    let failed = StatusCode::INTERNAL_SERVER_ERROR;
    answered.await.unwrap_or_else(|_| failed.into_response())
}
