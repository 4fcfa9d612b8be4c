//! The built component, served with a Postgres of its own, and a reader of its feed.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use devstack::app::Output;
use devstack::{App, Host, process, workspace};
use fixtures::Shared;
use serde_json::Value;
use uuid::Uuid;

use crate::stream::Database;

/// Where the feed is.
pub const EVENTS: &str = "/api/v1/events";
/// What its reader presents.
pub const TOKEN: &str = "an-operator's-token-of-32-characters";

/// A served component with a Postgres of its own.
pub struct Service {
    app: App,
    pub database: Database,
}

impl Service {
    /// Serves it on a database.
    pub fn on(database: Database) -> Self {
        process::raise_file_limit();
        let variables = [
            ("redis_url", Shared::told().unwrap().redis_url),
            ("database_url", database.url()),
            ("redis_key_prefix", format!("{}:", Uuid::new_v4().simple())),
            ("identity", "none".to_owned()),
            ("events_token", TOKEN.to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        let address = process::local(process::free_port().unwrap());
        let manifest = workspace::root().join("spin.toml");
        let command = Host::chosen().unwrap().command(&manifest, address, &variables);
        let log = Output::File(database.folder().join("app.log"));
        Self { app: App::run(command, address, log).unwrap(), database }
    }

    /// The URL of the feed.
    pub fn feed(&self) -> String {
        format!("{}{EVENTS}", self.app.base_url())
    }

    /// A reader that begins with the first order.
    pub fn reader(&self) -> Reader {
        Reader {
            base: self.app.base_url(),
            client: reqwest::Client::new(),
            next: format!("{EVENTS}?limit=50&wait=1"),
            events: Vec::new(),
            restarts: 0,
        }
    }
}

/// The order that is created when all others are.
pub type Last = Mutex<Option<String>>;

/// Reads the feed as docs/events.md says.
pub struct Reader {
    base: String,
    client: reqwest::Client,
    next: String,
    /// Since it has started again.
    pub events: Vec<Value>,
    pub restarts: u32,
}

impl Reader {
    /// Reads on until this order, which is named later, is the last event.
    pub async fn until(&mut self, last: &Last) {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < Duration::from_secs(120), "{}", self.next);
            let url = format!("{}{}", self.base, self.next);
            let request = self.client.get(url).bearer_auth(TOKEN);
            let answer = request.send().await.unwrap();
            let links = answer.headers().get_all("link").iter();
            let links: Vec<String> = links.map(|l| l.to_str().unwrap().to_owned()).collect();
            let link = |relation: &str| {
                let end = format!(">; rel=\"{relation}\"");
                let mut targets = links.iter().filter_map(|l| l.strip_prefix('<')?.strip_suffix(&end));
                targets.next().unwrap().to_owned()
            };
            match answer.status().as_u16() {
                200 => {
                    self.next = link("next");
                    let page: Vec<Value> = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
                    self.events.extend(page);
                }
                410 => {
                    self.next = link("first");
                    self.events.clear();
                    self.restarts += 1;
                }
                503 => tokio::time::sleep(Duration::from_millis(100)).await,
                other => panic!("{other}: {}", answer.text().await.unwrap()),
            }
            let last = last.lock().unwrap().clone();
            if last.is_some() && last.as_deref() == self.ids().last().copied() {
                return;
            }
        }
    }

    pub fn ids_and_customers(&self) -> impl Iterator<Item = (&str, &str)> {
        fn text<'e>(event: &'e Value, name: &str) -> &'e str {
            event[name].as_str().unwrap()
        }
        self.events.iter().map(|event| (text(event, "id"), text(event, "partitionkey")))
    }

    pub fn ids(&self) -> Vec<&str> {
        self.ids_and_customers().map(|(id, _)| id).collect()
    }
}
