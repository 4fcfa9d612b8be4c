//! Starts the servers, and each row's contestant as its own process with its own database and key prefix.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use devstack::app::Output;
use devstack::process::{free_port, local};
use devstack::{App, Host, Postgres, Programs, Redis, workspace};
use tokio_postgres::{Client, NoTls};

use crate::contestants::{CREATE, Row, Workload};
use crate::goals::Facts;
use crate::load::{Requests, complete_replayed_keys, host_calls, send_order};

/// The migrated database that the contestants' databases are copied from.
const TEMPLATE: &str = "orders_template";

/// How to measure.
pub struct Options {
    /// The programs of Redis and Postgres.
    pub programs: Programs,
    /// The program of the load generator, wrk.
    pub wrk: PathBuf,
    /// The program of the native contestant.
    pub native: PathBuf,
    /// The hosts to measure on. What does not depend on the host is measured on the first one.
    pub hosts: Vec<Host>,
    /// Measure fewer rows, for a shorter time.
    pub quick: bool,
    /// The most stored orders that the growth run measures creation with; `None` leaves this out.
    pub stored_orders: Option<u64>,
}

/// The name of the bundled runner in tables.
pub const RUNNER: &str = "runner";

/// The name of a host in tables.
pub fn host_name(host: &Host) -> String {
    match host {
        Host::Spin(version) => format!("Spin {version}"),
        Host::Runner(_) => RUNNER.to_owned(),
    }
}

/// The servers that all contestants share.
pub struct Environment {
    /// How to measure.
    pub options: Options,
    /// Redis.
    pub redis: Redis,
    /// Postgres.
    pub postgres: Postgres,
    folder: PathBuf,
}

/// Where a contestant stores its orders and keys.
#[derive(Clone, Debug)]
pub struct Storage {
    /// The address of Redis.
    pub redis_url: String,
    /// The address of the contestant's own database.
    pub database_url: String,
    /// The prefix of all its keys in Redis.
    pub prefix: String,
    /// How customers are identified, as the component's variable says it.
    pub identity: &'static str,
    /// The number of the last order that was stored before the contestant started.
    pub filled: i64,
}

impl Storage {
    /// Connects to the database.
    pub async fn database(&self) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.database_url, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// The number of orders that were stored since the contestant started.
    pub async fn count(&self, database: &Client) -> Result<u64> {
        let sql = "SELECT count(*) FROM orders WHERE seq > $1";
        let row = database.query_one(sql, &[&self.filled]).await?;
        Ok(u64::try_from(row.try_get::<_, i64>(0)?)?)
    }
}

/// A row whose contestant runs.
pub struct PreparedRow {
    /// The row.
    pub row: Row,
    /// The host's name; `None` for native rows.
    pub host: Option<String>,
    /// What its requests contain.
    pub requests: Requests,
    /// The process that serves.
    pub app: App,
    /// Where it stores its orders.
    pub storage: Storage,
    /// A connection to its database.
    pub database: Client,
}

impl Environment {
    /// Starts the servers. They contain nothing but a template database with the schema.
    pub async fn start(options: Options) -> Result<Self> {
        eprintln!("Starting Redis and Postgres ...");
        let folder = workspace::stack_folder().join(format!("bench-{}", std::process::id()));
        let environment = Self {
            redis: Redis::start(&options.programs, &folder.join("redis"))?,
            postgres: Postgres::start(&options.programs, &folder.join("postgres"))?,
            options,
            folder,
        };
        let mut redis = redis::Client::open(environment.redis.url())?.get_connection()?;
        // No memory limit, and no rewrites of its log, which would pause it.
        for (name, value) in [("maxmemory", "0"), ("auto-aof-rewrite-percentage", "0")] {
            let () = redis::cmd("CONFIG").arg(&["SET", name, value]).query(&mut redis)?;
        }
        migrator::create_database(&environment.postgres.url("postgres"), TEMPLATE, None).await?;
        migrator::migrate(&environment.postgres.url(TEMPLATE)).await?;
        Ok(environment)
    }

    /// Creates a database, and names a key prefix in Redis.
    pub async fn storage(&self, name: &str) -> Result<Storage> {
        let name = name.replace(' ', "-");
        migrator::create_database(&self.postgres.url("postgres"), &name, Some(TEMPLATE)).await?;
        Ok(Storage {
            redis_url: self.redis.url(),
            database_url: self.postgres.url(&name),
            prefix: format!("{name}:"),
            identity: "none",
            filled: 0,
        })
    }

