//! `cargo xtask up`: servers, schema, component, and the application in front of them, until Ctrl-C.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use devstack::app::Output;
use devstack::scheduler::Puller;
use devstack::{App, Host, Postgres, Programs, Redis, examples, process, workspace};
use nix::fcntl::{Flock, FlockArg};
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use crate::migrate;

/// The database that `up` keeps its orders in.
const DATABASE: &str = "orders";

/// What a user of Spin sets the variable `identity` with.
const IDENTITY: &str = "SPIN_VARIABLE_IDENTITY";

/// What ends connections to Postgres whose packets are dropped silently.
const PATIENCE: &str = "keepalives_idle=5&keepalives_interval=2&keepalives_retries=2&tcp_user_timeout=4";

/// What opens the operator's routes of the examples that have such. Only a laptop's has a default.
const TOKENS: [(&str, &str); 3] = [
    ("operator_token", "local"),
    ("events_token", "events-token-of-a-laptop-or-a-test"),
    ("signing_keys", examples::SIGNING_KEYS),
];

/// What to expect when the runner is not compiled yet.
const FIRST_RUN: &str = "\
The first start compiles the components, and then the runner, a stand-in for Spin, which takes longer. With Spin 4.1
or newer on PATH (https://spinframework.dev) the runner is not needed.";

/// How long the runner takes to compile, as a multiple of the components' time: 216 s and 55 s on two idle cores.
const RUNNER_PER_COMPONENTS: f64 = 4.0;

/// A build of the components that took less has found them compiled: nothing follows from it.
const COMPILED_ANEW: Duration = Duration::from_secs(15);

#[derive(clap::Args)]
pub struct Arguments {
    /// Address and port to serve on.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Keep the orders in a file, without Redis and Postgres.
    #[arg(long, conflicts_with_all = ["redis_url", "database_url", "example"])]
    embedded: bool,
    /// Use this Redis instead of starting one.
    #[arg(long)]
    redis_url: Option<String>,
    /// Use this Postgres database instead of starting a server.
    #[arg(long)]
    database_url: Option<String>,
    /// Serve an example instead of the order handler: order-by-key, order-by-etag, payments, notifications,
    /// identity, or the shop, which is all of the last four and the puller between them.
    #[arg(long, value_name = "NAME")]
    example: Option<String>,
    /// Serve with the bundled runner even if Spin is installed.
    #[arg(long)]
    runner: bool,
    /// Fail rather than install a missing Redis or Postgres with apt.
    #[arg(long)]
    no_install: bool,
}

/// Servers that this command has started; dropping them stops them.
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
    let spin = Host::spin().filter(|_| !arguments.runner);
    let first_run = spin.is_none() && !workspace::tool("runner").exists();
    if first_run {
        eprintln!("{FIRST_RUN}");
    }
    let start = Instant::now();
    let manifest = build(&arguments)?;
    if first_run && start.elapsed() > COMPILED_ANEW {
        let (took, left) = (start.elapsed().as_secs(), start.elapsed().mul_f64(RUNNER_PER_COMPONENTS).as_secs());
        eprintln!("The components took {took} s; the runner will take about {left} s on this machine.");
    }
    let host = spin.unwrap_or_else(|| Host::Runner(workspace::tool("runner")));
    build_tools(&host, &arguments)?;

    let mut servers = Servers::default();
    let mut variables = match arguments.embedded {
        true => vec![("store", "embedded".to_owned())],
        false => start_servers(&mut servers, &arguments)?,
    };
    match &arguments.example {
        // Its orders are not the order handler's: it has a database and a prefix of its own.
        Some(example) => {
            variables.push(("redis_key_prefix", format!("{example}:")));
            variables.extend(TOKENS.map(|(name, token)| (name, token.to_owned())));
        }
        None if identity_is_chosen() => {}
        // Of all places that serve the application, only a laptop's has a default.
        None => variables.push(("identity", "none".to_owned())),
    }
    let variables: Vec<_> = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    eprintln!("Serving with {host} ...");
    let command = host.command(&manifest, arguments.listen, &variables);
    let mut app = App::run(command, arguments.listen, Output::Inherit)?;
    match &arguments.example {
        Some(example) => print_example(example, &app.base_url()),
        None => print_welcome(&app.base_url()),
    }
    let is_shop = arguments.example.as_deref() == Some("shop");
    let [(_, operator_token), ..] = TOKENS;
    let _puller = is_shop.then(|| Puller::start(arguments.listen, operator_token));

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

/// Starts what is not given, applies the migrations, and returns the variables that lead there. All other variables
/// come from the environment, or have their defaults.
fn start_servers(servers: &mut Servers, arguments: &Arguments) -> Result<Vec<(&'static str, String)>> {
    let redis_url = match &arguments.redis_url {
        Some(url) => url.clone(),
        None => start_redis(servers, arguments)?,
    };
    let database_url = match &arguments.database_url {
        Some(url) => {
            if !url.contains("tcp_user_timeout=") {
                eprintln!("In production, add to the URL: {PATIENCE} (docs/operations.md says why)");
            }
            url.clone()
        }
        None => start_postgres(servers, arguments)?,
    };
    eprintln!("Applying migrations ...");
    let mut options = match arguments.database_url {
        Some(_) => vec![],
        None => vec!["--create-database".to_owned()],
    };
    if let Some(example) = &arguments.example {
        let packages = examples::migrated(example).into_iter();
        options.extend(packages.map(|package| format!("--package={}", package.display())));
    }
    migrate::run(&database_url, &options)?;
    Ok(vec![
        ("redis_allowed_host", allowed_host(&redis_url)?),
        ("database_allowed_host", allowed_host(&database_url)?),
        ("redis_url", redis_url),
        ("database_url", database_url),
    ])
}

/// Whether the environment, or the file `.env` that Spin reads, says how customers are identified.
fn identity_is_chosen() -> bool {
    let file = std::fs::read_to_string(workspace::root().join(".env")).unwrap_or_default();
    std::env::var_os(IDENTITY).is_some() || sets_identity(&file)
}

/// Whether a file `.env` has the variable.
fn sets_identity(file: &str) -> bool {
    file.lines().any(|line| {
        let line = line.trim_start();
        let assignment = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let value = assignment.strip_prefix(IDENTITY);
        value.is_some_and(|value| value.trim_start().starts_with('='))
    })
}

/// Builds what is to be served, and says where its manifest is.
fn build(arguments: &Arguments) -> Result<PathBuf> {
    let Some(example) = &arguments.example else {
        workspace::build_components()?;
        return Ok(workspace::root().join("spin.toml"));
    };
    let manifest = examples::folder(example).join("spin.toml");
    ensure!(manifest.exists(), "there is no example {example}; the folders of showcase/ are their names");
    eprintln!("Building the example ...");
    workspace::build_for_wasm(workspace::Workspace::Showcase, &examples::packages(example))?;
    Ok(manifest)
}

/// Builds what serves and what migrates. One build for both: alone, each would compile some of what both use.
fn build_tools(host: &Host, arguments: &Arguments) -> Result<()> {
    let runner = matches!(host, Host::Runner(_)).then_some("runner");
    let migrator = (!arguments.embedded).then_some("migrator");
    let tools: Vec<_> = runner.into_iter().chain(migrator).collect();
    match tools.as_slice() {
        [] => Ok(()),
        tools => workspace::build_tools(tools),
    }
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

fn start_postgres(servers: &mut Servers, arguments: &Arguments) -> Result<String> {
    let programs = programs(servers, arguments)?;
    eprintln!("Starting Postgres ...");
    let postgres = Postgres::start(&programs, &workspace::stack_folder().join("up/postgres"))?;
    let url = postgres.url(arguments.example.as_deref().unwrap_or(DATABASE));
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
        "\nReady. The console: {base}/\n\n\
         Or create an order here, and repeat the command to see it replayed:\n\n\
         curl -i {base}/api/v1/orders \\\n  \
         -H 'Content-Type: application/json' \\\n  \
         -H 'Idempotency-Key: my-first-order' \\\n  \
         -d '{{\"currency\": \"EUR\", \"items\": [{{\"sku\": \"A-1\", \"quantity\": 2, \"unitPrice\": 1250}}]}}'\n\n\
         Ctrl-C stops it; the orders are kept (cargo xtask clean removes them)."
    );
}

fn print_example(example: &str, base: &str) {
    let page = match example {
        "shop" => "/shop.html",
        _ => "",
    };
    println!(
        "\nReady: the example {example} at {base}{page}. showcase/{example}/README.md has its requests.\n\n\
         Ctrl-C stops it; the orders are kept (cargo xtask clean removes them)."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_in_the_env_file_is_respected() {
        for set in ["SPIN_VARIABLE_IDENTITY=jwt", "A=b\n  export SPIN_VARIABLE_IDENTITY = header"] {
            assert!(sets_identity(set), "{set}");
        }
        for not_set in
            ["", "# SPIN_VARIABLE_IDENTITY=jwt", "SPIN_VARIABLE_IDENTITY_HEADER=X-User", "A=SPIN_VARIABLE_IDENTITY=jwt"]
        {
            assert!(!sets_identity(not_set), "{not_set}");
        }
    }

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
