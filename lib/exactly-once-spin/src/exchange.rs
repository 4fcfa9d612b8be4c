//! Takes a request from Spin and returns the response, with as few calls of the host as possible: each call costs about
//! as much as all of the protocol's own computing.

use std::cell::OnceCell;
use std::time::Duration;

use exactly_once_http::{Body, BodyError, Head, Method};
use exactly_once_stores::deadline::Timer;
use http::{StatusCode, header};
use spin_sdk::wasip3::http::types::{ErrorCode, Fields, Method as WasiMethod, Request, Response};
use spin_sdk::wasip3::{spawn, wit_future, wit_stream};
use spin_sdk::wit_bindgen::{FutureReader, StreamReader, StreamResult};

use crate::host::SpinHost;
use crate::platform::Spin;

/// How much memory is reserved for a body that does not declare its length, in bytes.
const UNKNOWN_LENGTH: usize = 4096;

/// The longest time that a body may take to arrive. Spin itself waits for ever.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// A request's head. Its headers stay with the host until one of them is asked for; then all are taken at once.
pub struct RequestHead {
    method: Method,
    target: String,
    fields: Fields,
    headers: OnceCell<Vec<(String, Vec<u8>)>>,
}

impl Head for RequestHead {
    fn method(&self) -> Method {
        self.method
    }

    fn target(&self) -> String {
        self.target.clone()
    }

    fn values(&self, name: &str) -> Vec<Vec<u8>> {
        let headers = self.headers.get_or_init(|| self.fields.copy_all());
        let named = headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.clone()).collect()
    }
}

/// A request's body.
pub struct RequestBody<'h> {
    request: Request,
    timer: &'h Timer<Spin>,
}

/// Takes a request apart.
pub fn receive(request: Request, host: &SpinHost) -> (RequestHead, RequestBody<'_>) {
    let head = RequestHead {
        method: match request.get_method() {
            WasiMethod::Get => Method::Get,
            WasiMethod::Head => Method::Head,
            WasiMethod::Post => Method::Post,
            WasiMethod::Options => Method::Options,
            _ => Method::Other,
        },
        target: request.get_path_with_query().unwrap_or_default(),
        fields: request.get_headers(),
        headers: OnceCell::new(),
    };
    let timer = host.timer();
    (head, RequestBody { request, timer })
}

impl Body for RequestBody<'_> {
    async fn read(self, declared: Option<u64>, limit: usize) -> Result<Vec<u8>, BodyError> {
        let (_result, result) = wit_future::new(|| Ok(()));
        let (stream, trailers) = Request::consume_body(self.request, result);
        let arrival = read(stream, trailers, declared, limit);
        let body = self.timer.within_time(BODY_DEADLINE, arrival).await;
        body.unwrap_or(Err(BodyError::TimedOut))
    }
}

/// Reads a body to its end, or up to the limit and not one chunk further. Its declared length is not its end: beside
/// `Transfer-Encoding`, which hosts remove from the head, it means nothing, and more chunks may follow.
pub(crate) async fn read(
    mut stream: StreamReader<u8>,
    trailers: FutureReader<Result<Option<Fields>, ErrorCode>>,
    declared: Option<u64>,
    limit: usize,
) -> Result<Vec<u8>, BodyError> {
    let declared = declared.and_then(|length| usize::try_from(length).ok());
    // One byte more: the end is read into it.
    let mut body = Vec::with_capacity(declared.unwrap_or(UNKNOWN_LENGTH).min(limit) + 1);
    loop {
        if body.len() > limit {
            return Err(BodyError::TooLarge);
        }
        if body.len() == body.capacity() {
            body.reserve(UNKNOWN_LENGTH);
        }
        let (status, read) = stream.read(body).await;
        body = read;
        if let StreamResult::Dropped | StreamResult::Cancelled = status {
            // If the declared length has arrived, this does not wait for the trailers.
            if declared == Some(body.len()) {
                return Ok(body);
            }
            return match trailers.await {
                Ok(_) if declared.is_none_or(|declared| declared < body.len()) => Ok(body),
                _ => Err(BodyError::Truncated),
            };
        }
    }
}

/// Returns a response to the host, and its body once the host asks for it.
///
/// `Content-Length` is always set: without it the response is sent in two segments, and a keep-alive client waits 40 ms
/// for the second one, because Spin does not set TCP_NODELAY. A 204 must have none, and a 304 has none: it would have
/// to be the length of the response that is not repeated (RFC 9110 section 8.6).
///
/// # Errors
/// The host rejects a header or the status.
pub fn send(answer: exactly_once_http::Response) -> Result<Response, ErrorCode> {
    let mut fields = Vec::with_capacity(answer.headers.len() + 2);
    if !matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        let length = answer.body.len().to_string();
        fields.push((header::CONTENT_LENGTH.to_string(), length.into_bytes()));
    }
    // A browser must not take an order's text for a page.
    fields.push((header::X_CONTENT_TYPE_OPTIONS.to_string(), b"nosniff".to_vec()));
    for (name, value) in answer.headers {
        fields.push((name.to_owned(), value.into_bytes()));
    }
    let fields = Fields::from_list(&fields).map_err(|_| ErrorCode::InternalError(None))?;
    let (mut body, contents) = wit_stream::new();
    // What the host gets when `end` is dropped. It finds out itself that a body is shorter than its `Content-Length`.
    let (end, trailers) = wit_future::new(|| Ok(None));
    let (response, _result) = Response::new(fields, Some(contents), trailers);
    response.set_status_code(answer.status.as_u16()).map_err(|()| ErrorCode::InternalError(None))?;
    spawn(async move {
        // Something is left when the client has gone.
        body.write_all(answer.body.into_bytes()).await;
        drop((body, end));
    });
    Ok(response)
}
