//! Spin's HTTP, Redis, Postgres, SQLite, variables and clock behind the traits of `exactly-once-http` and
//! `exactly-once-stores`: they translate values and decide nothing. Exists on wasm32 only, because spin-sdk does not
//! link natively.
//!
//! A component is one call of [`component!`]. State that outlives a request is in the instance, which Spin keeps for up
//! to 128 requests.

#![cfg(target_arch = "wasm32")]

mod database;
mod exchange;
#[cfg(feature = "fetch")]
mod fetch;
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

#[doc(hidden)]
pub use exactly_once_http::respond;

/// Makes a crate the component that serves a resource (a static [`exactly_once::Resource`]); or, with a function such
/// as `exactly_once_http::respond` without its first argument, one that responds to requests about a collection in its
/// own way. The SDK's `#[http_service]` would convert every request and response, which takes a third more calls of the
/// host.
#[macro_export]
macro_rules! component {
    ($collection:expr, $respond:path) => {
        $crate::component!(@ $collection, |head, body, host| $respond(head, body, host));
    };
    ($resource:expr) => {
        $crate::component!(@ $resource.collection, |head, body, host| $crate::respond(&$resource, head, body, host));
    };
    (@ $collection:expr, |$head:ident, $body:ident, $host:ident| $answer:expr) => {
        struct Component;

        $crate::wasip3::http::service::export!(Component);

        impl $crate::wasip3::exports::http::handler::Guest for Component {
            async fn handle(
                request: $crate::wasip3::http::types::Request,
            ) -> Result<$crate::wasip3::http::types::Response, $crate::wasip3::http::types::ErrorCode>
            {
                let collection = $collection;
                let spin = $crate::SpinHost::for_collection(&collection);
                let (read, $body) = $crate::receive(request, &spin);
                let ($head, $host) = (&read, &spin);
                let answer = $answer.await;
                $crate::send(spin.finish(&read, answer).await)
            }
        }
    };
}
