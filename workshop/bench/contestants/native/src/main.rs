//! What one would run instead of a component, as a process of its own: the same core and composition natively.

mod host;
mod server;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use clap::Parser;
use deadpool_postgres::{Manager, Pool};
use exactly_once_http::respond;
use orders::ORDERS;
use tokio_postgres::NoTls;
use tokio_util::task::LocalPoolHandle;

use crate::host::{NativeHost, Service};

/// As many Postgres connections as a Spin host has for one database.
const POOL_SIZE: usize = 64;

#[derive(Parser)]
#[command(name = "contestant-native")]
struct Arguments {
    /// postgres://user:password@host:port/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// redis://host:port
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis_url: String,
    /// The prefix of every name in Redis.
    #[arg(long, env = "REDIS_KEY_PREFIX", default_value = "orders:")]
    redis_key_prefix: String,
    /// Address and port to listen on.
    #[arg(long)]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let config = arguments.database_url.parse().context("DATABASE_URL")?;
    let pool = Pool::builder(Manager::new(config, NoTls)).max_size(POOL_SIZE);
    let service = Service::new(arguments.redis_url, arguments.database_url, arguments.redis_key_prefix, pool.build()?)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let state = (LocalPoolHandle::new(threads), service);
    let router = Router::new().fallback(answer).with_state(state);
    server::serve(router, arguments.listen).await
}

/// Serves everything that the component serves, on as many threads as there are processors.
async fn answer(State((threads, service)): State<(LocalPoolHandle, Service)>, request: Request) -> Response {
    let answered = threads.spawn_pinned(|| async move {
        let (head, body) = server::receive(request);
        server::send(respond(&ORDERS, &head, body, &NativeHost::new(&service)).await)
    });
    // It is an error where the request's task has panicked.
    let failed = StatusCode::INTERNAL_SERVER_ERROR;
    answered.await.unwrap_or_else(|_| failed.into_response())
}
