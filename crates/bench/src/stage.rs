//! The servers, and every contestant as a process of its own over a database and a key prefix of its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use devstack::app::Output;
use devstack::process::{free_port, local};
use devstack::shared::TEMPLATE;
use devstack::{App, Host, Postgres, Programs, Redis, migrate, workspace};
use tokio_postgres::{Client, NoTls};

use crate::Options;
use crate::contestants::{Component, Contestant, Row, Workload};

/// What [`Workload::Replay`] repeats; load.lua knows them, too.
const REPLAYED_KEYS: u64 = 64;

/// The order that load.lua sends.
pub const ORDER: &str =
    r#"{"currency":"EUR","items":[{"sku":"A-1","quantity":2,"unitPrice":1250}]}"#;

/// The servers that all contestants share.
pub struct Stage {
    /// Redis.
    pub redis: Redis,
    /// Postgres.
    pub postgres: Postgres,
    folder: PathBuf,
}

/// Where a contestant's orders and keys are.
#[derive(Clone, Debug)]
pub struct Place {
    /// Redis.
    pub redis_url: String,
    /// A database of its own.
    pub database_url: String,
    /// What all of its keys start with.
    pub prefix: String,
}

impl Place {
    fn variables(&self) -> [(String, String); 3] {
        [
            ("redis_url", &self.redis_url),
            ("database_url", &self.database_url),
            ("redis_key_prefix", &self.prefix),
        ]
        .map(|(name, value)| (name.to_owned(), value.clone()))
    }

    /// A connection to the database.
    pub async fn database(&self) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.database_url, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// How many orders there are.
    pub async fn count(database: &Client) -> Result<u64> {
        let row = database
            .query_one("SELECT count(*) FROM orders", &[])
            .await?;
        Ok(u64::try_from(row.try_get::<_, i64>(0)?)?)
    }
}

impl Stage {
    /// Starts the servers, with nothing in them but a schema to copy.
    pub async fn set(programs: &Programs) -> Result<Self> {
        eprintln!("Starting Redis and Postgres ...");
        let folder = workspace::stack_folder().join(format!("bench-{}", std::process::id()));
        let stage = Self {
            redis: start_redis(programs, &folder.join("redis"))?,
            postgres: Postgres::start(programs, &folder.join("postgres"))?,
            folder,
        };
        migrate::create_database(&stage.postgres.url("postgres"), TEMPLATE, None).await?;
        migrate::migrate(&stage.postgres.url(TEMPLATE)).await?;
        Ok(stage)
    }

    /// Where data and logs are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Another Redis, with its data here.
    pub fn another_redis(&self, programs: &Programs, name: &str) -> Result<Redis> {
        start_redis(programs, &self.folder.join(name))
    }

    /// A database, and a prefix in our Redis.
    pub async fn place(&self, name: &str) -> Result<Place> {
        let name = name.replace(' ', "-");
        migrate::create_database(&self.postgres.url("postgres"), &name, Some(TEMPLATE)).await?;
        Ok(Place {
            redis_url: self.redis.url(),
            database_url: self.postgres.url(&name),
            prefix: format!("{name}:"),
        })
    }

    /// Serves a component over a place, with more in its environment.
    pub fn serve(
        &self,
        host: &Host,
        component: Component,
        place: &Place,
        environment: &[(&str, &str)],
    ) -> Result<App> {
        let address = local(free_port()?);
        let mut command = host.command(&component.manifest(), address, &place.variables());
        command.envs(environment.iter().copied());
        App::run(command, address, self.log(&place.prefix))
    }

    fn serve_natively(&self, options: &Options, protocol: &str, place: &Place) -> Result<App> {
        let address = local(free_port()?);
        let mut command = native(options, place);
        command.args(["serve", protocol, "--listen", &address.to_string()]);
        App::run(command, address, self.log(&place.prefix))
    }

    fn log(&self, prefix: &str) -> Output {
        let name = prefix.trim_end_matches(':');
        Output::File(self.folder.join(format!("{name}.log")))
    }

    /// Gets a row ready to be measured on a host.
    pub async fn enter(&self, options: &Options, row: Row, host: &Host) -> Result<Entrant> {
        let name = match host {
            Host::Spin(_) => format!("{} spin", row.name),
            Host::Runner(_) => row.name.to_owned(),
        };
        let place = self.place(&name).await?;
        let app = match row.contestant {
            Contestant::Component(component) => Some(self.serve(host, component, &place, &[])?),
            Contestant::Native(protocol) => Some(self.serve_natively(options, protocol, &place)?),
            Contestant::Store(_) => None,
        };
        if let (Some(app), Workload::Replay) = (&app, row.workload) {
            finish_replayed_keys(&app.base_url()).await?;
        }
        Ok(Entrant {
            row,
            host: matches!(row.contestant, Contestant::Component(_)).then(|| host.clone()),
            database: place.database().await?,
            app,
            place,
        })
    }

    /// Ends the servers and removes their data.
    pub fn clear(self) -> Result<()> {
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

/// The native contestants' program over a place.
pub fn native(options: &Options, place: &Place) -> Command {
    let mut command = Command::new(&options.native);
    let environment = HashMap::from([
        ("REDIS_URL", &place.redis_url),
        ("DATABASE_URL", &place.database_url),
        ("REDIS_KEY_PREFIX", &place.prefix),
    ]);
    command.envs(environment);
    command
}

/// A row that is ready.
pub struct Entrant {
    /// Which.
    pub row: Row,
    /// On what, if it needs a host.
    pub host: Option<Host>,
    /// What serves it, if something does.
    pub app: Option<App>,
    /// Where its orders are.
    pub place: Place,
    /// A connection to them.
    pub database: Client,
}

/// Without a limit of memory, and without the pauses in which its log is written anew.
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

/// Creates the orders, and asks for each until Redis alone knows it.
pub async fn finish_replayed_keys(base_url: &str) -> Result<()> {
    let client = reqwest::Client::new();
    for number in 0..REPLAYED_KEYS {
        let key = format!("00000000-0000-4000-8000-{number:012x}");
        for _ in 0..2 {
            order(&client, base_url, &key).await?;
        }
    }
    Ok(())
}

/// Sends the order under a key; it must be created, or have been.
pub async fn order(client: &reqwest::Client, base_url: &str, key: &str) -> Result<()> {
    let answer = client
        .post(format!("{base_url}/api/v1/orders"))
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", key)
        .body(ORDER)
        .send()
        .await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status.as_u16() == 201, "{status}: {text}");
    Ok(())
}
