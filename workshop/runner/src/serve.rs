//! Accepts HTTP requests and lets instances serve them; reuses instances as Spin does.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use wasmtime::component::GuestTaskId;
use wasmtime::{Store, StoreContextMut};
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, Proxy, ProxyHandler, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use crate::calls;
use crate::host::{Guest, HostState};
use crate::manifest::{Route, best_route};

/// How many requests may be in progress in instances; more wait. ProxyHandler has no limit, a burst can start
/// an instance per request, and each can take two of the 1000 stacks of the pool in [`crate::host`]. Without a
/// stack an instance traps, and every request that it serves fails.
const MAX_CONCURRENT_REQUESTS: usize = 400;

/// When instances are reused and when they are dropped: flags of Spin.
#[derive(Clone, Copy, Debug)]
pub struct Reuse {
    /// Requests an instance serves in all.
    pub max_count: usize,
    /// Requests an instance serves at once.
    pub max_concurrent: usize,
    /// How long a request may take; `None` is without limit.
    pub request_timeout: Option<Duration>,
    /// How long an instance is kept without a request.
    pub idle_timeout: Duration,
}

/// When an instance that has accepted a request is asked for the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Asked {
    /// When its next event has been handled, such as a reply of a store, as in Spin.
    #[default]
    AfterAnEvent,
    /// As soon as the request waits.
    AtOnce,
}

/// How to serve.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// When instances are reused.
    pub reuse: Reuse,
    /// When an instance is asked for its next request.
    pub instances_asked: Asked,
    /// Whether [`calls::PATH`] shows the counters.
    pub shows_calls: bool,
    /// Whether TCP_NODELAY is set on accepted connections.
    pub tcp_nodelay: bool,
    /// How many bytes the head of a request may have.
    pub http1_max_buf_size: Option<usize>,
}

struct GuestHandler {
    guest: Guest,
    reuse: Reuse,
    asked: Asked,
    stopping: Arc<AtomicBool>,
}

/// The settings of an instance's worker.
struct Worker {
    reuse: Reuse,
    asked: Asked,
    /// Set when the process stops. An instance that is dropped from then on has not failed.
    stopping: Arc<AtomicBool>,
}

impl HandlerState for GuestHandler {
    type StoreData = HostState;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<HostState, Expiration, Worker>> {
        let (store, service) = self.guest.instantiate().await?;
        Ok(Instance {
            store,
            proxy: Proxy::P3(service),
            view: HostState::http,
            expiration: Expiration { reuse: self.reuse, sleep: Box::pin(tokio::time::sleep(Duration::MAX)) },
            state: Worker { reuse: self.reuse, asked: self.asked, stopping: self.stopping.clone() },
        })
    }
}

impl WorkerState for Worker {
    type StoreData = HostState;
    type RequestData = ();

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        if total >= self.reuse.max_count {
            ShouldAccept::Never
        } else if concurrent >= self.reuse.max_concurrent {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, HostState>,
        (): (),
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        let timeout = self.reuse.request_timeout;
        let mut asks = self.asked == Asked::AtOnce;
        Box::pin(async move {
            if asks {
                // ProxyHandler asks a worker once each time that its task runs: one wake-up more, and it asks again.
                poll_fn(|cx| {
                    if std::mem::take(&mut asks) {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Poll::Ready(())
                })
                .await;
            }
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        })
    }

    fn drop(&self, store: Store<HostState>, result: Result<(), wasmtime::Error>) {
        if let Err(error) = result
            && !self.stopping.load(Ordering::Relaxed)
        {
            eprintln!("runner: an instance failed: {error:?}");
        }
        drop(store);
    }
}

/// Ends an instance that was idle, or busy, for too long.
struct Expiration {
    reuse: Reuse,
    sleep: Pin<Box<Sleep>>,
}

impl WorkerExpiration for Expiration {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, status: WorkerStatus, start: Instant) -> Poll<()> {
        let this = self.get_mut();
        let timeout = match status {
            WorkerStatus::Idle => Some(this.reuse.idle_timeout),
            WorkerStatus::Requests | WorkerStatus::PostReturn => this.reuse.request_timeout,
        };
        let Some(deadline) = timeout.and_then(|timeout| start.checked_add(timeout)) else {
            return Poll::Pending;
        };
        if this.sleep.deadline() != deadline.into() {
            this.sleep.as_mut().reset(deadline.into());
        }
        this.sleep.as_mut().poll(cx)
    }
}

/// The application: its routes and their components.
pub struct Server {
    routes: Vec<Route>,
    handlers: HashMap<String, ProxyHandler<GuestHandler>>,
    permits: Semaphore,
    stopping: Arc<AtomicBool>,
    options: Options,
}

