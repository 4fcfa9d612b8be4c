//! The one fixture: a served application with a database and a key prefix of its own, and what a client
//! needs to talk to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use devstack::app::Output;
use devstack::{App, Host, Postgres, Programs, Redis, process, workspace};
use fixtures::Shared;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio_postgres::{NoTls, Transaction};
use uuid::Uuid;

use crate::applies::Place;
use crate::documented::assert_documented;

/// Longer than any response may take: the component's deadlines are 500 ms and 5 s.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// What a test needs beyond the application itself.
#[derive(Default)]
pub struct Setup {
    own_redis: bool,
    own_postgres: bool,
    store: Store,
    instances: usize,
    password: Option<String>,
    variables: Vec<(String, String)>,
}

/// What keeps the orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Store {
    /// Redis and Postgres.
    #[default]
    Servers,
    /// SQLite, in a file of the test's own.
    Embedded,
    /// SQLite without a file.
    EmbeddedInMemory,
}

/// Starts to describe what a test needs.
pub fn service() -> Setup {
    Setup {
        store: match Place::of_this_run() {
            Place::Embedded => Store::Embedded,
            _ => Store::Servers,
        },
        instances: 1,
        ..Setup::default()
    }
}

impl Setup {
    /// A Redis that the test may stop, fill or flush.
    pub fn own_redis(mut self) -> Self {
        self.own_redis = true;
        self
    }

    /// A Postgres that the test may stop.
    pub fn own_postgres(mut self) -> Self {
        self.own_postgres = true;
        self
    }

    /// A password for the stores of `own_redis` and `own_postgres`, in their URLs. Redis requires it until it restarts.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// The embedded store, also where the other tests use servers.
    pub fn store(mut self, store: Store) -> Self {
        self.store = store;
        self
    }

    /// Several host processes over the same stores.
    pub fn instances(mut self, instances: usize) -> Self {
        self.instances = instances;
        self
    }

    /// A variable other than its default.
    pub fn variable(mut self, name: &str, value: impl ToString) -> Self {
        self.variables.push((name.to_owned(), value.to_string()));
        self
    }

    /// More time for Redis than a busy machine ever takes, for tests that assert that it was used.
    pub fn patient_with_redis(self) -> Self {
        self.variable("redis_timeout_ms", 20_000)
    }

    /// Starts it all, or finds the deployment under test.
    pub async fn start(self) -> Service {
        process::raise_file_limit();
        match std::env::var("ORDERS_BASE_URL") {
            Ok(base) => self.deployed(base),
            Err(_) => self.local().await,
        }
    }

    fn deployed(self, base: String) -> Service {
        assert!(
            !self.own_redis && !self.own_postgres && self.instances == 1 && self.variables.is_empty(),
            "a deployment is not changed for a test: this one does not apply to Deployment"
        );
        Service {
            apps: Vec::new(),
            bases: vec![base.trim_end_matches('/').to_owned()],
            redis: None,
            postgres: None,
            redis_url: std::env::var("ORDERS_REDIS_URL").ok(),
            database_url: std::env::var("ORDERS_DATABASE_URL").ok(),
            prefix: None,
            folder: None,
            store: Store::Servers,
            variables: Vec::new(),
            client: client(),
        }
    }

