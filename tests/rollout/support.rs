//! Databases at a version of the schema, components of two releases on them, and their clients.

use std::path::PathBuf;
use std::time::Duration;

use devstack::app::Output;
use devstack::{App, Host, process, workspace};
use fixtures::Shared;
use reqwest::{Client as Http, Response};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// The last version of the schema that the previous release knows.
pub const PREVIOUS: i64 = 3;

/// The servers that the tests share.
pub fn shared() -> Shared {
    process::raise_file_limit();
    Shared::told().unwrap()
}

/// A name that no other test uses.
pub fn new_name() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Creates an empty database on the shared server.
pub async fn empty_database() -> String {
    let (name, admin) = (new_name(), shared().postgres_url);
    migrator::create_database(&admin, &name, None)
        .await
        .unwrap();
    admin.replace("/postgres", &format!("/{name}"))
}

/// Creates a database with the previous release's schema.
pub async fn previous_database() -> String {
    let url = empty_database().await;
    migrator::migrate_to(&url, PREVIOUS).await.unwrap();
    url
}

/// Connects to a database.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A number from a query.
pub async fn number(database: &Client, sql: &str) -> i64 {
    database.query_one(sql, &[]).await.unwrap().get(0)
}

/// A release of the component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The one before this checkout's, in `previous`.
    Previous,
    /// This checkout's.
    Current,
}

impl Release {
    fn manifest(self) -> PathBuf {
        workspace::root().join(match self {
            Self::Previous => "tests/rollout/previous/spin.toml",
            Self::Current => "spin.toml",
        })
    }

    /// Serves it. Instances with one prefix share their records in Redis.
    pub fn serve(self, redis_url: &str, database_url: &str, prefix: &str) -> Served {
        let component = workspace::root().join("target/wasm32-wasip2/release/orders.wasm");
        assert!(
            self == Self::Previous || component.exists(),
            "{} is missing: run the tests with `cargo xtask test`, which builds it",
            component.display()
        );
        let folder = shared().folder;
        std::fs::create_dir_all(&folder).unwrap();
        let address = process::local(process::free_port().unwrap());
        let variables = [
            ("redis_url", redis_url),
            ("database_url", database_url),
            ("redis_key_prefix", prefix),
            ("identity", "none"),
            // A busy machine is not a failure.
            ("redis_timeout_ms", "20000"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let host = Host::Runner(workspace::tool("runner"));
        let command = host.command(&self.manifest(), address, &variables);
        let log = folder.join(format!("rollout-{}.log", address.port()));
        let app = App::run(command, address, Output::File(log)).unwrap();
        let http = Http::builder()
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        Served { app, http }
    }
}

/// A served component.
pub struct Served {
    app: App,
    http: Http,
}

/// An answer, read to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub etag: Option<String>,
    pub replayed: bool,
    pub body: Value,
}

impl Answer {
    async fn read(response: Response) -> Self {
        let field = |name| {
            let value = response.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        Self {
            status: response.status().as_u16(),
            etag: field("etag"),
            replayed: field("idempotent-replayed").is_some(),
            body: serde_json::from_str(&response.text().await.unwrap()).unwrap(),
        }
    }

    /// Asserts that this is the first answer to its key.
    pub fn assert_created(&self) -> &Self {
        assert_eq!((self.status, self.replayed), (201, false), "{self:?}");
        self
    }

    /// Asserts that this response replays that one.
    pub fn assert_replay_of(&self, first: &Self) {
        assert_eq!((self.status, self.replayed), (201, true), "{self:?}");
        assert_eq!(self.body, first.body);
    }
}

impl Served {
    fn url(&self) -> String {
        format!("{}/api/v1/orders", self.app.base_url())
    }

    /// Asks for an order.
    pub async fn order(&self, key: &str, order: &Value) -> Answer {
        self.order_if(None, key, order).await
    }

    /// Asks for an order if the list has this tag.
    pub async fn order_if(&self, tag: Option<&str>, key: &str, order: &Value) -> Answer {
        let mut request = self
            .http
            .post(self.url())
            .header("idempotency-key", key)
            .header("content-type", "application/json")
            .body(order.to_string());
        if let Some(tag) = tag {
            request = request.header("if-match", tag);
        }
        Answer::read(request.send().await.unwrap()).await
    }

    /// The list of orders, or with an id one of them.
    pub async fn get(&self, id: &str) -> Answer {
        let url = format!("{}{}{id}", self.url(), if id.is_empty() { "" } else { "/" });
        Answer::read(self.http.get(url).send().await.unwrap()).await
    }

    /// The list's tag.
    pub async fn tag(&self) -> String {
        self.get("").await.etag.unwrap()
    }
}

/// A valid order with this note.
pub fn an_order(note: &str) -> Value {
    json!({
        "currency": "EUR",
        "items": [
            {"sku": "A-1", "quantity": 2, "unitPrice": 1250},
            {"sku": "\"\u{1}é😀", "quantity": 1, "unitPrice": 0},
        ],
        "note": note,
    })
}
