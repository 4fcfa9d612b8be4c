//! `cargo xtask up`: servers, schema, component, and the application in front of them, until Ctrl-C.

use std::fs::File;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use devstack::app::Output;
use devstack::{App, Host, Postgres, Programs, Redis, migrate, process, workspace};
use nix::fcntl::{Flock, FlockArg};
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

/// The database that `up` keeps its orders in.
const DATABASE: &str = "orders";

#[derive(clap::Args)]
pub struct Arguments {
    /// Address and port to serve on.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Use this Redis instead of starting one.
    #[arg(long)]
    redis_url: Option<String>,
    /// Use this Postgres database instead of starting a server.
    #[arg(long)]
    database_url: Option<String>,
    /// Serve with the bundled runner even if Spin is installed.
    #[arg(long)]
    runner: bool,
    /// Fail rather than install a missing Redis or Postgres with apt.
    #[arg(long)]
    no_install: bool,
}

/// Servers of ours; dropping them stops them.
#[derive(Default)]
struct Servers {
    redis: Option<Redis>,
    postgres: Option<Postgres>,
    lock: Option<Flock<File>>,
}

pub async fn up(arguments: Arguments) -> Result<()> {
    // From here on, so that no moment is left in which Ctrl-C would leave servers behind.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    // One connection is one open file, here and in the host that we start.
    process::raise_file_limit();
    workspace::ensure_wasm_target()?;
    workspace::build_component()?;
    let host = match Host::spin() {
        Some(spin) if !arguments.runner => spin,
        _ => Host::Runner(workspace::build_runner()?),
    };

    let mut servers = Servers::default();
    let redis_url = match &arguments.redis_url {
        Some(url) => url.clone(),
        None => start_redis(&mut servers, &arguments)?,
    };
    let database_url = match &arguments.database_url {
        Some(url) => url.clone(),
        None => start_postgres(&mut servers, &arguments).await?,
    };
    eprintln!("Applying migrations ...");
    migrate::migrate(&database_url).await?;

    // All other variables come from the environment, or have their defaults.
    let variables = [
        ("redis_allowed_host", allowed_host(&redis_url)?),
        ("database_allowed_host", allowed_host(&database_url)?),
        ("redis_url", redis_url),
        ("database_url", database_url),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    eprintln!("Serving with {host} ...");
    let mut app = App::start(&host, arguments.listen, &variables, Output::Inherit)?;
    print_welcome(&app.base_url());

    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        ended = watch(&mut app) => ended?,
    }
    eprintln!("\nStopping ...");
    app.stop()?;
    if let Some(redis) = &mut servers.redis {
        redis.stop()?;
    }
    if let Some(postgres) = &mut servers.postgres {
        postgres.stop()?;
    }
    Ok(())
}

/// Fails as soon as the application has ended by itself.
async fn watch(app: &mut App) -> Result<()> {
    loop {
        if let Some(status) = app.exited()? {
            bail!("the application ended by itself ({status})");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn programs(servers: &mut Servers, arguments: &Arguments) -> Result<Programs> {
    if servers.lock.is_none() {
        let folder = workspace::stack_folder().join("up");
        std::fs::create_dir_all(&folder)?;
        let file = File::create(folder.join("lock"))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e);
        let lock = lock.context("another `cargo xtask up` is running in this checkout")?;
        servers.lock = Some(lock);
    }
    Programs::find_or_install(!arguments.no_install)
}

fn start_redis(servers: &mut Servers, arguments: &Arguments) -> Result<String> {
    let programs = programs(servers, arguments)?;
    eprintln!("Starting Redis ...");
    let redis = Redis::start(&programs, &workspace::stack_folder().join("up/redis"))?;
    let url = redis.url();
    servers.redis = Some(redis);
    Ok(url)
}

async fn start_postgres(servers: &mut Servers, arguments: &Arguments) -> Result<String> {
    let programs = programs(servers, arguments)?;
    eprintln!("Starting Postgres ...");
    let postgres = Postgres::start(&programs, &workspace::stack_folder().join("up/postgres"))?;
    migrate::create_database(&postgres.url("postgres"), DATABASE, None).await?;
    let url = postgres.url(DATABASE);
    servers.postgres = Some(postgres);
    Ok(url)
}

/// The one place that a URL leads to, as an entry for `allowed_outbound_hosts`.
fn allowed_host(url: &str) -> Result<String> {
    let parsed = Url::parse(url).context("not a URL")?;
    let scheme = match parsed.scheme() {
        "postgresql" => "postgres",
        scheme => scheme,
    };
    let host = parsed.host_str().context("the URL names no host")?;
    let port = match (parsed.port(), scheme) {
        (Some(port), _) => port,
        (None, "postgres") => 5432,
        (None, _) => 6379,
    };
    Ok(format!("{scheme}://{host}:{port}"))
}

fn print_welcome(base: &str) {
    println!(
        "\nReady. Create an order, and repeat the command to see it replayed:\n\n\
         curl -i {base}/api/v1/orders \\\n  \
         -H 'Content-Type: application/json' \\\n  \
         -H 'Idempotency-Key: my-first-order' \\\n  \
         -d '{{\"currency\": \"EUR\", \"items\": [{{\"sku\": \"A-1\", \"quantity\": 2, \"unitPrice\": 1250}}]}}'\n\n\
         Ctrl-C stops it; the orders are kept (cargo xtask clean removes them)."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_place_of_a_url_is_allowed() {
        for (url, allowed) in [
            ("redis://:secret@cache:6380/1", "redis://cache:6380"),
            ("redis://cache", "redis://cache:6379"),
            ("postgresql://u:p@db/orders", "postgres://db:5432"),
        ] {
            assert_eq!(allowed_host(url).expect("valid"), allowed);
        }
        assert!(allowed_host("host=db").is_err());
    }
}
