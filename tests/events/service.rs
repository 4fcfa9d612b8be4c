//! The built component, served with a Postgres of its own, and a reader of its feed.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use devstack::process;
use fixtures::Served;
use serde_json::Value;
use uuid::Uuid;

use crate::stream::Database;

/// Where the feed is.
pub const EVENTS: &str = "/api/v1/events";
/// What its reader presents.
pub const TOKEN: &str = "an-operator's-token-of-32-characters";

/// A served component with a Postgres of its own.
pub struct Service {
    pub served: Arc<Served>,
    pub database: Database,
}

impl Service {
    /// Serves it on a database.
    pub async fn on(database: Database) -> Self {
        process::raise_file_limit();
        let (name, url) = (format!("events_{}", Uuid::new_v4().simple()), database.url());
        let variables = [("database_url", &*url), ("identity", "none"), ("events_token", TOKEN)];
        let served = Served::start_with("spin.toml", &name, &variables).await.unwrap();
        Self { served: served.into(), database }
    }

    /// A reader that begins with the first order.
    pub fn reader(&self) -> Reader {
        let next = format!("{EVENTS}?limit=50&wait=1");
        Reader { served: self.served.clone(), next, events: Vec::new(), restarts: 0 }
    }
}

/// The order that is created when all others are.
pub type Last = Mutex<Option<String>>;

/// Reads the feed as docs/events.md says.
pub struct Reader {
    served: Arc<Served>,
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
            let answer = self.served.get(&self.next).field("authorization", format!("Bearer {TOKEN}")).await;
            match answer.status {
                200 => {
                    self.next = answer.link("next");
                    self.events.extend(answer.json().as_array().unwrap().clone());
                }
                410 => {
                    self.next = answer.link("first");
                    self.events.clear();
                    self.restarts += 1;
                }
                503 => tokio::time::sleep(Duration::from_millis(100)).await,
                _ => panic!("{answer:?}"),
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