    async fn local(self) -> Service {
        let name = Uuid::new_v4().simple().to_string();
        let shared = Shared::told().unwrap();
        let folder = shared.folder.join(&name);
        std::fs::create_dir_all(&folder).unwrap();
        if self.store != Store::Servers {
            return self.embedded(folder);
        }
        let programs = || Programs::find_or_install(false).unwrap();
        let redis = self.own_redis.then(|| Redis::start(&programs(), &folder.join("redis")).unwrap());
        let postgres = self.own_postgres.then(|| Postgres::start(&programs(), &folder.join("postgres")).unwrap());
        let mut redis_url = match &redis {
            Some(redis) => redis.url(),
            None => shared.redis_url.clone(),
        };
        let mut database_url = match &postgres {
            Some(postgres) => {
                let url = postgres.url("postgres");
                shared.migrate(&url).await.unwrap();
                url
            }
            None => shared.create_database(&name).await.unwrap(),
        };
        if let Some(password) = &self.password {
            assert!(self.own_redis && self.own_postgres);
            let client = redis::Client::open(redis_url.clone()).unwrap();
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            let mut require = redis::cmd("CONFIG");
            require.arg("SET").arg("requirepass").arg(password);
            let () = require.query_async(&mut connection).await.unwrap();
            redis_url = redis_url.replace("redis://", &format!("redis://:{password}@"));
            database_url = database_url.replace('@', &format!(":{password}@"));
        }
        let prefix = format!("{name}:");
        let mut variables = vec![
            ("redis_url".to_owned(), redis_url.clone()),
            ("database_url".to_owned(), database_url.clone()),
            ("redis_key_prefix".to_owned(), prefix.clone()),
            ("identity".to_owned(), "none".to_owned()),
        ];
        variables.extend(self.variables);
        let mut service = Service {
            apps: Vec::new(),
            bases: Vec::new(),
            redis,
            postgres,
            redis_url: Some(redis_url),
            database_url: Some(database_url),
            prefix: Some(prefix),
            folder: Some(folder),
            store: Store::Servers,
            variables,
            client: client(),
        };
        for _ in 0..self.instances {
            service.serve_another();
        }
        service
    }

    fn embedded(self, folder: PathBuf) -> Service {
        assert!(!self.own_redis && !self.own_postgres, "this test needs servers: it does not apply to Embedded");
        // More time than a busy machine's disk ever takes.
        let patience = ("database_timeout_ms", "20000");
        let variables = [("store", "embedded"), ("identity", "none"), patience];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut service = Service {
            apps: Vec::new(),
            bases: Vec::new(),
            redis: None,
            postgres: None,
            redis_url: None,
            database_url: None,
            prefix: None,
            folder: Some(folder),
            store: self.store,
            variables: variables.into_iter().chain(self.variables).collect(),
            client: client(),
        };
        for _ in 0..self.instances {
            service.serve_another();
        }
        service
    }
}

fn client() -> Client {
    Client::builder().timeout(CLIENT_TIMEOUT).build().unwrap()
}

/// A served application and its stores.
pub struct Service {
    /// The host processes; none against a deployment.
    pub apps: Vec<App>,
    bases: Vec<String>,
    redis: Option<Redis>,
    postgres: Option<Postgres>,
    redis_url: Option<String>,
    database_url: Option<String>,
    prefix: Option<String>,
    folder: Option<PathBuf>,
    store: Store,
    variables: Vec<(String, String)>,
    client: Client,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.apps.clear();
        self.redis = None;
        self.postgres = None;
        // A failed test's logs are worth more than a tidy folder.
        if let Some(folder) = self.folder.take().filter(|_| !std::thread::panicking()) {
            let _ = Postgres::remove_all(&folder);
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

impl Service {
    /// The Redis of `own_redis`.
    pub fn redis(&mut self) -> &mut Redis {
        self.redis.as_mut().expect("asked for with own_redis()")
    }

    /// The Postgres of `own_postgres`.
    pub fn postgres(&mut self) -> &mut Postgres {
        self.postgres.as_mut().expect("asked for with own_postgres()")
    }

    /// A standby of the Postgres of `own_postgres`.
    pub fn standby(&mut self) -> Postgres {
        let folder = self.folder().join("postgres-standby");
        let primary = process::local(self.postgres().port());
        let programs = Programs::find_or_install(false).unwrap();
        Postgres::start_standby(&programs, &folder, primary).unwrap()
    }

    /// Serves the application with one more process, after those there are.
    pub fn serve_another(&mut self) {
        let port = process::free_port().unwrap();
        self.serve_at(process::local(port));
    }

    /// Serves the application at an address, such as that of a process that was killed.
    pub fn serve_at(&mut self, address: SocketAddr) {
        let host = Host::chosen().unwrap();
        let log = self.folder().join(format!("app-{}.log", self.apps.len()));
        let manifest = workspace::root().join("spin.toml");
        let mut command = host.command(&manifest, address, &self.variables);
        match self.store {
            Store::Servers => {}
            Store::Embedded => {
                command.arg("--state-dir").arg(self.folder().join("state"));
            }
            Store::EmbeddedInMemory => {
                command.arg("--state-dir=");
            }
        }
        let app = App::run(command, address, Output::File(log)).unwrap();
        // No connection to a process that was there before.
        self.client = client();
        self.bases.push(app.base_url());
        self.apps.push(app);
    }

    /// Where the logs of what this test runs are.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().expect("served locally")
    }

    /// What all host processes have logged.
    pub fn logs(&self) -> String {
        let folder = self.folder();
        (0..self.apps.len()).map(|n| std::fs::read_to_string(folder.join(format!("app-{n}.log"))).unwrap()).collect()
    }

    /// Asserts that no request had to do without Redis.
    pub fn assert_redis_was_used(&self) {
        let logs = self.logs();
        assert!(!logs.contains("redis: down"), "{logs}");
    }

    /// Where the application is.
    pub fn base(&self) -> &str {
        &self.bases[0]
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.base().trim_start_matches("http://").parse().unwrap()
    }

    /// Requests an order.
    pub async fn order(&self, key: &str, body: &Value) -> Answer {
        self.order_at(0, key, body).await
    }

    /// Requests an order from one of several host processes.
    pub async fn order_at(&self, instance: usize, key: &str, body: &Value) -> Answer {
        self.try_order_at(instance, key, body).await.unwrap()
    }

    /// Requests an order where the connection may break.
    pub async fn try_order_at(&self, instance: usize, key: &str, body: &Value) -> reqwest::Result<Answer> {
        self.try_order_with(instance, &[("idempotency-key", key)], body).await
    }

    /// Requests an order with these fields, where the connection may break.
    pub async fn try_order_with(
        &self,
        instance: usize,
        fields: &[(&str, &str)],
        body: &Value,
    ) -> reqwest::Result<Answer> {
        let fields = [&[("content-type", "application/json")], fields].concat();
        let url = format!("{}/api/v1/orders", self.bases[instance]);
        self.send(Method::POST, &url, &fields, body.to_string()).await
    }

    /// Any request.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let url = format!("{}{path}", self.base());
        self.send(method, &url, fields, body).await.unwrap()
    }

