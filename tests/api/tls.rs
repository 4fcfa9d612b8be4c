//! TLS to both stores: used where the URLs ask for it, and only with servers whose certificates are trusted.

use std::path::PathBuf;

use devstack::app::Output;
use devstack::{App, Host, Postgres, Programs, Redis, process, workspace};
use fixtures::Authority;
use fixtures::Shared;
use reqwest::Client;
use tokio_postgres::NoTls;

use crate::support::{an_order, new_key};

/// Two stores that offer TLS, and the folder of their data.
struct Stores {
    redis: Redis,
    postgres: Postgres,
    folder: PathBuf,
}

impl Stores {
    async fn start(redis: &Authority, postgres: &Authority) -> Self {
        let folder = Shared::told().unwrap().folder.join(new_key());
        let programs = Programs::find_or_install(false).unwrap();
        let identity = redis.issue("127.0.0.1").unwrap();
        let redis = Redis::start_with_tls(&programs, &folder.join("redis"), &identity).unwrap();
        let identity = postgres.issue("127.0.0.1").unwrap();
        let postgres = Postgres::start_with_tls(&programs, &folder.join("postgres"), &identity).unwrap();
        migrator::migrate(&postgres.url("postgres")).await.unwrap();
        Self { redis, postgres, folder }
    }

    /// Serves the application with a host that trusts an authority.
    fn serve(&self, trusted: &Authority, sslmode: &str) -> Served {
        let roots = self.folder.join(format!("{}.pem", new_key()));
        std::fs::write(&roots, trusted.certificate()).unwrap();
        let database_url = format!("{}?sslmode={sslmode}", self.postgres.url("postgres"));
        let variables = [
            ("redis_url", self.redis.tls_url().unwrap()),
            ("redis_allowed_host", "rediss://127.0.0.1:*".to_owned()),
            ("identity", "none".to_owned()),
            ("database_url", database_url),
            // A rejected certificate is a response: no test waits for this long.
            ("redis_timeout_ms", "20000".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        let address = process::local(process::free_port().unwrap());
        let manifest = workspace::root().join("spin.toml");
        let mut command = Host::chosen().unwrap().command(&manifest, address, &variables);
        command.env("SSL_CERT_FILE", roots);
        let log = Output::File(self.folder.join(format!("{}.log", new_key())));
        Served(App::run(command, address, log).unwrap())
    }

    /// How many orders there are, and how many keys Redis holds.
    async fn contents(&self) -> (i64, i64) {
        let sql = "SELECT count(*) FROM orders";
        let orders = self.query(sql).await;
        let redis = redis::Client::open(self.redis.url()).unwrap();
        let mut redis = redis.get_multiplexed_async_connection().await.unwrap();
        let keys = redis::cmd("DBSIZE").query_async(&mut redis).await.unwrap();
        (orders, keys)
    }

    async fn query(&self, sql: &str) -> i64 {
        let url = self.postgres.url("postgres");
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.query_one(sql, &[]).await.unwrap().get(0)
    }

    fn remove(self) {
        drop((self.redis, self.postgres));
        Postgres::remove(&self.folder.join("postgres")).unwrap();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

struct Served(App);

impl Served {
    /// Asks for an order; returns the status, and whether the response is a replay.
    async fn order(&self, key: &str) -> (u16, bool) {
        let request = Client::new()
            .post(format!("{}/api/v1/orders", self.0.base_url()))
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .body(an_order().to_string());
        let response = request.send().await.unwrap();
        let replayed = response.headers().contains_key("idempotent-replayed");
        (response.status().as_u16(), replayed)
    }
}

#[tokio::test]
async fn orders_are_created_and_replayed_over_tls() {
    applies_to!(Servers);
    let authority = Authority::new("trusted").unwrap();
    let stores = Stores::start(&authority, &authority).await;
    let served = stores.serve(&authority, "require");
    let key = new_key();
    assert_eq!(served.order(&key).await, (201, false));
    assert_eq!(served.order(&key).await, (201, true));
    assert_eq!(stores.contents().await, (1, 1));
    let encrypted = "SELECT count(*) FROM pg_stat_ssl WHERE ssl";
    assert!(stores.query(encrypted).await > 0);
    drop(served);
    stores.remove();
}

#[tokio::test]
async fn a_postgres_with_a_certificate_of_another_authority_is_refused() {
    applies_to!(Servers);
    let [trusted, other] = ["trusted", "other"].map(|name| Authority::new(name).unwrap());
    let stores = Stores::start(&trusted, &other).await;
    // "prefer" permits a server without TLS, but not one with a certificate that cannot be verified.
    for sslmode in ["require", "prefer"] {
        let served = stores.serve(&trusted, sslmode);
        let (status, _) = served.order(&new_key()).await;
        assert_eq!(status, 503, "{sslmode}");
        assert_eq!(stores.contents().await.0, 0, "{sslmode}");
    }
    stores.remove();
}

#[tokio::test]
async fn a_redis_with_a_certificate_of_another_authority_is_not_used() {
    applies_to!(Servers);
    let [trusted, other] = ["trusted", "other"].map(|name| Authority::new(name).unwrap());
    let stores = Stores::start(&other, &trusted).await;
    let served = stores.serve(&trusted, "require");
    let key = new_key();
    assert_eq!(served.order(&key).await, (201, false));
    assert_eq!(served.order(&key).await, (201, true));
    assert_eq!(stores.contents().await, (1, 0));
    drop(served);
    stores.remove();
}
