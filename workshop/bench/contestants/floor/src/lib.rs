//! Returns the same few bytes for every request: what a host costs before a component does anything.
#![cfg(target_arch = "wasm32")]

use bytes::Bytes;
use http::HeaderValue;
use spin_sdk::http::{FullBody, Request};
use spin_sdk::http_service;

const ANSWER: &str = "nothing";

#[http_service]
async fn handle(_: Request) -> http::Response<FullBody<Bytes>> {
    let mut response = http::Response::new(FullBody::new(Bytes::from_static(ANSWER.as_bytes())));
    let length = HeaderValue::from(ANSWER.len());
    response.headers_mut().insert(http::header::CONTENT_LENGTH, length);
    response
}
