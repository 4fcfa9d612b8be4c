//! The deployment that faults are injected into: several hosts that share one Redis with a replica, and one Postgres
//! with a synchronous standby. Each host has its own links to both.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use devstack::app::Output;
use devstack::process::{free_port, local};
use devstack::{App, Host, Postgres, Redis};
use tokio::runtime::Handle;
use tokio_postgres::NoTls;

use crate::checker::Row;
use crate::failover::Standbys;
use crate::order::Order;
use crate::proxy::Link;
use crate::run::Options;

/// The number of hosts.
pub const RUNNERS: usize = 3;

/// The stores and the hosts. A server ends with the thread that started it: call everything here that starts or
/// restarts a server on the main thread.
pub struct Deployment {
    /// Redis.
    pub redis: Redis,
    /// The primary of Postgres.
    pub postgres: Postgres,
    /// What takes over when they fail.
    pub(crate) standbys: Standbys,
    /// The ids of all orders that were stored when a standby was promoted.
    pub survivors: HashSet<String>,
    /// The hosts.
    pub runners: Vec<Runner>,
}

/// One host.
pub struct Runner {
    /// Its link to Redis.
    pub redis: Link,
    /// Its link to Postgres.
    pub postgres: Link,
    /// The process.
    pub app: App,
    address: SocketAddr,
    host: Host,
    variables: Vec<(String, String)>,
    folder: PathBuf,
    number: usize,
    starts: usize,
}

impl Deployment {
    /// Starts the stores and the hosts with their data in `folder`, and the links on another runtime, which must
    /// outlive the deployment.
    pub async fn start(options: &Options, folder: &Path, links: &Handle) -> Result<Self> {
        let (programs, host) = (&options.programs, &options.host);
        let redis = Redis::start(programs, &folder.join("redis"))?;
        let postgres = Postgres::start(programs, &folder.join("postgres"))?;
        migrator::migrate(&postgres.url("postgres")).await?;
        let standbys = Standbys::start(programs, folder, links, &redis, &postgres).await?;
        let mut runners = Vec::new();
        for number in 0..RUNNERS {
            let to_redis = link(links, local(redis.port())).await?;
            let to_postgres = link(links, local(postgres.port())).await?;
            let direct = postgres.url("postgres");
            let direct_address = local(postgres.port()).to_string();
            let database_url = direct.replace(&direct_address, &to_postgres.address().to_string());
            let variables = [
                ("redis_url", format!("redis://{}", to_redis.address())),
                ("database_url", database_url),
                ("redis_key_prefix", "chaos:".to_owned()),
                ("identity", "header".to_owned()),
                ("replay_during_outage", options.replay_during_outage.to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value));
            let variables = variables.to_vec();
            let address = local(free_port()?);
            let log = Output::File(log(folder, number, 0));
            let app = App::start(host, address, &variables, log)?;
            runners.push(Runner {
                redis: to_redis,
                postgres: to_postgres,
                app,
                address,
                host: host.clone(),
                variables,
                folder: folder.to_owned(),
                number,
                starts: 1,
            });
        }
        Ok(Self { redis, postgres, standbys, survivors: HashSet::new(), runners })
    }

    /// All stored orders.
    pub async fn orders(&self) -> Result<Vec<Row>> {
        let (client, connection) =
            tokio_postgres::connect(&self.postgres.url("postgres"), NoTls).await.context("connecting to Postgres")?;
        let connection = tokio::spawn(connection);
        let sql = r#"SELECT idempotency_key, order_id::text, document::text,
                            '"' || encode(based_on, 'hex') || '"', customer_id FROM orders"#;
        let rows = client.query(sql, &[]).await?;
        drop(client);
        connection.await??;
        rows.iter()
            .map(|row| {
                let document: String = row.try_get(2)?;
                let order: Order = serde_json::from_str(&document).context("reading a stored order")?;
                Ok(Row {
                    key: row.try_get(0)?,
                    order_id: row.try_get(1)?,
                    total: order.total().context("a stored order has no total")?,
                    order,
                    based_on: row.try_get(3)?,
                    customer: row.try_get(4)?,
                })
            })
            .collect()
    }
}

impl Runner {
    /// The address where it serves.
    pub fn base_url(&self) -> String {
        self.app.base_url()
    }

    /// Starts it again at the same address.
    pub fn restart(&mut self) -> Result<()> {
        let log = Output::File(log(&self.folder, self.number, self.starts));
        self.starts += 1;
        self.app = App::start(&self.host, self.address, &self.variables, log)?;
        Ok(())
    }
}

/// Opens a link on the runtime of the links.
pub(crate) async fn link(links: &Handle, server: SocketAddr) -> Result<Link> {
    let opened = links.spawn(Link::open(server)).await;
    opened.context("opening a link")?
}

/// Each start has its own log, so that the log of a killed host is kept.
fn log(folder: &Path, number: usize, start: usize) -> PathBuf {
    folder.join(format!("runner-{number}.{start}.log"))
}
