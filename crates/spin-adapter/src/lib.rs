//! Spin's HTTP, Redis, Postgres, variables and clock behind the traits of `http_api` and `protocol`. Exists on wasm32
//! only, because spin-sdk does not link natively.
//!
//! A component calls [`export!`] and [`serve`]. State that outlives a request is in the instance's statics, which Spin
//! keeps for up to 128 requests.

#![cfg(target_arch = "wasm32")]

mod connection_cache;
mod deadline;
mod exchange;
mod host;
mod ids;
mod postgres;
mod redis;
mod signals;
mod variables;

use protocol::Resource;

pub use exchange::{RequestBody, RequestHead, receive, send};
pub use host::SpinHost;
pub use spin_sdk::wasip3::exports::http::handler::Guest;
pub use spin_sdk::wasip3::http::types::{ErrorCode, Request, Response};

#[doc(hidden)]
pub use spin_sdk::wasip3 as __wasip3;

/// Exports a type that implements [`Guest`] as the component's HTTP handler. `#[http_service]` would convert every request
/// and answer, which takes a third more calls of the host.
#[macro_export]
macro_rules! export {
    ($component:ident) => {
        $crate::__wasip3::http::service::export!($component);
    };
}

/// Answers a request with the API of a resource.
///
/// # Errors
/// The host did not take the answer.
pub async fn serve<R: Resource>(request: Request) -> Result<Response, ErrorCode> {
    let host = SpinHost::for_collection(&R::COLLECTION);
    let (head, body) = receive(request, &host);
    send(http_api::respond::<R>(&head, body, &host).await)
}
