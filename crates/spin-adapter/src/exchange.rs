//! Takes a request from Spin and hands the answer back, with as few calls of the host as that takes: each
//! costs about as much as all of the protocol's own computing.

use http::{StatusCode, header};
use spin_sdk::wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use spin_sdk::wasip3::{spawn, wit_future, wit_stream};
use spin_sdk::wit_bindgen::StreamResult;

use crate::http::{self as api, BodyError, MAX_BODY_BYTES};

/// How much a body is taken for that does not say how long it is.
const UNKNOWN_LENGTH: usize = 4096;

/// A request's fields, which stay with the host until somebody asks for one.
pub struct Head(Fields);

impl Head {
    /// The head of the request.
    pub fn of(request: &Request) -> Self {
        Self(request.get_headers())
    }
}

impl api::Fields for Head {
    fn values(&self, name: &str) -> Vec<Vec<u8>> {
        self.0.get(name)
    }
}

/// Its method.
pub fn method(request: &Request) -> api::Method {
    match request.get_method() {
        Method::Get => api::Method::Get,
        Method::Head => api::Method::Head,
        Method::Post => api::Method::Post,
        _ => api::Method::Other,
    }
}

/// Its path and query.
pub fn target(request: &Request) -> String {
    request.get_path_with_query().unwrap_or_default()
}

/// Reads a body up to [`MAX_BODY_BYTES`] and not one chunk further.
pub async fn body(request: Request, head: &Head) -> Result<Vec<u8>, BodyError> {
    // One that does not fit was refused by its head.
    let declared = api::declared_length(head).and_then(|length| usize::try_from(length).ok());
    let (_result, result) = wit_future::new(|| Ok(()));
    let (mut stream, trailers) = Request::consume_body(request, result);
    let mut body = Vec::with_capacity(declared.unwrap_or(UNKNOWN_LENGTH).min(MAX_BODY_BYTES));
    // The declared length is the whole body: waiting to be told so would be another call.
    while declared.is_none_or(|declared| body.len() < declared) {
        if body.len() > MAX_BODY_BYTES {
            return Err(BodyError::TooLarge);
        }
        if body.len() == body.capacity() {
            body.reserve(UNKNOWN_LENGTH);
        }
        let (status, read) = stream.read(body).await;
        body = read;
        if let StreamResult::Dropped | StreamResult::Cancelled = status {
            return match trailers.await {
                Ok(_) if declared.is_none() => Ok(body),
                _ => Err(BodyError::Truncated),
            };
        }
    }
    Ok(body)
}

/// Hands an answer to the host, and its body once the host asks for it.
///
/// `Content-Length` is always set: without it the answer leaves in two segments, and a keep-alive client
/// waits 40 ms for the second one, because Spin does not set TCP_NODELAY. Except where there is nothing to
/// send: with 304 it would have to be that of the answer that is not repeated (RFC 9110 §8.6).
pub fn send(answer: api::Response) -> Result<Response, ErrorCode> {
    let mut fields = Vec::with_capacity(answer.headers.len() + 1);
    if answer.status != StatusCode::NOT_MODIFIED {
        let length = answer.body.len().to_string();
        fields.push((header::CONTENT_LENGTH.to_string(), length.into_bytes()));
    }
    for (name, value) in answer.headers {
        fields.push((name.to_owned(), value.into_bytes()));
    }
    let fields = Fields::from_list(&fields).map_err(|_| ErrorCode::InternalError(None))?;
    let (mut body, contents) = wit_stream::new();
    let (end, trailers) = wit_future::new(|| Err(ErrorCode::InternalError(None)));
    let (response, _result) = Response::new(fields, Some(contents), trailers);
    response
        .set_status_code(answer.status.as_u16())
        .map_err(|()| ErrorCode::InternalError(None))?;
    spawn(async move {
        let left = body.write_all(answer.body.into_bytes()).await;
        drop(body);
        if left.is_empty() {
            // Nobody reads it when the client has gone.
            let _ = end.write(Ok(None)).await;
        }
    });
    Ok(response)
}
