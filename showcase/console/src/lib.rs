//! The component that serves the console, the API's description (`/openapi.json`) and its reference page: static files,
//! embedded. It asks no store and knows no order; a deployment may leave it out.

mod files;
mod respond;

pub use respond::respond;

/// What Spin calls. The SDK's conversions cost little beside the content of a page.
#[cfg(target_arch = "wasm32")]
mod component {
    use bytes::Bytes;
    use spin_sdk::http::{FullBody, Request};
    use spin_sdk::http_service;

    #[http_service]
    async fn handle(request: Request) -> http::Response<FullBody<Bytes>> {
        let (head, _) = request.into_parts();
        crate::respond(&head.method, head.uri.path(), &head.headers).map(FullBody::new)
    }
}