    /// The same as [`Self::storage`] with a table of hash partitions, one customer's orders in one of them.
    pub async fn partitioned_storage(&self, name: &str, partitions: u32) -> Result<Storage> {
        let storage = self.storage(name).await?;
        let database = storage.database().await?;
        database.batch_execute("DROP TABLE orders").await?;
        let create = format!("SELECT create_resource_table('orders', 'order', {partitions})");
        database.batch_execute(&create).await?;
        Ok(storage)
    }

    /// Starts a row's contestant on a host, with new storage.
    pub async fn prepare(&self, row: Row, host: &Host) -> Result<PreparedRow> {
        let name = match host {
            Host::Spin(_) => format!("{} spin", row.name),
            Host::Runner(_) => row.name.to_owned(),
        };
        let storage = self.storage(&name).await?;
        self.serve(row, host, storage, Requests::default()).await
    }

    /// The calls of the host that the runner counts for a creation and for a replay, and the size of the component.
    pub async fn facts(&self) -> Result<Facts> {
        let runner = self.options.hosts.iter().find(|host| matches!(host, Host::Runner(_)));
        let runner = runner.context("no runner to count calls with")?;
        let storage = self.storage("host calls").await?;
        let row = self.serve_with(CREATE, runner, storage, Requests::default(), &["--count-calls"]).await?;
        let (url, client) = (row.app.base_url(), reqwest::Client::new());
        let counted = async || {
            // An instance returns its connection to Postgres after the response.
            tokio::time::sleep(Duration::from_secs(1) / 2).await;
            host_calls(&url).await
        };
        // The instance is warm after the first creations, and the record is completed after the first replay.
        let (mut calls, mut keys) = ([0, 0], 0..);
        for key in keys.by_ref().take(3) {
            let before = counted().await?;
            send_order(&client, &url, &row.requests, key).await?;
            let created = counted().await?;
            send_order(&client, &url, &row.requests, key).await?;
            let first = counted().await?;
            send_order(&client, &url, &row.requests, key).await?;
            calls = [created - before, counted().await? - first];
        }
        let component = workspace::target().join(workspace::WASM_TARGET).join("release/orders.wasm");
        let size = std::fs::metadata(component)?.len();
        Ok(Facts { calls, size })
    }

    /// Starts a row's contestant on a host, with storage that may contain orders already.
    pub async fn serve(&self, row: Row, host: &Host, storage: Storage, requests: Requests) -> Result<PreparedRow> {
        self.serve_with(row, host, storage, requests, &[]).await
    }

    async fn serve_with(
        &self,
        row: Row,
        host: &Host,
        storage: Storage,
        requests: Requests,
        options: &[&str],
    ) -> Result<PreparedRow> {
        let address = local(free_port()?);
        let variables = [
            ("redis_url", storage.redis_url.as_str()),
            ("database_url", &storage.database_url),
            ("redis_key_prefix", &storage.prefix),
            ("identity", storage.identity),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let manifest = row.contestant.manifest();
        let mut command = if let Some(manifest) = &manifest {
            host.command(&workspace::root().join(manifest), address, &variables)
        } else {
            let mut command = Command::new(&self.options.native);
            command
                .args(["--listen", &address.to_string()])
                .envs(variables.map(|(name, value)| (name.to_uppercase(), value)));
            command
        };
        command.args(options);
        // With it, hosts capture a backtrace with each error, also of those that they expect.
        command.env_remove("RUST_BACKTRACE");
        let log = format!("{}.log", storage.prefix.trim_end_matches(':'));
        let app = App::run(command, address, Output::File(self.folder.join(log)))?;
        if row.workload == Workload::Replay {
            complete_replayed_keys(&app.base_url(), &requests).await?;
        }
        Ok(PreparedRow {
            row,
            host: manifest.map(|_| host_name(host)),
            requests,
            app,
            database: storage.database().await?,
            storage,
        })
    }

    /// Stops the servers and removes their data if the run succeeded; otherwise keeps the logs.
    pub fn finish<T>(self, report: Result<T>) -> Result<T> {
        let report = report.with_context(|| format!("the logs are in {}", self.folder.display()))?;
        let folder = self.folder;
        drop((self.redis, self.postgres));
        Postgres::remove(&folder.join("postgres"))?;
        std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
        Ok(report)
    }
}
