//! Starts the servers, and each row's contestant as its own process with its own database and key prefix.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use devstack::app::Output;
use devstack::process::{free_port, local};
use devstack::{App, Host, Postgres, Programs, Redis, workspace};
use tokio_postgres::{Client, NoTls};

use crate::contestants::{Component, Contestant, Row, Workload};
use crate::generator::Requests;
use crate::options::Options;

/// The number of keys that [`Workload::Replay`] repeats; load.lua has the same number.
const REPLAYED_KEYS: u64 = 64;

/// The migrated database that the contestants' databases are copied from.
const TEMPLATE: &str = "orders_template";

/// The servers that all contestants share.
pub struct Environment {
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
    fn variables(&self) -> [(String, String); 4] {
        [
            ("redis_url", self.redis_url.as_str()),
            ("database_url", &self.database_url),
            ("redis_key_prefix", &self.prefix),
            ("identity", self.identity),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    }

    /// The name of a key's record in Redis, as the component forms it.
    pub fn record_name(&self, key: &str) -> String {
        format!("{}orders:9:anonymous:{key}", self.prefix)
    }

    /// Connects to the database.
    pub async fn database(&self) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.database_url, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// The number of orders that were stored since the contestant started.
    pub async fn count(&self, database: &Client) -> Result<u64> {
        // The native contestants' databases and the previous release's have no index on `seq`, and few orders.
        let (all, new) = (
            "SELECT count(*) FROM orders",
            "SELECT count(*) FROM orders WHERE seq > $1",
        );
        let row = match self.filled {
            0 => database.query_one(all, &[]).await?,
            filled => database.query_one(new, &[&filled]).await?,
        };
        Ok(u64::try_from(row.try_get::<_, i64>(0)?)?)
    }
}

impl Environment {
    /// Starts the servers. They contain nothing but a template database with the schema.
    pub async fn start(programs: &Programs) -> Result<Self> {
        eprintln!("Starting Redis and Postgres ...");
        let folder = workspace::stack_folder().join(format!("bench-{}", std::process::id()));
        let environment = Self {
            redis: start_redis(programs, &folder.join("redis"))?,
            postgres: Postgres::start(programs, &folder.join("postgres"))?,
            folder,
        };
        migrator::create_database(&environment.postgres.url("postgres"), TEMPLATE, None).await?;
        migrator::migrate(&environment.postgres.url(TEMPLATE)).await?;
        Ok(environment)
    }

    /// The folder of data and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts another Redis with its data in the same folder.
    pub fn another_redis(&self, programs: &Programs, name: &str) -> Result<Redis> {
        start_redis(programs, &self.folder.join(name))
    }

