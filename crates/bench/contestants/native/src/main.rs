//! What one would run instead of a component, as a process of its own: the same protocol natively, the two
//! protocols it descends from, and loops that do nothing but ask a store.

mod course;
mod floors;
mod orders_service;
mod server;
mod stores;

use std::net::SocketAddr;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

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
    /// What every key in Redis starts with.
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
    /// Ask a store from many clients at once, nothing else; prints what came of it as JSON.
    Floor {
        /// What is asked.
        question: floors::Question,
        /// How many clients ask.
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
    Resources,
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
                Protocol::Resources => orders_service::router(stores),
                Protocol::GetSet => course::get_set(stores),
                Protocol::Lock => course::lock(stores),
            };
            server::serve(router, listen).await
        }
        Task::Floor {
            question,
            connections,
            seconds,
        } => floors::ask(&stores, question, connections, seconds).await,
    }
}
