//! Chaos in the shop (showcase/shop): customers pay in and order while hosts, stores and pullers fail, and events are
//! delivered again and out of order. At the end everything is delivered, and the money is counted.

mod client;
mod verdict;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use devstack::app::Output;
use devstack::process::{free_port, local};
use devstack::scheduler::{self, Puller};
use devstack::{App, Host, Postgres, Programs, Redis, examples, process, workspace};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::NoTls;

use self::client::Shop;
pub use self::verdict::Verdict;

/// The operator's tokens.
const TOKEN: &str = "operator";
const EVENTS_TOKEN: &str = "events-token-of-a-laptop-or-a-test";
/// Hosts of the same application.
const HOSTS: usize = 2;
/// How long clients may take to complete what they have begun, and deliveries, after the faults.
const FINISHING: Duration = Duration::from_secs(60);

/// How to run.
pub struct Options {
    /// How long faults are injected.
    pub duration: Duration,
    /// Determines the faults and the requests, but not the timing.
    pub seed: u64,
    /// The programs of Redis and Postgres.
    pub programs: Programs,
    /// The program that serves.
    pub host: Host,
}

/// What fails.
#[derive(Clone, Copy, Debug)]
enum Fault {
    HostKilled,
    HostPaused,
    RedisKilled,
    RedisEmptied,
    PostgresCrashed,
    PostgresRestarted,
    PullersStopped,
    CursorSetBack,
}

const FAULTS: [Fault; 8] = [
    Fault::HostKilled,
    Fault::HostPaused,
    Fault::RedisKilled,
    Fault::RedisEmptied,
    Fault::PostgresCrashed,
    Fault::PostgresRestarted,
    Fault::PullersStopped,
    Fault::CursorSetBack,
];

