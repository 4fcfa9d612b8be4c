//! An application of any manifest, served for one test on the shared stores, with a database and a prefix of its own.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::app::Output;
use crate::{App, Host, Shared, examples, process, workspace};

/// A served application; dropping it stops it.
pub struct Served {
    app: App,
    folder: PathBuf,
    /// Its database.
    pub database_url: String,
}

impl Served {
    /// Serves the application of a manifest, given relative to the checkout, with Spin when `ORDERS_HOST` is `spin` and
    /// otherwise with the runner. `name` must be unique among tests.
    ///
    /// # Errors
    /// The shared stores are not there, or the application does not start; the error has its log.
    pub async fn start(manifest: &str, name: &str) -> Result<Self> {
        Self::start_with(manifest, name, &[]).await
    }

    /// The same with further variables.
    ///
    /// # Errors
    /// The shared stores are not there, or the application does not start; the error has its log.
    pub async fn start_with(manifest: &str, name: &str, further: &[(&str, &str)]) -> Result<Self> {
        let shared = Shared::told()?;
        let millis = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let name = format!("{name}_{millis}");
        let folder = shared.folder.join(&name);
        std::fs::create_dir_all(&folder)?;
        let database_url = shared.create_database(&name).await?;
        if let Some(example) = example(manifest) {
            examples::migrate(example, &database_url).await?;
        }
        let variables = [
            ("redis_url", shared.redis_url.clone()),
            ("database_url", database_url.clone()),
            ("redis_key_prefix", format!("{name}:")),
        ];
        let further = further
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        let variables: Vec<_> = (variables.into_iter().chain(further))
            .map(|(variable, value)| (variable.to_owned(), value))
            .collect();
        let host = Host::chosen()?;
        let address = process::local(process::free_port()?);
        let manifest = workspace::root().join(Path::new(manifest));
        let command = host.command(&manifest, address, &variables);
        let app = App::run(command, address, Output::File(folder.join("app.log")))?;
        Ok(Self {
            app,
            folder,
            database_url,
        })
    }

    /// The address that it listens on.
    pub fn address(&self) -> std::net::SocketAddr {
        self.app.address()
    }

    /// Where it is, without a path.
    pub fn base_url(&self) -> String {
        self.app.base_url()
    }
}

/// The name of the example that a manifest is in.
fn example(manifest: &str) -> Option<&str> {
    let (example, _) = manifest.strip_prefix("examples/")?.split_once('/')?;
    Some(example)
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.app.kill();
        // The log of a failed test is kept.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
