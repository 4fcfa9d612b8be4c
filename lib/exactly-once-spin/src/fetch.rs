//! Fetches the keys of tokens over HTTP. A feature: it takes 18 KB of a component, most of them for the host's errors.

use std::time::Duration;

use exactly_once::single_flight::SingleFlight;
use exactly_once_http::{MAX_BODY_BYTES, Unfetched};
use exactly_once_stores::deadline::Timer;
use http::StatusCode;
use spin_sdk::wasip3::http::client;
use spin_sdk::wasip3::http::types::{Fields, Request, Response, Scheme};
use spin_sdk::wasip3::wit_future;

use crate::exchange::read;
use crate::platform::Spin;
use crate::signals::TaskSignals;

/// How long a fetch may take.
const DEADLINE: Duration = Duration::from_secs(2);

thread_local! {
    /// What the requests of this instance fetch. Never dropped, which saves the code for it.
    static FLIGHT: &'static SingleFlight<TaskSignals> = Box::leak(Box::new(SingleFlight::new(TaskSignals)));
}

/// See [`exactly_once_http::Host::fetch`].
pub async fn fetch(url: &str, timer: &Timer<Spin>) -> Result<Vec<u8>, Unfetched> {
    let _flight = FLIGHT.with(|flight| *flight).join().await.ok_or(Unfetched::AskedByAnother)?;
    let body = timer.within_time(DEADLINE, get(url)).await;
    body.flatten().ok_or(Unfetched::NoAnswer)
}

async fn get(url: &str) -> Option<Vec<u8>> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
    let (_end, trailers) = wit_future::new(|| Ok(None));
    let (request, _result) = Request::new(Fields::new(), None, trailers, None);
    let scheme = if scheme == "http" { Scheme::Http } else { Scheme::Https };
    request.set_scheme(Some(&scheme)).ok()?;
    request.set_authority(Some(authority)).ok()?;
    request.set_path_with_query(Some(path)).ok()?;
    let response = client::send(request).await.ok()?;
    if response.get_status_code() != StatusCode::OK.as_u16() {
        return None;
    }
    let (_result, result) = wit_future::new(|| Ok(()));
    let (stream, trailers) = Response::consume_body(response, result);
    read(stream, trailers, None, MAX_BODY_BYTES).await.ok()
}