    /// Requests what is at a path.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, &[], "").await
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        fields: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> reqwest::Result<Answer> {
        let mut request = self.client.request(method.clone(), url).body(body);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let answer =
            Answer { status: response.status().as_u16(), fields: response.headers().clone(), body: String::new() };
        let body = response.text().await?;
        let answer = Answer { body, ..answer };
        assert_documented(&method, url, &answer);
        Ok(answer)
    }

    /// The file of the embedded store; the first request that needs it creates it.
    pub fn file(&self) -> rusqlite::Connection {
        assert_eq!(self.store, Store::Embedded);
        rusqlite::Connection::open(self.file_path()).unwrap()
    }

    fn file_path(&self) -> PathBuf {
        self.folder().join("state/sqlite_db.db")
    }

    /// Whether orders are in a file, without servers.
    pub fn is_embedded(&self) -> bool {
        self.store != Store::Servers
    }

    /// How many orders there are.
    pub async fn all_stored(&self) -> i64 {
        let sql = "SELECT count(*) FROM orders";
        match self.store {
            Store::Servers => {
                let database = self.database().await.expect("a database");
                database.query_one(sql, &[]).await.unwrap().get(0)
            }
            _ if !self.file_path().exists() => 0,
            _ => self.file().query_row(sql, [], |row| row.get(0)).unwrap(),
        }
    }

    /// A connection to the database, or `None` where the deployment's is not known.
    pub async fn database(&self) -> Option<tokio_postgres::Client> {
        assert_eq!(self.store, Store::Servers, "this test needs Postgres");
        let url = self.database_url.as_ref()?;
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        Some(client)
    }