/// Runs faults and clients, delivers everything, and counts. Call it on the main thread: servers end with the thread
/// that starts them. Removes all data at the end, except after a run with violations.
///
/// # Errors
/// A server does not start, or clients or deliveries do not come to an end.
pub async fn run(options: &Options) -> Result<Verdict> {
    process::raise_file_limit();
    let folder = workspace::stack_folder().join(format!("chaos-shop-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let verdict = run_in(options, &folder).await;
    let removed = Postgres::remove_all(&folder);
    let verdict = verdict.with_context(|| format!("see {}", folder.display()))?;
    removed?;
    if verdict.is_clean() {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(verdict)
}

async fn run_in(options: &Options, folder: &Path) -> Result<Verdict> {
    eprintln!("Starting Redis, Postgres and {HOSTS} shops on {} ...", options.host);
    let mut deployment = Deployment::start(options, folder).await?;
    let addresses = deployment.hosts.iter().map(|host| host.address).collect();
    let shop = Arc::new(Shop::new(addresses)?);
    let runtime = Runtime::new().context("starting threads")?;
    let mut clients = JoinSet::new();
    for number in 0..client::CUSTOMERS {
        let customer = client::customer(shop.clone(), number, options.seed);
        clients.spawn_on(customer, runtime.handle());
    }
    let stranger = client::deliver_out_of_order(shop.clone(), options.seed);
    clients.spawn_on(stranger, runtime.handle());

    let mut rng = StdRng::seed_from_u64(options.seed);
    let mut faults = BTreeMap::new();
    let mut deck: Vec<Fault> = Vec::new();
    let start = Instant::now();
    while start.elapsed() < options.duration {
        if deck.is_empty() {
            deck = FAULTS.to_vec();
        }
        // Every kind once before any occurs again.
        let fault = deck.swap_remove(rng.random_range(0..deck.len()));
        *faults.entry(format!("{fault:?}")).or_insert(0) += 1;
        deployment.note_cursor().await?;
        deployment.inject(fault, &mut rng).await?;
        sleep(millis(&mut rng, 200, 1000)).await;
    }

    eprintln!("All faults have ended; clients complete their requests ...");
    shop.stop();
    let finished = timeout(FINISHING, async {
        while let Some(client) = clients.join_next().await {
            client.context("a client failed")??;
        }
        anyhow::Ok(())
    });
    let finished = finished.await;
    clients.shutdown().await;
    runtime.shutdown_background();
    finished.context("clients have not finished")??;
    deployment.pullers.clear();
    deployment.deliver_everything().await?;
    let ledger = shop.ledger();
    Verdict::of(&ledger, faults, &deployment.connect().await?).await
}

fn millis(rng: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.random_range(from..=to))
}

/// The stores, the hosts, and the schedulers that call the pullers.
struct Deployment {
    redis: Redis,
    postgres: Postgres,
    hosts: Vec<Served>,
    pullers: Vec<Puller>,
    /// Cursors that were stored at some time.
    cursors: Vec<String>,
}

/// One host.
struct Served {
    address: SocketAddr,
    app: App,
    host: Host,
    variables: Vec<(String, String)>,
    log: PathBuf,
    starts: usize,
}

impl Served {
    fn start(host: &Host, variables: &[(String, String)], log: PathBuf) -> Result<Self> {
        let address = local(free_port()?);
        Ok(Self {
            address,
            app: serve(host, address, variables, log.with_extension("0.log"))?,
            host: host.clone(),
            variables: variables.to_vec(),
            log,
            starts: 1,
        })
    }

    fn restart(&mut self) -> Result<()> {
        let log = self.log.with_extension(format!("{}.log", self.starts));
        self.starts += 1;
        self.app = serve(&self.host, self.address, &self.variables, log)?;
        Ok(())
    }
}

fn serve(host: &Host, address: SocketAddr, variables: &[(String, String)], log: PathBuf) -> Result<App> {
    let manifest = examples::folder("shop").join("spin.toml");
    App::run(host.command(&manifest, address, variables), address, Output::File(log))
}

impl Deployment {
    async fn start(options: &Options, folder: &Path) -> Result<Self> {
        let redis = Redis::start(&options.programs, &folder.join("redis"))?;
        let postgres = Postgres::start(&options.programs, &folder.join("postgres"))?;
        let database_url = postgres.url("postgres");
        migrator::migrate(&database_url).await?;
        for package in examples::migrated("shop") {
            migrator::migrate_package(&package, &database_url).await?;
        }
        let variables = [
            ("redis_url", redis.url()),
            ("database_url", database_url),
            ("operator_token", TOKEN.to_owned()),
            ("events_token", EVENTS_TOKEN.to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        let mut hosts = Vec::new();
        for number in 0..HOSTS {
            let log = folder.join(format!("shop-{number}"));
            hosts.push(Served::start(&options.host, &variables, log)?);
        }
        let mut deployment = Self { redis, postgres, hosts, pullers: Vec::new(), cursors: Vec::new() };
        deployment.start_pullers(1);
        Ok(deployment)
    }

    /// One puller alone shows what it forgets; two at once show that they do no harm.
    fn start_pullers(&mut self, count: usize) {
        let addresses = self.hosts.iter().map(|host| host.address);
        self.pullers = addresses.take(count).map(|address| Puller::start(address, TOKEN)).collect();
    }

    async fn inject(&mut self, fault: Fault, rng: &mut StdRng) -> Result<()> {
        let hold = millis(rng, 100, 1500);
        let number = rng.random_range(0..self.hosts.len());
        let Some(host) = self.hosts.get_mut(number) else {
            return Ok(());
        };
        match fault {
            Fault::HostKilled => {
                host.app.kill()?;
                sleep(hold).await;
                host.restart()?;
            }
            Fault::HostPaused => {
                host.app.pause()?;
                sleep(hold).await;
                host.app.resume()?;
            }
            Fault::RedisKilled => {
                self.redis.kill()?;
                sleep(hold).await;
                self.redis.restart()?;
            }
            Fault::RedisEmptied => self.redis.restart_empty()?,
            Fault::PostgresCrashed => {
                self.postgres.stop_immediately()?;
                sleep(hold).await;
                self.postgres.restart()?;
            }
            Fault::PostgresRestarted => {
                self.postgres.stop()?;
                sleep(hold).await;
                self.postgres.restart()?;
            }
            Fault::PullersStopped => {
                self.pullers.clear();
                sleep(hold).await;
                self.start_pullers(rng.random_range(1..=HOSTS));
            }
            Fault::CursorSetBack => self.set_cursor_back(rng).await?,
        }
        Ok(())
    }

    /// Remembers how far the pullers are.
    async fn note_cursor(&mut self) -> Result<()> {
        let database = self.connect().await?;
        let stored = database.query("SELECT cursor FROM cursors", &[]).await?;
        if let Some(row) = stored.first() {
            self.cursors.push(row.try_get(0)?);
        }
        Ok(())
    }

    /// As if a puller had died after many deliveries, before it stored the cursor.
    async fn set_cursor_back(&mut self, rng: &mut StdRng) -> Result<()> {
        let database = self.connect().await?;
        // Not far, or all time would go by with repeated deliveries.
        let recent = self.cursors.len().saturating_sub(3);
        if let Some(cursor) = self.cursors.get(recent..).and_then(|c| c.choose(rng)) {
            let back = "UPDATE cursors SET cursor = $1";
            database.execute(back, &[cursor]).await?;
        }
        Ok(())
    }

    async fn connect(&self) -> Result<tokio_postgres::Client> {
        let url = self.postgres.url("postgres");
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.context("connecting to Postgres")?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Pulls until nothing is left to deliver.
    async fn deliver_everything(&self) -> Result<()> {
        let start = Instant::now();
        let address = self.hosts.first().context("no host")?.address;
        while start.elapsed() < FINISHING {
            let pulled = scheduler::pull(address, TOKEN, 0);
            match pulled {
                Ok(answer) if answer == r#"{"delivered":0,"refused":0}"# => return Ok(()),
                Ok(_) => {}
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
        bail!("deliveries do not come to an end");
    }
}
