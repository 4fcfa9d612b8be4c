//! The Redis and Postgres that `cargo xtask test` starts once for all tests. Their URLs are passed to the tests
//! in environment variables; each test has its own database and key prefix.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::migrate::{create_database, migrate};

const FOLDER: &str = "DEVSTACK_FOLDER";
const REDIS_URL: &str = "DEVSTACK_REDIS_URL";
const POSTGRES_URL: &str = "DEVSTACK_POSTGRES_URL";

const PARTITIONS: &str = "DEVSTACK_PARTITIONS";

const EMBEDDED: &str = "DEVSTACK_EMBEDDED";

/// The migrated database that the tests' databases are copied from.
pub const TEMPLATE: &str = "orders_template";

/// The shared stores.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Folder for the data and logs of servers that a test starts itself.
    pub folder: PathBuf,
    /// The URL of Redis.
    pub redis_url: String,
    /// The URL of the administrative database of Postgres.
    pub postgres_url: String,
    /// How many hash partitions the tests' tables of orders have; 0 for tables that are not partitioned.
    pub partitions: u32,
    /// Whether tests serve with the embedded store, and without these servers.
    pub embedded: bool,
}

impl Shared {
    /// Sets the environment variables for a command that runs tests.
    pub fn tell(&self, command: &mut Command) {
        command
            .env(FOLDER, &self.folder)
            .env(REDIS_URL, &self.redis_url)
            .env(POSTGRES_URL, &self.postgres_url)
            .env(PARTITIONS, self.partitions.to_string())
            .env(EMBEDDED, self.embedded.to_string());
    }

    /// Reads the environment variables.
    pub fn told() -> Result<Self> {
        let told = |name: &str| {
            std::env::var(name).with_context(|| {
                format!(
                    "{name} is not set: run the tests with `cargo xtask test`, or those of tests/api against \
                     a deployment with ORDERS_BASE_URL"
                )
            })
        };
        Ok(Self {
            folder: told(FOLDER)?.into(),
            redis_url: told(REDIS_URL)?,
            postgres_url: told(POSTGRES_URL)?,
            partitions: told(PARTITIONS)?.parse()?,
            embedded: told(EMBEDDED)?.parse()?,
        })
    }

    /// Creates the database that [`create_database`](Self::create_database) copies.
    ///
    /// # Errors
    /// When Postgres cannot be reached, or a migration fails.
    pub async fn create_template(&self) -> Result<()> {
        let name = self.template();
        create_database(&self.postgres_url, &name, None).await?;
        self.migrate(&self.url_of(&name)).await
    }

    /// Creates a migrated database and returns its URL.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        create_database(&self.postgres_url, name, Some(&self.template())).await?;
        Ok(self.url_of(name))
    }

    /// Migrates an empty database, and partitions its table of orders if there are to be partitions.
    ///
    /// # Errors
    /// When the database cannot be reached, or a migration fails.
    pub async fn migrate(&self, database_url: &str) -> Result<()> {
        migrate(database_url).await?;
        if self.partitions > 0 {
            let mut connection = PgConnection::connect(database_url).await?;
            connection.execute("DROP TABLE orders").await?;
            let partitions = self.partitions;
            let create = format!("SELECT create_resource_table('orders', 'order', {partitions})");
            connection.execute(AssertSqlSafe(create)).await?;
            connection.close().await?;
        }
        Ok(())
    }

    fn template(&self) -> String {
        match self.partitions {
            0 => TEMPLATE.to_owned(),
            partitions => format!("{TEMPLATE}_{partitions}"),
        }
    }

    fn url_of(&self, name: &str) -> String {
        self.postgres_url.replace("/postgres", &format!("/{name}"))
    }
}
