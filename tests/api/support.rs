//! The one fixture: a served application with a database and a key prefix of its own, and what a client
//! needs to talk to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use devstack::app::Output;
use devstack::tls::Identity;
use devstack::{App, Host, Postgres, Programs, Redis, process, workspace};
pub use fixtures::client::Answer;
use fixtures::client::Asked;
use fixtures::{Shared, connect, until};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio_postgres::Transaction;
use uuid::Uuid;

use crate::applies::Place;
use crate::documented::assert_documented;

/// Longer than any response may take: the component's deadlines are 500 ms and 5 s.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// The collection.
pub const ORDERS: &str = "/api/v1/orders";

/// Counts the statements that wait for a lock.
pub const LOCK_WAITERS: &str = "SELECT count(*) FROM pg_stat_activity \
                                WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// What a test needs beyond the application itself.
#[derive(Default)]
pub struct Setup {
    own_redis: bool,
    own_postgres: bool,
    store: Store,
    instances: usize,
    identities: Option<[Identity; 2]>,
    environment: Vec<(String, String)>,
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
    let store = match Place::of_this_run() {
        Place::Embedded => Store::Embedded,
        _ => Store::Servers,
    };
    Setup { store, instances: 1, ..Setup::default() }
}

impl Setup {
    /// A Redis that the test may stop, fill or flush.
    pub fn own_redis(self) -> Self {
        Self { own_redis: true, ..self }
    }

    /// A Postgres that the test may stop.
    pub fn own_postgres(self) -> Self {
        Self { own_postgres: true, ..self }
    }

    /// Both of the test's own; they offer TLS with these certificates.
    pub fn own_stores_with_tls(self, redis: Identity, postgres: Identity) -> Self {
        Self { own_redis: true, own_postgres: true, identities: Some([redis, postgres]), ..self }
    }

    /// The embedded store, also where the other tests use servers.
    pub fn store(self, store: Store) -> Self {
        Self { store, ..self }
    }

    /// Several host processes over the same stores.
    pub fn instances(self, instances: usize) -> Self {
        Self { instances, ..self }
    }

    /// A variable other than its default.
    pub fn variable(mut self, name: &str, value: impl ToString) -> Self {
        self.variables.push((name.to_owned(), value.to_string()));
        self
    }

    /// A variable of the host's environment.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// More time for Redis than a busy machine ever takes, for tests that assert that it was used.
    pub fn patient_with_redis(self) -> Self {
        self.variable("redis_timeout_ms", 20_000)
    }

    /// Starts it all, or finds the deployment under test.
    pub async fn start(self) -> Service {
        process::raise_file_limit();
        let mut service = Service::default();
        (service.store, service.client) = (self.store, client());
        if let Ok(base) = std::env::var("ORDERS_BASE_URL") {
            assert!(
                !self.own_redis && !self.own_postgres && self.instances == 1 && self.variables.is_empty(),
                "a deployment is not changed for a test: this one does not apply to Deployment"
            );
            service.bases.push(base.trim_end_matches('/').to_owned());
            service.redis_url = std::env::var("ORDERS_REDIS_URL").ok();
            service.database_url = std::env::var("ORDERS_DATABASE_URL").ok();
            return service;
        }
        let shared = Shared::told().unwrap();
        let name = Uuid::new_v4().simple().to_string();
        service.folder = Some(shared.folder.join(&name));
        std::fs::create_dir_all(service.folder()).unwrap();
        let mut variables = vec![("identity", "none".to_owned())];
        if self.store == Store::Servers {
            self.start_servers(&mut service, &shared, &name).await;
            variables.push(("redis_url", service.redis_url.clone().unwrap()));
            variables.push(("database_url", service.database_url().to_owned()));
            variables.push(("redis_key_prefix", service.prefix.clone()));
        } else {
            assert!(!self.own_redis && !self.own_postgres, "this test needs servers: it does not apply to Embedded");
            variables.push(("store", "embedded".to_owned()));
            // More time than a busy machine's disk ever takes.
            variables.push(("database_timeout_ms", "20000".to_owned()));
        }
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value));
        service.variables = variables.chain(self.variables).collect();
        service.environment = self.environment;
        for _ in 0..self.instances {
            service.serve_another();
        }
        service
    }

    async fn start_servers(&self, service: &mut Service, shared: &Shared, name: &str) {
        let folder = service.folder().to_owned();
        let programs = || Programs::find_or_install(false).unwrap();
        let own_redis = || match &self.identities {
            Some([identity, _]) => Redis::start_with_tls(&programs(), &folder.join("redis"), identity),
            None => Redis::start(&programs(), &folder.join("redis")),
        };
        let own_postgres = || match &self.identities {
            Some([_, identity]) => Postgres::start_with_tls(&programs(), &folder.join("postgres"), identity),
            None => Postgres::start(&programs(), &folder.join("postgres")),
        };
        service.redis = self.own_redis.then(|| own_redis().unwrap());
        service.postgres = self.own_postgres.then(|| own_postgres().unwrap());
        service.redis_url = Some(service.redis.as_ref().map_or_else(|| shared.redis_url.clone(), Redis::url));
        let database_url = match &service.postgres {
            Some(postgres) => postgres.url("postgres"),
            None => shared.create_database(name).await.unwrap(),
        };
        if service.postgres.is_some() {
            shared.migrate(&database_url).await.unwrap();
        }
        service.database_url = Some(database_url);
        service.prefix = format!("{name}:");
    }
}