impl Server {
    /// Connects routes to components, which are given by id.
    pub fn new(routes: Vec<Route>, guests: HashMap<String, Guest>, options: Options) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let handler = |guest| {
            ProxyHandler::new(GuestHandler {
                guest,
                reuse: options.reuse,
                asked: options.instances_asked,
                stopping: stopping.clone(),
            })
        };
        Self {
            routes,
            handlers: guests.into_iter().map(|(id, guest)| (id, handler(guest))).collect(),
            permits: Semaphore::new(MAX_CONCURRENT_REQUESTS),
            stopping,
            options,
        }
    }

    /// Serves until `stop` resolves. Requests in flight end with the runtime, as in Spin.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: impl Future<Output = ()>) -> Result<()> {
        let mut stop = std::pin::pin!(stop);
        loop {
            let (stream, client) = tokio::select! {
                accepted = accept(&listener, self.options.tcp_nodelay) => {
                    // As in Spin, an error ends the process: most likely no file descriptor is left.
                    accepted.context("accepting a connection")?
                }
                () = &mut stop => break,
            };
            let (server, max_buf_size) = (self.clone(), self.options.http1_max_buf_size);
            let service = service_fn(move |request| {
                let server = server.clone();
                async move { Ok::<_, Infallible>(server.answer(request, client).await) }
            });
            tokio::spawn(async move {
                let mut builder = Builder::new(TokioExecutor::new());
                if let Some(size) = max_buf_size {
                    builder.http1().max_buf_size(size);
                }
                // A client that has gone away is not an error.
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
        self.stopping.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn answer(&self, request: Request<Incoming>, client: SocketAddr) -> Response<WasiBody> {
        let path = request.uri().path();
        if path == "/.well-known/spin/health" {
            return plain(StatusCode::OK, "OK");
        }
        if self.options.shows_calls && path == calls::PATH {
            return plain(StatusCode::OK, calls::to_json());
        }
        let found =
            best_route(&self.routes, path).and_then(|route| Some((route, self.handlers.get(&route.component)?)));
        let Some((route, handler)) = found else {
            return plain(StatusCode::NOT_FOUND, "");
        };
        let Some(request) = prepare(request, route, client) else {
            return plain(StatusCode::BAD_REQUEST, "");
        };
        let Ok(_permit) = self.permits.acquire().await else {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "");
        };
        match handler.handle((), request).await {
            Ok(response) => response,
            Err(error) => {
                eprintln!("runner: a request failed: {error:?}");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "")
            }
        }
    }
}

/// Accepts the next connection.
async fn accept(listener: &TcpListener, tcp_nodelay: bool) -> std::io::Result<(TcpStream, SocketAddr)> {
    let (stream, client) = listener.accept().await?;
    if tcp_nodelay {
        // Fails if the connection is closed already, which reading from it will report.
        let _ = stream.set_nodelay(true);
    }
    Ok((stream, client))
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<WasiBody> {
    let body = Full::new(body.into());
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// Gives the request the absolute URI and the headers that Spin gives it. `None` if it has no valid host, or
/// a header that is not text.
fn prepare(request: Request<Incoming>, route: &Route, client: SocketAddr) -> Option<Request<WasiBody>> {
    let (mut head, body) = request.into_parts();
    let host = match head.headers.get(header::HOST) {
        Some(value) => Some(value.to_str().ok()?.parse::<Authority>().ok()?),
        None => None,
    };
    let mut uri = head.uri.into_parts();
    let authority = match (host, uri.authority) {
        (Some(host), Some(authority)) if host != authority => return None,
        (host, authority) => host.or(authority)?,
    };
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(authority.clone());
    head.uri = Uri::from_parts(uri).ok()?;
    head.headers.remove(header::CONNECTION);
    if head.headers.values().any(|v| std::str::from_utf8(v.as_bytes()).is_err()) {
        return None;
    }
    add_spin_fields(&mut head.headers, &head.uri, &authority, route, client);
    let body = body.map_err(wasmtime_wasi_http::Error::from).boxed_unsync();
    Some(Request::from_parts(head, body))
}

fn add_spin_fields(fields: &mut HeaderMap, uri: &Uri, authority: &Authority, route: &Route, client: SocketAddr) {
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let below = uri.path().strip_prefix(&route.prefix).unwrap_or_default();
    let below = if route.wildcard { below } else { "" };
    for (name, value) in [
        ("spin-path-info", below.to_owned()),
        ("spin-full-url", format!("http://{authority}{path}")),
        ("spin-matched-route", route.raw.clone()),
        ("spin-base-path", "/".to_owned()),
        ("spin-raw-component-route", route.raw.clone()),
        ("spin-component-route", route.prefix.clone()),
        ("spin-client-addr", client.to_string()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            fields.append(HeaderName::from_static(name), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tcp_nodelay_is_set_only_when_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("bound");
        for tcp_nodelay in [false, true] {
            let _client = TcpStream::connect(address).await.expect("listening");
            let (stream, _) = accept(&listener, tcp_nodelay).await.expect("connected");
            assert_eq!(stream.nodelay().expect("open"), tcp_nodelay);
        }
    }
}
