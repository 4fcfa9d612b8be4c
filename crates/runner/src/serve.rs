//! Takes HTTP requests and has instances answer them, reusing instances as Spin does.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use wasmtime::component::GuestTaskId;
use wasmtime::{Store, StoreContextMut};
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, Proxy, ProxyHandler, ShouldAccept, WorkerExpiration, WorkerState,
    WorkerStatus,
};
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use crate::calls;
use crate::host::{Guest, HostState};
use crate::manifest::{Route, best_route};

/// How long requests in flight may go on after a signal to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// How many requests may be with instances at once; more wait their turn. ProxyHandler has no limit of its
/// own, a burst can start an instance per request, and each can take two of the 1000 stacks of the pool in
/// [`crate::host`]: beyond that, instances trap and take their neighbours' requests along.
const MAX_CONCURRENT_REQUESTS: usize = 400;

/// When instances are reused and when they are dropped: Spin's flags.
#[derive(Clone, Copy, Debug)]
pub struct Reuse {
    /// Requests an instance serves in all.
    pub max_count: usize,
    /// Requests an instance serves at once.
    pub max_concurrent: usize,
    /// How long a request may take; `None`: as long as it likes.
    pub request_timeout: Option<Duration>,
    /// How long an instance is kept without a request.
    pub idle_timeout: Duration,
}

struct GuestHandler {
    guest: Guest,
    reuse: Reuse,
    stopping: Arc<AtomicBool>,
}

/// What an instance's worker goes by.
struct Worker {
    reuse: Reuse,
    /// Set when the process ends: instances that are dropped from then on have not failed.
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
            expiration: Expiration {
                reuse: self.reuse,
                sleep: Box::pin(tokio::time::sleep(Duration::MAX)),
            },
            state: Worker {
                reuse: self.reuse,
                stopping: self.stopping.clone(),
            },
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
        match self.reuse.request_timeout {
            Some(timeout) => Box::pin(tokio::time::sleep(timeout)),
            None => Box::pin(std::future::pending()),
        }
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
    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        status: WorkerStatus,
        start: Instant,
    ) -> Poll<()> {
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

/// The application: its routes and the components behind them.
pub struct Server {
    routes: Vec<Route>,
    handlers: HashMap<String, ProxyHandler<GuestHandler>>,
    permits: Semaphore,
    stopping: Arc<AtomicBool>,
    shows_calls: bool,
}

impl Server {
    /// Puts components behind routes.
    pub fn new(
        routes: Vec<Route>,
        guests: HashMap<String, Guest>,
        reuse: Reuse,
        shows_calls: bool,
    ) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let handler = |guest| {
            ProxyHandler::new(GuestHandler {
                guest,
                reuse,
                stopping: stopping.clone(),
            })
        };
        Self {
            routes,
            handlers: guests
                .into_iter()
                .map(|(id, guest)| (id, handler(guest)))
                .collect(),
            permits: Semaphore::new(MAX_CONCURRENT_REQUESTS),
            stopping,
            shows_calls,
        }
    }

    /// Serves until `stop` resolves, then lets requests in flight finish, for a bounded time.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<()> {
        let graceful = GracefulShutdown::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let (stream, client) = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors, most likely; others will be closed.
                        eprintln!("runner: accepting a connection: {error}");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = &mut stop => break,
            };
            // Spin does not. Answers that leave in one segment are the same either way; those of a component
            // that gives no Content-Length would measure the client's delayed acknowledgements (40 ms). A
            // connection that is gone already says so when it is read.
            let _ = stream.set_nodelay(true);
            let server = self.clone();
            let service = service_fn(move |request| {
                let server = server.clone();
                async move { Ok::<_, Infallible>(server.answer(request, client).await) }
            });
            let builder = Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection.into_owned());
            tokio::spawn(async move {
                // Clients go away all the time; there is nobody to tell.
                let _ = connection.await;
            });
        }
        drop(listener);
        if tokio::time::timeout(SHUTDOWN_GRACE, graceful.shutdown())
            .await
            .is_err()
        {
            eprintln!("runner: gave up on requests that were still in flight");
        }
        self.stopping.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn answer(&self, request: Request<Incoming>, client: SocketAddr) -> Response<WasiBody> {
        let path = request.uri().path();
        if path == "/.well-known/spin/health" {
            return plain(StatusCode::OK, "OK");
        }
        if self.shows_calls && path == calls::PATH {
            return plain(StatusCode::OK, calls::to_json());
        }
        let found = best_route(&self.routes, path)
            .and_then(|route| Some((route, self.handlers.get(&route.component)?)));
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

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<WasiBody> {
    let body = Full::new(body.into());
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// Gives the request the absolute URI and the fields that Spin gives it. `None` if it has no usable host,
/// or a field that is not text.
fn prepare(
    request: Request<Incoming>,
    route: &Route,
    client: SocketAddr,
) -> Option<Request<WasiBody>> {
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
    if head
        .headers
        .values()
        .any(|v| std::str::from_utf8(v.as_bytes()).is_err())
    {
        return None;
    }
    add_spin_fields(&mut head.headers, &head.uri, &authority, route, client);
    let body = body.map_err(wasmtime_wasi_http::Error::from).boxed_unsync();
    Some(Request::from_parts(head, body))
}

fn add_spin_fields(
    fields: &mut HeaderMap,
    uri: &Uri,
    authority: &Authority,
    route: &Route,
    client: SocketAddr,
) {
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
