//! A stand-in for `spin up`, for machines without Spin: serves a Spin application's HTTP components with
//! the interfaces, limits and costs they have there.

#![allow(clippy::result_large_err, reason = "Spin's interface determines the size of its database error")]

mod bindings;
mod calls;
mod clock;
mod compiled;
mod connections;
mod guest_time;
mod host;
mod host_calls;
mod manifest;
mod outbound;
mod postgres;
mod redis;
mod rows;
mod serve;
mod sqlite;
mod values;
mod variables;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::connections::Statements;
use crate::host::{Grants, Guest, Measured};
use crate::manifest::Manifest;
use crate::outbound::AllowedHosts;
use crate::serve::{Asked, Options, Reuse, Server};
use crate::sqlite::Location;
use crate::variables::Variables;

/// Serves the HTTP components of a Spin application.
///
/// A stand-in for `spin up` for machines without Spin, for tests and for benchmarks. It offers WASI 0.2 and
/// 0.3, wasi:http@0.3.0, spin:redis@3.0.0, spin:postgres@4.2.0, spin:sqlite@3.1.0 and spin:variables@3.0.0, with
/// Spin's limits and costs, and rejects everything else. For that, use Spin: https://spinframework.dev
#[derive(Parser)]
#[command(name = "runner")]
struct Arguments {
    /// The application's manifest.
    #[arg(short, long, default_value = "spin.toml")]
    from: PathBuf,
    /// Address and port to listen on; port 0 is any free port.
    #[arg(long, env = "SPIN_HTTP_LISTEN_ADDR", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Set an application variable; may be given more than once.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    variable: Vec<(String, String)>,
    /// Requests that an instance serves in all before it is dropped.
    #[arg(long, default_value_t = 128)]
    max_instance_reuse_count: usize,
    /// Requests that an instance serves at once.
    #[arg(long, default_value_t = 16)]
    max_instance_concurrent_reuse_count: usize,
    /// How long a request may take, such as 30s or 500ms; by default without limit.
    #[arg(long, value_parser = duration)]
    request_timeout: Option<Duration>,
    /// How long an instance is kept without a request.
    #[arg(long, default_value = "1s", value_parser = duration)]
    idle_instance_timeout: Duration,
    /// Show at /.well-known/runner/calls how many connections, commands and statements the stores got, and how often
    /// components called the host.
    #[arg(long, env = "RUNNER_COUNT_CALLS")]
    count_calls: bool,
    /// Also show there how much of the process's CPU time is spent in the components' own code, in samples.
    #[arg(long, env = "RUNNER_MEASURE_GUESTS")]
    measure_guests: bool,
    /// Set TCP_NODELAY on accepted connections, which Spin does not do.
    #[arg(long)]
    tcp_nodelay: bool,
    /// How statements are sent to Postgres; Spin prepares each anew.
    #[arg(long, value_enum, default_value_t)]
    postgres_statements: Statements,
    /// When an instance that has accepted a request is asked for the next one; in Spin, after its next event.
    #[arg(long, value_enum, default_value_t)]
    instances_asked: Asked,
    /// Folder for the SQLite database; by default .spin beside the manifest. Empty: none, and each connection has a
    /// database in memory.
    #[arg(long)]
    state_dir: Option<String>,
    /// Nothing is logged to files here, but a value is required, as in Spin.
    #[arg(short = 'L', long = "log-dir", value_name = "APP_LOG_DIR", env = "SPIN_LOG_DIR")]
    _log_dir: Option<PathBuf>,
    /// How many bytes the head of a request may have, at least 8192; by default 408 KiB.
    #[arg(long, env = "SPIN_HTTP1_MAX_BUF_SIZE")]
    http1_max_buf_size: Option<usize>,
    /// How many instances there may be.
    #[arg(long, env = "SPIN_MAX_INSTANCE_COUNT", default_value_t = 1000)]
    max_instance_count: u32,
    /// Folder for compiled components; by default .spin/runner-cache beside the manifest.
    #[arg(long)]
    cache_dir: Option<PathBuf>,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "must be NAME=VALUE".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let parse = |digits: &str, unit: fn(u64) -> Duration| digits.parse().ok().map(unit);
    let parsed = if let Some(digits) = text.strip_suffix("ms") {
        parse(digits, Duration::from_millis)
    } else if let Some(digits) = text.strip_suffix("us") {
        parse(digits, Duration::from_micros)
    } else if let Some(digits) = text.strip_suffix("ns") {
        parse(digits, Duration::from_nanos)
    } else {
        parse(text.strip_suffix('s').unwrap_or(text), Duration::from_secs)
    };
    parsed.ok_or_else(|| "must be one whole number with s, ms, us or ns (Spin's ranges are not supported)".to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("runner: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let arguments = Arguments::parse();
    // For connections to the stores. It fails only if a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let manifest = Manifest::load(&arguments.from)?;
    let folder = match arguments.from.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_path_buf(),
        None => PathBuf::from("."),
    };
    let variables = Variables::resolve(&manifest, &arguments.variable, &folder)?;
    let cache = arguments.cache_dir.unwrap_or_else(|| folder.join(".spin/runner-cache"));
    let state = arguments.state_dir.map_or_else(|| folder.join(".spin"), PathBuf::from);
    let state = Some(state).filter(|folder| !folder.as_os_str().is_empty());
    // Spin makes the folder for the key-value store that every application has.
    for folder in state.iter().chain([&cache]) {
        let why = || format!("failed to create key value store's parent directory: '{}'", folder.display());
        std::fs::create_dir_all(folder).with_context(why)?;
    }
    let engine = host::engine(arguments.max_instance_count)?;
    let own_address = Arc::new(OnceLock::new());
    let measured = match (arguments.measure_guests, arguments.count_calls) {
        (true, _) => Measured::GuestTime,
        (false, true) => Measured::Calls,
        (false, false) => Measured::Nothing,
    };
    let mut guests = HashMap::new();
    for (id, component) in &manifest.component {
        let hosts = component
            .allowed_outbound_hosts
            .iter()
            .map(|entry| variables.resolve_template(entry))
            .collect::<Result<Vec<_>>>()?;
        let guest = Guest::load(
            &engine,
            &folder.join(&component.source),
            &cache,
            Grants {
                environment: component.environment.clone(),
                allowed_hosts: AllowedHosts::parse(&hosts)?,
                variables: variables.of_component(&component.variables)?,
                databases: component.sqlite_databases.clone(),
                database: Location::in_folder(state.as_deref()),
                own_address: own_address.clone(),
                statements: arguments.postgres_statements,
            },
            measured,
        )?;
        guests.insert(id.clone(), guest);
    }
    let reuse = Reuse {
        max_count: arguments.max_instance_reuse_count,
        max_concurrent: arguments.max_instance_concurrent_reuse_count,
        request_timeout: arguments.request_timeout,
        idle_timeout: arguments.idle_instance_timeout,
    };
    match measured {
        Measured::Nothing => {}
        Measured::Calls => host_calls::start(),
        Measured::GuestTime => guest_time::start()?,
    }
    let options = Options {
        reuse,
        instances_asked: arguments.instances_asked,
        shows_calls: arguments.count_calls || arguments.measure_guests,
        tcp_nodelay: arguments.tcp_nodelay,
        http1_max_buf_size: arguments.http1_max_buf_size,
    };
    let server = Arc::new(Server::new(manifest.routes()?, guests, options));

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener =
        TcpListener::bind(arguments.listen).await.with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let address = listener.local_addr()?;
    let _ = own_address.set(address);
    println!("{}: serving http://{address}", manifest.application.name);
    server
        .serve(listener, async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
        .await
}