    /// Returns when a statement waits for a lock in the database.
    pub async fn wait_for_lock_waiter(&self) {
        let database = self.database().await.expect("a database");
        let waiting = "SELECT count(*) FROM pg_stat_activity \
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let deadline = Instant::now() + CLIENT_TIMEOUT;
        loop {
            let row = database.query_one(waiting, &[]).await.unwrap();
            if row.get::<_, i64>(0) > 0 {
                return;
            }
            assert!(Instant::now() < deadline, "no statement waits for a lock");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The address of the database, for another service over it.
    pub fn database_url(&self) -> &str {
        self.database_url.as_deref().expect("served locally")
    }

    /// How many orders these keys have in the database, and how many of the keys have any; `None` where that is not
    /// known.
    pub async fn stored(&self, keys: &[&str]) -> Option<(i64, i64)> {
        if self.store == Store::Embedded && !self.file_path().exists() {
            return Some((0, 0));
        }
        if self.store == Store::Embedded {
            let sql = "SELECT count(*), count(DISTINCT idempotency_key) FROM orders \
                       WHERE idempotency_key IN (SELECT value FROM json_each(?1))";
            let read = |row: &rusqlite::Row| Ok((row.get(0)?, row.get(1)?));
            let stored = self.file().query_row(sql, [json!(keys).to_string()], read);
            return Some(stored.unwrap());
        }
        let sql = "SELECT count(*), count(DISTINCT idempotency_key) FROM orders \
                   WHERE idempotency_key = ANY($1)";
        let row = self.database().await?.query_one(sql, &[&keys]).await.unwrap();
        Some((row.get(0), row.get(1)))
    }

    /// Asserts how many orders a key has in the database, where that is known.
    pub async fn assert_stored(&self, key: &str, orders: i64) {
        if let Some((stored, _)) = self.stored(&[key]).await {
            assert_eq!(stored, orders, "orders of key {key}");
        }
    }

    /// Runs a command on Redis, or `None` where the deployment's is not known.
    pub async fn redis_command(&self, command: &[&str]) -> Option<redis::Value> {
        assert_eq!(self.store, Store::Servers, "this test needs Redis");
        let client = redis::Client::open(self.redis_url.clone()?).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut cmd = redis::cmd(command[0]);
        cmd.arg(&command[1..]);
        Some(cmd.query_async(&mut connection).await.unwrap())
    }

    /// The name of a key's record in Redis.
    pub fn record_of(&self, key: &str) -> String {
        let prefix = self.prefix.as_ref().expect("served locally");
        format!("{prefix}orders:9:anonymous:{key}")
    }

    /// The name in Redis of the lock of the anonymous customer.
    pub fn lock(&self) -> String {
        let prefix = self.prefix.as_ref().expect("served locally");
        format!("{prefix}orders:lock:anonymous")
    }
}

/// A response, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: reqwest::header::HeaderMap,
    pub body: String,
}

impl Answer {
    /// A field's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().unwrap())
    }

    /// Whether it is marked as a replay.
    pub fn replayed(&self) -> bool {
        self.field("idempotent-replayed") == Some("true")
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// Asserts that this is the first response to its key.
    pub fn assert_created(&self) -> &Self {
        assert_eq!((self.status, self.replayed()), (201, false), "{self:?}");
        self
    }

    /// Asserts that this repeats that answer.
    pub fn assert_replay_of(&self, first: &Self) -> &Self {
        assert_eq!((self.status, self.replayed()), (201, true), "{self:?}");
        assert_eq!(self.body, first.body);
        assert_eq!(self.field("location"), first.field("location"));
        self
    }

    /// Asserts a problem of this status and type.
    pub fn assert_problem(&self, status: u16, kind: &str) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.field("content-type"), Some("application/problem+json"));
        let body = self.json();
        assert_eq!(body["type"], format!("urn:problem-type:orders:{kind}"));
        assert_eq!(body["status"], status);
        assert!(body["title"].is_string() && body["detail"].is_string());
        self
    }
}

/// Inserts an order by hand, based on a state if one is given, in a transaction that stays open.
pub async fn insert_and_stay<'c>(
    database: &'c mut tokio_postgres::Client,
    key: &str,
    based_on: Option<&str>,
) -> Transaction<'c> {
    let open = database.transaction().await.unwrap();
    // As every order's id, it has the time that a reader sees as `createdAt`.
    let id = Uuid::now_v7();
    let sql = "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, document, \
                                   created_at, based_on) \
               VALUES ($3, 'anonymous', $1, '', '{}', now(), decode($2, 'hex'))";
    open.execute(sql, &[&key, &based_on, &id]).await.unwrap();
    open
}

/// A new key.
pub fn new_key() -> String {
    Uuid::new_v4().to_string()
}

/// A valid order.
pub fn an_order() -> Value {
    an_order_of(2)
}

/// A valid order with this quantity.
pub fn an_order_of(quantity: u64) -> Value {
    json!({"currency": "EUR", "items": [{"sku": "A-1", "quantity": quantity, "unitPrice": 1250}]})
}
