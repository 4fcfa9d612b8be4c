//! What one would run instead of a component, as a process of its own: the same protocol natively, the two baselines
//! that it is based on, and loops that only call a store.

mod baseline;
mod floors;
mod host;
mod orders_service;
mod server;
mod stores;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use crate::baseline::Baseline;
use crate::host::Service;
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
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Serve one of the protocols over HTTP.
    Serve {
        /// Which.
        protocol: Protocol,
        /// Address and port to listen on.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Only call a store, from many clients at once; print the result as JSON.
    Floor {
        /// What is called.
        call: floors::Call,
        /// How many clients.
        #[arg(long)]
        connections: usize,
        /// For how long.
        #[arg(long)]
        seconds: f64,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Protocol {
    /// The component's: reserve in Redis, insert unless it exists.
    Orders,
    /// GET the key, INSERT the order, SET the key.
    GetSet,
    /// Take an exclusive lock, count the orders (their ETag), INSERT, unlock.
    Lock,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let stores = Stores::connect(
        &arguments.redis_url,
        &arguments.database_url,
        arguments.redis_key_prefix,
    )
    .await?;
    match arguments.task {
        Task::Serve { protocol, listen } => {
            let router = match protocol {
                Protocol::Orders => orders_service::router(Service::new(
                    arguments.redis_url,
                    arguments.database_url,
                    stores.prefix,
                    stores.postgres,
                )?),
                Protocol::GetSet => baseline::router(Baseline::GetSet, stores),
                Protocol::Lock => baseline::router(Baseline::Lock, stores),
            };
            server::serve(router, listen).await
        }
        Task::Floor {
            call,
            connections,
            seconds,
        } => floors::measure(Arc::new(stores), call, connections, seconds).await,
    }
}
