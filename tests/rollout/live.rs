//! A large table is migrated while clients create orders: none is refused, and none waits long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use devstack::{Postgres, Programs};
use tokio::task::JoinSet;

use crate::support::Release::{Current, Previous};
use crate::support::{PREVIOUS, Served, an_order, connect, new_name, number, shared};

const CLIENTS: usize = 8;

/// Between an answer and the client's next order: a busy service, on a machine that has time left for the migration and
/// for what runs beside this test.
const PAUSE: Duration = Duration::from_millis(50);

/// How long an order may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Orders in the table before the migration; the release's figures are those of a million.
const ROWS: &str = "ROLLOUT_ROWS";

/// Orders as the previous release stored them, every tenth of them a conditional one.
const GENERATE: &str = "\
    INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, currency, items, note, total, \
                        created_at, follows) \
    SELECT (lpad(to_hex(1750000000000 + n), 12, '0') || '7' || substr(md5(n::text), 1, 3) \
            || '8' || substr(md5(n::text), 4, 15))::uuid, \
           'customer-' || n % 10000, md5(n::text)::uuid::text, sha256(int8send(n)), 'EUR', \
           '[{\"sku\": \"A-1\", \"quantity\": 2, \"unitPrice\": 1250}]', \
           CASE WHEN n % 3 = 0 THEN 'note ' || n END, 2500, to_timestamp(1750000000 + n / 1000.0), \
           CASE WHEN n % 10 = 0 THEN substring(sha256(int8send(n)) FROM 1 FOR 16) END \
    FROM generate_series(1, $1::bigint) AS n";

/// What the clients saw.
#[derive(Default)]
struct Seen {
    keys: Vec<String>,
    slowest: Duration,
    refused: Vec<String>,
}

/// Clients that create orders until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    clients: JoinSet<Seen>,
}

impl Load {
    fn start(served: Served) -> Self {
        let served = Arc::new(served);
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (served, stop) = (served.clone(), stop.clone());
            clients.spawn(async move {
                let mut seen = Seen::default();
                while !stop.load(Ordering::Relaxed) {
                    let (key, start) = (new_name(), Instant::now());
                    let answer = served.order(&key, &an_order("live")).await;
                    match answer.status {
                        201 => seen.keys.push(key),
                        _ => seen.refused.push(format!("{answer:?}")),
                    }
                    seen.slowest = seen.slowest.max(start.elapsed());
                    tokio::time::sleep(PAUSE).await;
                }
                seen
            });
        }
        Self { stop, clients }
    }

    async fn end(self, what: &str, duration: Duration) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for seen in self.clients.join_all().await {
            all.keys.extend(seen.keys);
            all.refused.extend(seen.refused);
            all.slowest = all.slowest.max(seen.slowest);
        }
        eprintln!(
            "{what}: {duration:.1?}, {} orders meanwhile, slowest {:.0?}, refused {}",
            all.keys.len(),
            all.slowest,
            all.refused.len()
        );
        assert_eq!(all.refused, Vec::<String>::new());
        assert!(all.slowest < LIMIT, "{:?}", all.slowest);
        assert!(!all.keys.is_empty());
        all.keys
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_table_is_migrated_under_load() {
    let rows: i64 = std::env::var(ROWS).map_or(20_000, |rows| rows.parse().unwrap());
    let shared = shared();
    let folder = shared.folder.join(new_name());
    let programs = Programs::find_or_install(false).unwrap();
    // Its own: this much work would slow other tests down.
    let postgres = Postgres::start(&programs, &folder).unwrap();
    let url = postgres.url("postgres");
    migrator::migrate_to(&url, PREVIOUS).await.unwrap();
    let database = connect(&url).await;
    let start = Instant::now();
    database.execute(GENERATE, &[&rows]).await.unwrap();
    database.batch_execute("ANALYZE orders").await.unwrap();
    eprintln!("{rows} orders generated in {:.1?}", start.elapsed());

    let prefix = format!("{}:", new_name());
    let previous = Previous.serve(&shared.redis_url, &url, &prefix);
    let load = Load::start(previous);
    let start = Instant::now();
    migrator::migrate(&url).await.unwrap();
    let mut keys = load.end("expanded", start.elapsed()).await;

    let current = Current.serve(&shared.redis_url, &url, &prefix);
    let load = Load::start(current);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    migrator::migrate_all(&url).await.unwrap();
    let duration = start.elapsed();
    tokio::time::sleep(Duration::from_secs(1)).await;
    keys.extend(load.end("contracted", duration).await);

    let acknowledged = i64::try_from(keys.len()).unwrap();
    let found = database
        .query_one(
            "SELECT count(*) FROM orders WHERE idempotency_key = ANY ($1)",
            &[&keys],
        )
        .await
        .unwrap();
    assert_eq!(found.get::<_, i64>(0), acknowledged);
    let all = number(&database, "SELECT count(*) FROM orders").await;
    assert_eq!(all, rows + acknowledged);
    let canonical = "SELECT count(*) FROM orders, generate_series(1, 1000) AS n \
                     WHERE idempotency_key = md5(n::text)::uuid::text \
                     AND customer_id = 'customer-' || n % 10000 \
                     AND document::text = '{\"currency\":\"EUR\",\"items\":[{\"quantity\":2,\"sku\":\"A-1\",\
                     \"unitPrice\":1250}],\"note\":' || CASE WHEN n % 3 = 0 THEN '\"note ' || n || '\"' \
                     ELSE 'null' END || '}' \
                     AND (n % 10 = 0) = (based_on IS NOT NULL)";
    assert_eq!(number(&database, canonical).await, 1000.min(rows));
    drop(postgres);
    Postgres::remove(&folder).unwrap();
}
