//! Spin's HTTP, Redis, Postgres, SQLite, variables and clock behind the traits of `exactly-once-http` and
//! `exactly-once-stores`: values are translated, and nothing is decided. Exists on wasm32 only, because spin-sdk does not link
//! natively.
//!
//! A component is one call of [`component!`]. State that outlives a request is in the instance, which Spin keeps for up
//! to 128 requests.

#![cfg(target_arch = "wasm32")]

mod database;
mod exchange;
mod host;
mod ids;
mod log;
mod platform;
mod postgres;
mod redis;
mod signals;
mod sqlite;
mod variables;

pub use exchange::{RequestBody, RequestHead, receive, send};
pub use host::{Database, SpinHost};

#[doc(hidden)]
pub use spin_sdk::wasip3;

/// Makes a crate the component that answers requests about resources of a type with a function such as
/// `exactly_once_http::respond`; or, where there is no such type, requests about a collection. The SDK's `#[http_service]` would
/// convert every request and answer, which takes a third more calls of the host.
#[macro_export]
macro_rules! component {
    (of $collection:expr, $respond:path) => {
        struct Component;

        $crate::wasip3::http::service::export!(Component);

        impl $crate::wasip3::exports::http::handler::Guest for Component {
            async fn handle(
                request: $crate::wasip3::http::types::Request,
            ) -> Result<$crate::wasip3::http::types::Response, $crate::wasip3::http::types::ErrorCode>
            {
                let collection = $collection;
                let host = $crate::SpinHost::for_collection(&collection);
                let (head, body) = $crate::receive(request, &host);
                let answer = $respond(&head, body, &host).await;
                host.log(&head, &answer).await;
                $crate::send(answer)
            }
        }
    };
    ($resource:ty, $respond:path) => {
        $crate::component!(of <$resource as ::exactly_once::Resource>::COLLECTION, $respond);
    };
}