fn client() -> Client {
    Client::builder().timeout(CLIENT_TIMEOUT).build().unwrap()
}

/// A served application and its stores.
#[derive(Default)]
pub struct Service {
    /// The host processes; none against a deployment.
    pub apps: Vec<App>,
    bases: Vec<String>,
    redis: Option<Redis>,
    postgres: Option<Postgres>,
    redis_url: Option<String>,
    database_url: Option<String>,
    prefix: String,
    folder: Option<PathBuf>,
    store: Store,
    environment: Vec<(String, String)>,
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
        self.serve_at(process::local(process::free_port().unwrap()));
    }

    /// Serves the application at an address, such as that of a process that was killed.
    pub fn serve_at(&mut self, address: SocketAddr) {
        let log = self.folder().join(format!("app-{}.log", self.apps.len()));
        let manifest = workspace::root().join("spin.toml");
        let mut command = Host::chosen().unwrap().command(&manifest, address, &self.variables);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
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
        assert!(!self.logs().contains("redis: down"), "{}", self.logs());
    }

    /// The address of the application.
    pub fn address(&self) -> SocketAddr {
        self.bases[0].trim_start_matches("http://").parse().unwrap()
    }

    /// Requests an order.
    pub fn order(&self, key: &str, body: &Value) -> Asked {
        self.order_at(0, key, body)
    }

    /// Requests an order from one of several host processes.
    pub fn order_at(&self, instance: usize, key: &str, body: &Value) -> Asked {
        self.order_without_key(instance, body).field("idempotency-key", key)
    }

    /// Requests an order, without a key so far.
    pub fn order_without_key(&self, instance: usize, body: &Value) -> Asked {
        self.asked(Method::POST, format!("{}{ORDERS}", self.bases[instance])).json(body)
    }

    /// Creates an order under a new key, unless something else is expected.
    pub fn new_order(&self) -> Asked {
        self.order(&new_key(), &an_order()).created()
    }

    /// Creates an order; returns its key and the response.
    pub async fn first_order(&self) -> (String, Answer) {
        let key = new_key();
        let first = self.order(&key, &an_order()).created().await;
        (key, first)
    }

    /// Any request.
    pub fn request(
        &self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Asked {
        self.asked(method, format!("{}{path}", self.bases[0])).fields(fields).body(body)
    }

    /// Requests what is at a path.
    pub fn get(&self, path: &str) -> Asked {
        self.request(Method::GET, path, &[], "")
    }

    /// Requests an order that was created, as its location names it.
    pub fn get_order(&self, created: &Answer) -> Asked {
        self.get(created.the("location")).expect(200)
    }

    /// Requests the state of a key.
    pub fn state(&self, key: &str) -> Asked {
        self.get(&format!("/api/v1/idempotency-keys/{key}"))
    }

    fn asked(&self, method: Method, url: String) -> Asked {
        Asked::new(self.client.request(method, url)).inspect(assert_documented)
    }

    /// The file of the embedded store; the first request that needs it creates it.
    pub fn file(&self) -> rusqlite::Connection {
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
        self.number("SELECT count(*) FROM orders").await
    }

    /// The one number that a query returns.
    pub async fn number(&self, sql: &str) -> i64 {
        let [number] = self.numbers(sql).await.expect("a database");
        number
    }

    /// The numbers in the one row of a query, or `None` where the deployment's database is not known.
    async fn numbers<const N: usize>(&self, sql: &str) -> Option<[i64; N]> {
        if self.store == Store::Servers {
            let row = self.database().await?.query_one(sql, &[]).await.unwrap();
            return Some(std::array::from_fn(|column| row.get(column)));
        }
        if !self.file_path().exists() {
            return Some([0; N]);
        }
        let read = |row: &rusqlite::Row<'_>| Ok(std::array::from_fn(|column| row.get(column).unwrap()));
        Some(self.file().query_row(sql, [], read).unwrap())
    }

    /// Runs statements.
    pub async fn sql(&self, statements: &str) {
        self.database().await.expect("a database").batch_execute(statements).await.unwrap();
    }

    /// A connection to the database, or `None` where the deployment's is not known.
    pub async fn database(&self) -> Option<tokio_postgres::Client> {
        assert_eq!(self.store, Store::Servers, "this test needs Postgres");
        Some(connect(self.database_url.as_ref()?).await.unwrap())
    }

    /// Returns when a statement waits for a lock in the database.
    pub async fn wait_for_lock_waiter(&self) {
        until("a statement waits for a lock", async || self.number(LOCK_WAITERS).await > 0).await;
    }

    /// The address of the database, for another service over it.
    pub fn database_url(&self) -> &str {
        self.database_url.as_deref().expect("served locally")
    }

    /// How many orders these keys have in the database, and how many of the keys have any; `None` where that is not
    /// known.
    pub async fn stored(&self, keys: &[&str]) -> Option<(i64, i64)> {
        let keys: Vec<_> = keys.iter().map(|key| format!("'{}'", key.replace('\'', "''"))).collect();
        let sql = format!(
            "SELECT count(*), count(DISTINCT idempotency_key) FROM orders WHERE idempotency_key IN ({})",
            keys.join(", ")
        );
        self.numbers(&sql).await.map(|[orders, keys]| (orders, keys))
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

    /// Whether Redis has something under a name.
    pub async fn redis_has(&self, name: &str) -> bool {
        self.redis_command(&["EXISTS", name]).await == Some(redis::Value::Int(1))
    }

    /// The name of a key's record in Redis.
    pub fn record_of(&self, key: &str) -> String {
        format!("{}orders:9:anonymous:{key}", self.prefix)
    }

    /// The name in Redis of the lock of the anonymous customer.
    pub fn lock(&self) -> String {
        format!("{}orders:lock:anonymous", self.prefix)
    }
}

/// Runs a statement in a transaction that stays open.
pub async fn begin<'c>(database: &'c mut tokio_postgres::Client, statement: &str) -> Transaction<'c> {
    let open = database.transaction().await.unwrap();
    open.batch_execute(statement).await.unwrap();
    open
}

/// Inserts an order by hand, based on a state if one is given, in a transaction that stays open.
pub async fn insert_and_stay<'c>(
    database: &'c mut tokio_postgres::Client,
    key: &str,
    based_on: Option<&str>,
) -> Transaction<'c> {
    let based_on = based_on.map_or("NULL".to_owned(), |state| format!("decode('{state}', 'hex')"));
    // As every order's id, it has the time that a reader sees as `createdAt`.
    let sql = format!(
        "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, document, created_at, based_on) \
         VALUES ('{}', 'anonymous', '{key}', '', '{{}}', now(), {based_on})",
        Uuid::now_v7()
    );
    begin(database, &sql).await
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
