//! The Redis and Postgres that `cargo xtask test` starts once for all tests. Their URLs are passed to the tests
//! in environment variables; each test has its own database and key prefix.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::migrate::create_database;

const FOLDER: &str = "DEVSTACK_FOLDER";
const REDIS_URL: &str = "DEVSTACK_REDIS_URL";
const POSTGRES_URL: &str = "DEVSTACK_POSTGRES_URL";

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
}

impl Shared {
    /// Sets the environment variables for a command that runs tests.
    pub fn tell(&self, command: &mut Command) {
        command
            .env(FOLDER, &self.folder)
            .env(REDIS_URL, &self.redis_url)
            .env(POSTGRES_URL, &self.postgres_url);
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
        })
    }

    /// Creates a migrated database and returns its URL.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        create_database(&self.postgres_url, name, Some(TEMPLATE)).await?;
        Ok(self.postgres_url.replace("/postgres", &format!("/{name}")))
    }
}
