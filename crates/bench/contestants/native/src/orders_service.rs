//! The component's protocol, natively: the same core over native connections.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use orders::create::KeyReuse;
use orders::http::{self as api, Problem};

use crate::server::{receive, send};
use crate::stores::{RandomIds, Stores};

/// Serves the creation of orders.
pub fn router(stores: Stores) -> Router {
    Router::new()
        .route("/api/v1/orders", post(create))
        .with_state(stores)
}

async fn create(State(stores): State<Stores>, request: Request) -> Response {
    let answer = async {
        let (scope, body) = receive(request).await?;
        api::create(scope, &body, KeyReuse::Reject, &stores, &stores, &RandomIds).await
    };
    send(answer.await.unwrap_or_else(Problem::into_response))
}
