//! Chaos in the shop (showcase/shop): customers pay in and order while hosts, stores and pullers fail, and events are
//! delivered again and out of order. At the end everything is delivered, and the money is counted.

mod client;
mod verdict;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use devstack::scheduler::{self, Puller};
use devstack::{Postgres, Redis, examples};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::client::Shop;
use self::verdict::Verdict;
use crate::deployment::{Instance, connect};
use crate::run::{Background, Options, Report, finish, millis};

/// The operator's tokens.
const TOKEN: &str = "operator";
const EVENTS_TOKEN: &str = "events-token-of-a-laptop-or-a-test";
/// Hosts of the same application.
const HOSTS: usize = 2;
/// How long clients may take to complete what they have begun, and deliveries, after the faults.
const FINISHING: Duration = Duration::from_secs(60);

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

/// Runs faults and clients, delivers everything, and counts.
pub async fn run(options: &Options, folder: &Path) -> Result<Report> {
    eprintln!("Starting Redis, Postgres and {HOSTS} shops on {} ...", options.host);
    let mut deployment = Deployment::start(options, folder).await?;
    let addresses = deployment.hosts.iter().map(|host| host.address).collect();
    let shop = Arc::new(Shop::new(addresses)?);
    let (_background, handle) = Background::start()?;
    let mut clients = JoinSet::new();
    for number in 0..client::CUSTOMERS {
        clients.spawn_on(client::customer(shop.clone(), number, options.seed), &handle);
    }
    clients.spawn_on(client::deliver_out_of_order(shop.clone(), options.seed), &handle);

    eprintln!("Faults in the shop for {} s, seed {}", options.duration.as_secs(), options.seed);
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
    timeout(FINISHING, finish(clients)).await.context("clients have not finished")??;
    deployment.pullers.clear();
    deployment.deliver_everything().await?;
    let verdict = Verdict::of(&shop.ledger(), faults, &connect(&deployment.postgres).await?).await?;
    Ok(Report::new(&verdict, [("the shop".to_owned(), &verdict.examples)]))
}

/// The stores, the hosts, and the schedulers that call the pullers.
struct Deployment {
    redis: Redis,
    postgres: Postgres,
    hosts: Vec<Instance>,
    pullers: Vec<Puller>,
    /// Cursors that were stored at some time.
    cursors: Vec<String>,
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
        let mut hosts = Vec::new();
        for number in 0..HOSTS {
            let variables = vec![
                ("redis_url", redis.url()),
                ("database_url", database_url.clone()),
                ("operator_token", TOKEN.to_owned()),
                ("events_token", EVENTS_TOKEN.to_owned()),
            ];
            let manifest = examples::folder("shop").join("spin.toml");
            hosts.push(Instance::start(options, manifest, variables, folder.join(format!("shop-{number}")))?);
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
        let database = connect(&self.postgres).await?;
        let stored = database.query("SELECT cursor FROM cursors", &[]).await?;
        if let Some(row) = stored.first() {
            self.cursors.push(row.try_get(0)?);
        }
        Ok(())
    }

    /// As if a puller had died after many deliveries, before it stored the cursor.
    async fn set_cursor_back(&mut self, rng: &mut StdRng) -> Result<()> {
        let database = connect(&self.postgres).await?;
        // Not far, or all time would go by with repeated deliveries.
        let recent = self.cursors.len().saturating_sub(3);
        if let Some(cursor) = self.cursors.get(recent..).and_then(|c| c.choose(rng)) {
            let back = "UPDATE cursors SET cursor = $1";
            database.execute(back, &[cursor]).await?;
        }
        Ok(())
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
