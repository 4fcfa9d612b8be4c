//! The deployment that faults are injected into: several hosts that share one Redis and one Postgres. Each host
//! has its own links to both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use devstack::app::Output;
use devstack::process::{free_port, local};
use devstack::{App, Host, Postgres, Programs, Redis, migrate};
use tokio::runtime::Handle;
use tokio_postgres::NoTls;

use crate::checker::Row;
use crate::order::Order;
use crate::proxy::Link;

/// The number of hosts.
pub const RUNNERS: usize = 3;

/// The stores and the hosts. A server ends with the thread that started it: call everything here that starts or
/// restarts a server on the main thread.
pub struct Deployment {
    /// Redis.
    pub redis: Redis,
    /// Postgres.
    pub postgres: Postgres,
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
    program: PathBuf,
    variables: Vec<(String, String)>,
    folder: PathBuf,
    number: usize,
    starts: usize,
}

impl Deployment {
    /// Starts the stores and the hosts with their data in `folder`, and the links on another runtime, which must
    /// outlive the deployment.
    pub async fn start(
        programs: &Programs,
        runner: &Path,
        folder: &Path,
        links: &Handle,
    ) -> Result<Self> {
        let redis = Redis::start(programs, &folder.join("redis"))?;
        let postgres = Postgres::start(programs, &folder.join("postgres"))?;
        migrate::migrate(&postgres.url("postgres")).await?;
        let mut runners = Vec::new();
        for number in 0..RUNNERS {
            let to_redis = links
                .spawn(Link::open(local(redis.port())))
                .await
                .context("opening a link")??;
            let to_postgres = links
                .spawn(Link::open(local(postgres.port())))
                .await
                .context("opening a link")??;
            let direct = postgres.url("postgres");
            let direct_address = local(postgres.port()).to_string();
            let variables = [
                ("redis_url", format!("redis://{}", to_redis.address())),
                (
                    "database_url",
                    direct.replace(&direct_address, &to_postgres.address().to_string()),
                ),
                ("redis_key_prefix", "chaos:".to_owned()),
                ("identity", "header".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec();
            let address = local(free_port()?);
            let app = serve(runner, address, &variables, log(folder, number, 0))?;
            runners.push(Runner {
                redis: to_redis,
                postgres: to_postgres,
                app,
                address,
                program: runner.to_owned(),
                variables,
                folder: folder.to_owned(),
                number,
                starts: 1,
            });
        }
        Ok(Self {
            redis,
            postgres,
            runners,
        })
    }

    /// All stored orders.
    pub async fn orders(&self) -> Result<Vec<Row>> {
        let (client, connection) = tokio_postgres::connect(&self.postgres.url("postgres"), NoTls)
            .await
            .context("connecting to Postgres")?;
        let connection = tokio::spawn(connection);
        let sql = r#"SELECT idempotency_key, order_id::text, document::text,
                            '"' || encode(based_on, 'hex') || '"' FROM orders"#;
        let rows = client.query(sql, &[]).await?;
        drop(client);
        connection.await??;
        rows.iter()
            .map(|row| {
                let document: String = row.try_get(2)?;
                let order: Order =
                    serde_json::from_str(&document).context("reading a stored order")?;
                Ok(Row {
                    key: row.try_get(0)?,
                    order_id: row.try_get(1)?,
                    total: order.total().context("a stored order has no total")?,
                    order,
                    based_on: row.try_get(3)?,
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
        let log = log(&self.folder, self.number, self.starts);
        self.starts += 1;
        self.app = serve(&self.program, self.address, &self.variables, log)?;
        Ok(())
    }
}

fn serve(
    program: &Path,
    address: SocketAddr,
    variables: &[(String, String)],
    log: PathBuf,
) -> Result<App> {
    let host = Host::Runner(program.to_owned());
    App::start(&host, address, variables, Output::File(log))
}

/// Each start has its own log, so that the log of a killed host is kept.
fn log(folder: &Path, number: usize, start: usize) -> PathBuf {
    folder.join(format!("runner-{number}.{start}.log"))
}
