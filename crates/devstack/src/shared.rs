//! The stores that `cargo xtask test` starts once and all tests share, each with a database and a key
//! prefix of its own: how the one tells the others where they are.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::migrate::create_database;

const FOLDER: &str = "DEVSTACK_FOLDER";
const REDIS_URL: &str = "DEVSTACK_REDIS_URL";
const POSTGRES_URL: &str = "DEVSTACK_POSTGRES_URL";

/// A migrated database for tests to copy.
pub const TEMPLATE: &str = "orders_template";

/// Where the shared stores are.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Where tests may put their own servers' data and logs.
    pub folder: PathBuf,
    /// Redis.
    pub redis_url: String,
    /// Postgres, its administrative database.
    pub postgres_url: String,
}

impl Shared {
    /// Tells a command's tests.
    pub fn tell(&self, command: &mut Command) {
        command
            .env(FOLDER, &self.folder)
            .env(REDIS_URL, &self.redis_url)
            .env(POSTGRES_URL, &self.postgres_url);
    }

    /// What a test was told.
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

    /// Creates a migrated database, and says where it is.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        create_database(&self.postgres_url, name, Some(TEMPLATE)).await?;
        Ok(self.postgres_url.replace("/postgres", &format!("/{name}")))
    }
}
