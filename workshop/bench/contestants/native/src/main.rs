//! What one would run instead of a component, as a process of its own: the same protocol natively.

mod host;
mod server;
mod stores;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use clap::Parser;
use exactly_once_http::respond;
use orders::ORDERS;

use crate::host::NativeHost;
use crate::stores::Stores;

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
    let (redis_url, database_url) = (&arguments.redis_url, &arguments.database_url);
    let stores = Stores::connect(redis_url, database_url, arguments.redis_key_prefix).await?;
    let host = Arc::new(NativeHost::new(stores)?);
    let router = Router::new().fallback(answer).with_state(host);
    server::serve(router, arguments.listen).await
}

/// Serves everything that the component serves.
async fn answer(State(host): State<Arc<NativeHost>>, request: Request) -> Response {
    let (head, body) = server::receive(request);
    server::send(respond(&ORDERS, &head, body, &*host).await)
}
