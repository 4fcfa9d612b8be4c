//! The deployment that faults are injected into: several hosts that share one Redis with a replica, and one Postgres
//! with standbys. Each host has its own links to both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use devstack::app::Output;
use devstack::process::{free_port, local};
use devstack::{App, Postgres, Redis};
use tokio::runtime::Handle;
use tokio_postgres::NoTls;

use crate::failover::Standbys;
use crate::judge::Row;
use crate::order::Order;
use crate::proxy::Link;
use crate::run::Options;

/// The number of hosts.
pub const HOSTS: usize = 3;

/// The stores and the hosts. A server ends with the thread that started it: call everything here that starts or
/// restarts a server on the main thread.
pub struct Deployment {
    pub redis: Redis,
    /// The primary.
    pub postgres: Postgres,
    pub standbys: Standbys,
    pub hosts: Vec<Linked>,
}

/// A host with its links.
pub struct Linked {
    pub redis: Link,
    pub postgres: Link,
    pub host: Instance,
}

/// A host that can be started again at its address.
pub struct Instance {
    pub app: App,
    /// Where it serves.
    pub address: SocketAddr,
    command: Box<dyn Fn() -> Command>,
    log: PathBuf,
    starts: usize,
}

impl Instance {
    /// Serves the application of a manifest. Each start has its own log, so that the log of a killed host is kept.
    pub fn start(options: &Options, manifest: PathBuf, variables: Vec<(String, String)>, log: PathBuf) -> Result<Self> {
        let address = local(free_port()?);
        let host = options.host.clone();
        let command = move || host.command(&manifest, address, &variables);
        let app = App::run(command(), address, Output::File(log.with_extension("0.log")))?;
        Ok(Self { app, address, command: Box::new(command), log, starts: 1 })
    }

    /// Starts it again.
    pub fn restart(&mut self) -> Result<()> {
        let log = self.log.with_extension(format!("{}.log", self.starts));
        self.starts += 1;
        self.app = App::run((self.command)(), self.address, Output::File(log))?;
        Ok(())
    }
}

impl Deployment {
    /// Starts the stores without standbys, and the hosts of an application with these variables. Its packages have
    /// migrations of their own. The data are in `folder`.
    pub async fn start(
        options: &Options,
        folder: &Path,
        manifest: &Path,
        packages: &[PathBuf],
        variables: &[(&str, String)],
    ) -> Result<Self> {
        let redis = Redis::start(&options.programs, &folder.join("redis"))?;
        let postgres = Postgres::start(&options.programs, &folder.join("postgres"))?;
        let url = postgres.url("postgres");
        migrator::migrate(&url).await?;
        for package in packages {
            migrator::migrate_package(package, &url).await?;
        }
        let standbys = Standbys::none(&options.programs, folder, &options.background);
        let mut hosts = Vec::new();
        for number in 0..HOSTS {
            let to_redis = link(&options.background, local(redis.port())).await?;
            let to_postgres = link(&options.background, local(postgres.port())).await?;
            let direct = local(postgres.port()).to_string();
            let urls = [
                ("redis_url", format!("redis://{}", to_redis.address())),
                ("database_url", url.replace(&direct, &to_postgres.address().to_string())),
            ];
            let variables = urls.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), value.clone()));
            let log = folder.join(format!("host-{number}"));
            let host = Instance::start(options, manifest.to_owned(), variables.collect(), log)?;
            hosts.push(Linked { redis: to_redis, postgres: to_postgres, host });
        }
        Ok(Self { redis, postgres, standbys, hosts })
    }

    /// All stored orders.
    pub async fn orders(&self) -> Result<Vec<Row>> {
        let sql = r#"SELECT idempotency_key, order_id::text, document::text,
                            '"' || encode(based_on, 'hex') || '"', customer_id FROM orders"#;
        let rows = connect(&self.postgres).await?.query(sql, &[]).await?;
        let read = rows.iter().map(|row| {
            let document: String = row.try_get(2)?;
            let order: Order = serde_json::from_str(&document).context("reading a stored order")?;
            let (key, order_id) = (row.try_get(0)?, row.try_get(1)?);
            Ok(Row { key, order_id, order, based_on: row.try_get(3)?, customer: row.try_get(4)? })
        });
        read.collect()
    }
}

/// Connects to a server, not through a link.
pub async fn connect(postgres: &Postgres) -> Result<tokio_postgres::Client> {
    let url = postgres.url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.context("connecting to Postgres")?;
    tokio::spawn(connection);
    Ok(client)
}

/// Opens a link on the runtime of the links.
pub async fn link(links: &Handle, server: SocketAddr) -> Result<Link> {
    links.spawn(Link::open(server)).await.context("opening a link")?
}
