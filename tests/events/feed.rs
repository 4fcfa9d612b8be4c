//! The feed of the built component under load: one reader, while many clients commit, roll back and commit late, and while the
//! database fails over.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use devstack::app::Output;
use devstack::{App, Host, Postgres, Programs, process, workspace};
use fixtures::Shared;
use serde_json::Value;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::contract::assert_valid;
use crate::log::{Committed, assert_in_order, insert, try_insert};
use crate::stream::connect;

const EVENTS: &str = "/api/v1/events";
const TOKEN: &str = "an-operator's-token";

const CLIENTS: u32 = 64;
/// Of each client; two thirds of them are committed, each with two orders on average.
const TRANSACTIONS: u32 = 40;

/// A served component with a Postgres of its own.
struct Service {
    app: App,
    postgres: Postgres,
    folder: PathBuf,
}

impl Service {
    async fn start(partitions: u32) -> Self {
        process::raise_file_limit();
        let shared = Shared {
            partitions,
            ..Shared::told().unwrap()
        };
        let name = format!("feed-{}", Uuid::new_v4().simple());
        let folder = shared.folder.join(&name);
        std::fs::create_dir_all(&folder).unwrap();
        let programs = Programs::find_or_install(false).unwrap();
        let postgres = Postgres::start(&programs, &folder.join("postgres")).unwrap();
        let database_url = postgres.url("postgres");
        shared.migrate(&database_url).await.unwrap();
        let variables = [
            ("redis_url", shared.redis_url),
            ("database_url", database_url),
            ("redis_key_prefix", format!("{name}:")),
            ("identity", "none".to_owned()),
            ("events_token", TOKEN.to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        let address = process::local(process::free_port().unwrap());
        let manifest = workspace::root().join("spin.toml");
        let command = Host::chosen()
            .unwrap()
            .command(&manifest, address, &variables);
        let log = Output::File(folder.join("app.log"));
        Self {
            app: App::run(command, address, log).unwrap(),
            postgres,
            folder,
        }
    }

    async fn connect(&self) -> Client {
        connect(&self.postgres.url("postgres")).await
    }

    /// A reader that begins with the first order.
    fn reader(&self) -> Reader {
        Reader {
            base: self.app.base_url(),
            client: reqwest::Client::new(),
            next: format!("{EVENTS}?limit=50&wait=1"),
            events: Vec::new(),
            restarts: 0,
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.app.kill();
        let _ = self.postgres.stop_immediately();
        if !std::thread::panicking() {
            let _ = Postgres::remove_all(&self.folder);
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// The order that is created when all others are.
type Last = Mutex<Option<String>>;

/// Reads the feed as docs/events.md says.
struct Reader {
    base: String,
    client: reqwest::Client,
    next: String,
    /// Since it has started again.
    events: Vec<Value>,
    restarts: u32,
}

impl Reader {
    /// Reads on until this order, which is named later, is the last event.
    async fn until(&mut self, last: &Last) {
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
                let mut targets = links
                    .iter()
                    .filter_map(|l| l.strip_prefix('<')?.strip_suffix(&end));
                targets.next().unwrap().to_owned()
            };
            match answer.status().as_u16() {
                200 => {
                    self.next = link("next");
                    let page: Vec<Value> =
                        serde_json::from_str(&answer.text().await.unwrap()).unwrap();
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

    fn ids_and_customers(&self) -> impl Iterator<Item = (&str, &str)> {
        fn text<'e>(event: &'e Value, name: &str) -> &'e str {
            event[name].as_str().unwrap()
        }
        self.events
            .iter()
            .map(|event| (text(event, "id"), text(event, "partitionkey")))
    }

    fn ids(&self) -> Vec<&str> {
        self.ids_and_customers().map(|(id, _)| id).collect()
    }
}

/// Creates orders in transactions, every third of which is rolled back, until all are made or the server is gone. `late`: each
/// stays open for this long.
async fn create(
    url: String,
    transactions: u32,
    late: Option<Duration>,
) -> Vec<(String, Committed)> {
    let database = connect(&url).await;
    let mut committed = Vec::new();
    for n in 0..transactions {
        let requested = Instant::now();
        if database.batch_execute("BEGIN").await.is_err() {
            break;
        }
        let mut inserted = Vec::new();
        for _ in 0..rand::random_range(1..4) {
            let customer = format!("c{}", rand::random_range(0..20));
            // Without the server, the commit fails as well.
            inserted.extend(try_insert(&database, &customer).await);
        }
        let pause = late.unwrap_or(Duration::from_millis(rand::random_range(0..15)));
        tokio::time::sleep(pause).await;
        let is_late = late.is_some();
        let end = if n % 3 == 2 && !is_late {
            "ROLLBACK"
        } else {
            "COMMIT"
        };
        if database.batch_execute(end).await.is_err() {
            break;
        }
        if end == "COMMIT" {
            let acknowledged = Instant::now();
            committed.extend(inserted.into_iter().map(|id| {
                let times = Committed {
                    requested,
                    acknowledged,
                };
                (id, times)
            }));
        }
    }
    committed
}

/// The work of all clients, and of a stranger whose transactions hold low numbers for long.
async fn create_all(url: String, transactions: u32) -> HashMap<String, Committed> {
    let late = Duration::from_millis(700);
    let stranger = create(url.clone(), transactions / 10, Some(late));
    let mut creators = vec![tokio::spawn(stranger)];
    for _ in 0..CLIENTS {
        creators.push(tokio::spawn(create(url.clone(), transactions, None)));
    }
    let mut committed = HashMap::new();
    for creator in creators {
        committed.extend(creator.await.unwrap());
    }
    committed
}

#[tokio::test(flavor = "multi_thread")]
async fn every_committed_order_is_in_the_feed_once_and_in_order() {
    for partitions in [0, 3] {
        let service = Service::start(partitions).await;
        let (last, database) = (Last::default(), service.connect().await);
        let creating = async {
            let url = service.postgres.url("postgres");
            let committed = create_all(url, TRANSACTIONS).await;
            *last.lock().unwrap() = Some(insert(&database, "marker").await);
            committed
        };
        let mut reader = service.reader();
        let (committed, ()) = tokio::join!(creating, reader.until(&last));

        assert_eq!(reader.restarts, 0);
        let marker = reader.events.pop().unwrap();
        assert_eq!(marker["partitionkey"], "marker");
        let delivered: HashSet<&str> = reader.ids().into_iter().collect();
        assert_eq!(delivered.len(), reader.events.len(), "delivered twice");
        let expected: HashSet<&str> = committed.keys().map(|id| &**id).collect();
        assert!(expected.len() > 2000, "{}", expected.len());
        let skipped = expected.difference(&delivered).count();
        assert_eq!(skipped, 0, "of {} orders", expected.len());
        assert_eq!(delivered, expected);
        assert_in_order(reader.ids_and_customers(), &committed);
        for event in reader.events.iter().step_by(50) {
            assert_valid(event);
        }
    }
}

/// The standby misses the last orders, which the reader has got; and new orders get their numbers.
#[tokio::test(flavor = "multi_thread")]
async fn every_committed_order_that_a_failover_leaves_is_in_the_feed() {
    let mut service = Service::start(0).await;
    let programs = Programs::find_or_install(false).unwrap();
    let address = process::local(service.postgres.port());
    let folder = service.folder.join("standby");
    let mut standby = Postgres::start_standby(&programs, &folder, address).unwrap();
    let url = service.postgres.url("postgres");

    let last = Arc::new(Last::default());
    let mut reader = service.reader();
    let reading = tokio::spawn({
        let last = last.clone();
        async move {
            reader.until(&last).await;
            reader
        }
    });
    let creating = tokio::spawn(create_all(url.clone(), 100_000));
    tokio::time::sleep(Duration::from_secs(2)).await;
    standby.stop().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    service.postgres.kill().unwrap();
    let mut committed = creating.await.unwrap();
    standby.restart().unwrap();
    standby.promote().unwrap();
    standby.take_over(&service.postgres).unwrap();
    service.postgres = standby;

    committed.extend(create_all(url, 10).await);
    let database = service.connect().await;
    *last.lock().unwrap() = Some(insert(&database, "marker").await);
    let reader = reading.await.unwrap();
    assert_eq!(reader.restarts, 1);
    let rows = database.query("SELECT order_id::text FROM orders ORDER BY seq", &[]);
    let rows = rows.await.unwrap();
    let stored: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(reader.ids(), stored);
    assert_in_order(reader.ids_and_customers(), &committed);
    let stored: HashSet<&str> = stored.into_iter().collect();
    let lost = committed
        .keys()
        .filter(|id| !stored.contains(&***id))
        .count();
    assert!(lost > 0, "the failover lost nothing");
}