    /// Creates a database, and names a key prefix in Redis.
    pub async fn storage(&self, name: &str) -> Result<Storage> {
        let name = name.replace(' ', "-");
        migrator::create_database(&self.postgres.url("postgres"), &name, Some(TEMPLATE)).await?;
        Ok(self.storage_in(&name))
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

    /// The storage of a database that exists.
    fn storage_in(&self, name: &str) -> Storage {
        Storage {
            redis_url: self.redis.url(),
            database_url: self.postgres.url(name),
            prefix: format!("{name}:"),
            identity: "none",
            filled: 0,
        }
    }

    /// Serves a component with the host's default flags.
    pub fn serve(&self, host: &Host, component: Component, storage: &Storage) -> Result<App> {
        self.serve_with(host, component, storage, |_| ())
    }

    /// Serves a component with a host whose command line or environment `configure` extends.
    pub fn serve_with(
        &self,
        host: &Host,
        component: Component,
        storage: &Storage,
        configure: impl FnOnce(&mut Command),
    ) -> Result<App> {
        self.serve_manifest(host, &component.manifest(), storage, configure)
    }

    /// The same with any manifest.
    pub fn serve_manifest(
        &self,
        host: &Host,
        manifest: &Path,
        storage: &Storage,
        configure: impl FnOnce(&mut Command),
    ) -> Result<App> {
        let address = local(free_port()?);
        let mut command = host.command(manifest, address, &storage.variables());
        // With it, hosts capture a backtrace with each error, also of those that they expect.
        command.env_remove("RUST_BACKTRACE");
        configure(&mut command);
        App::run(command, address, self.log(&storage.prefix))
    }

    fn serve_natively(&self, options: &Options, protocol: &str, storage: &Storage) -> Result<App> {
        let address = local(free_port()?);
        let mut command = native(options, storage);
        command.args(["serve", protocol, "--listen", &address.to_string()]);
        App::run(command, address, self.log(&storage.prefix))
    }

    fn log(&self, prefix: &str) -> Output {
        let name = prefix.trim_end_matches(':');
        Output::File(self.folder.join(format!("{name}.log")))
    }

    /// Starts a row's contestant on a host, with new storage.
    pub async fn prepare(&self, options: &Options, row: Row, host: &Host) -> Result<PreparedRow> {
        let name = match host {
            Host::Spin(_) => format!("{} spin", row.name),
            Host::Runner(_) => row.name.to_owned(),
        };
        let storage = self.storage(&name).await?;
        let app = match row.contestant {
            Contestant::Component(component) => Some(self.serve(host, component, &storage)?),
            Contestant::Native(protocol) => Some(self.serve_natively(options, protocol, &storage)?),
            Contestant::Store(_) => None,
        };
        let requests = Requests::default();
        if let (Some(app), Workload::Replay) = (&app, row.workload) {
            complete_replayed_keys(&app.base_url(), &requests).await?;
        }
        Ok(PreparedRow {
            row,
            host: matches!(row.contestant, Contestant::Component(_)).then(|| host.clone()),
            database: storage.database().await?,
            requests,
            app,
            storage,
        })
    }

    /// Starts the order component on a host, with storage that may contain orders already.
    pub async fn prepare_ours(
        &self,
        host: &Host,
        row: Row,
        storage: Storage,
        requests: Requests,
    ) -> Result<PreparedRow> {
        let app = self.serve(host, Component::Ours, &storage)?;
        if row.workload == Workload::Replay {
            complete_replayed_keys(&app.base_url(), &requests).await?;
        }
        Ok(PreparedRow {
            row,
            host: Some(host.clone()),
            requests,
            app: Some(app),
            database: storage.database().await?,
            storage,
        })
    }

    /// Stops the servers and removes their data.
    pub fn remove(self) -> Result<()> {
        let Self {
            redis,
            postgres,
            folder,
        } = self;
        drop((redis, postgres));
        Postgres::remove(&folder.join("postgres"))?;
        std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))
    }
}

/// The command of the native contestants' program with this storage.
pub fn native(options: &Options, storage: &Storage) -> Command {
    let mut command = Command::new(&options.native);
    let environment = HashMap::from([
        ("REDIS_URL", &storage.redis_url),
        ("DATABASE_URL", &storage.database_url),
        ("REDIS_KEY_PREFIX", &storage.prefix),
    ]);
    command.envs(environment);
    command
}

/// A row whose contestant runs.
pub struct PreparedRow {
    /// The row.
    pub row: Row,
    /// The host; `None` for native rows and store rows.
    pub host: Option<Host>,
    /// What its requests contain.
    pub requests: Requests,
    /// The process that serves; `None` for store rows.
    pub app: Option<App>,
    /// Where it stores its orders.
    pub storage: Storage,
    /// A connection to its database.
    pub database: Client,
}

/// Starts a Redis without a memory limit, and without rewrites of its log, which would pause it.
fn start_redis(programs: &Programs, folder: &Path) -> Result<Redis> {
    let redis = Redis::start(programs, folder)?;
    let mut connection = redis::Client::open(redis.url())?.get_connection()?;
    for (name, value) in [("maxmemory", "0"), ("auto-aof-rewrite-percentage", "0")] {
        let () = redis::cmd("CONFIG")
            .arg("SET")
            .arg(name)
            .arg(value)
            .query(&mut connection)?;
    }
    Ok(redis)
}

/// Creates the orders that [`Workload::Replay`] repeats, and sends each twice: the first retry marks its key as
/// completed in Redis.
pub async fn complete_replayed_keys(base_url: &str, requests: &Requests) -> Result<()> {
    let client = reqwest::Client::new();
    for number in 0..REPLAYED_KEYS {
        let key = format!("00000000-0000-4000-8000-{number:012x}");
        for _ in 0..2 {
            order(&client, base_url, &key, requests).await?;
        }
    }
    Ok(())
}

/// Sends the order with a key.
///
/// # Errors
/// If the response is not 201.
pub async fn order(
    client: &reqwest::Client,
    base_url: &str,
    key: &str,
    requests: &Requests,
) -> Result<()> {
    let answer = client
        .post(format!("{base_url}/api/v1/orders"))
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", key)
        .body(requests.order.clone())
        .send()
        .await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status.as_u16() == 201, "{status}: {text}");
    Ok(())
}
