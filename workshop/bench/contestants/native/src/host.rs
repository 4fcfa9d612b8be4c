//! The ports of the core over the native stores. Each call of a store has the whole of the component's time for it.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use exactly_once::condition::Expected;
use exactly_once::error::{DatabaseUnavailable, ReservationsUnavailable};
use exactly_once::history::HistoryMonitor;
use exactly_once::ports::{
    Attempt, Clock, ConditionalInsertion, ConditionalResources, Feed, FeedRows, Histories,
    Insertion, List, Lock, Locks, NewResource, Outlook, Page, RecordLookup, Reservation,
    Reservations, ResourceLists, Resources, ResourcesByKey, StoredResource, Writers,
};
use exactly_once::{Customer, InHistory, KeyScope, KnownHistory, Record, ResourceId};
use exactly_once_http::settings::{RawSettings, Settings};
use exactly_once_http::{Host, Probe, Probes, Problem};
use exactly_once_stores::postgres::{
    Statement, Unreadable, conditional_insertion, feed_rows, found, found_in_history, history,
    insertion, outlook, page,
};
use exactly_once_stores::redis::locks::lock;
use exactly_once_stores::redis::{Command, Reply, ping, record, reservation};
use native_stores::RandomIds;
use native_stores::postgres::Row;

use crate::stores::Stores;

/// The host of every request.
pub struct NativeHost {
    stores: Stores,
    settings: Arc<Settings>,
    started: Instant,
    history: Mutex<HistoryMonitor>,
}

impl NativeHost {
    /// With the component's default settings.
    ///
    /// # Errors
    /// A default is not valid.
    pub fn new(stores: Stores) -> Result<Self> {
        let settings = RawSettings {
            // The stores are connected already; these two are not read.
            redis_url: "connected".to_owned(),
            database_url: "connected".to_owned(),
            redis_key_prefix: stores.prefix.clone(),
            reservation_ttl: "86400".to_owned(),
            redis_timeout_ms: "500".to_owned(),
            database_timeout_ms: "5000".to_owned(),
            key_reuse: "reject".to_owned(),
            precondition: "key".to_owned(),
            lock_lease_ms: "5000".to_owned(),
            identity: "none".to_owned(),
            ..RawSettings::default()
        };
        Ok(Self {
            stores,
            settings: Arc::new(settings.check()?),
            started: Instant::now(),
            history: Mutex::default(),
        })
    }
}

impl Clock for NativeHost {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

impl Host for NativeHost {
    type Redis<'h> = Redis<'h>;
    type Postgres<'h> = Postgres<'h>;
    type Ids = RandomIds;

    async fn settings(&self) -> Result<Arc<Settings>, Problem> {
        Ok(self.settings.clone())
    }

    fn redis<'h>(&'h self, settings: &'h Settings) -> Redis<'h> {
        Redis {
            stores: &self.stores,
            timeout: settings.redis_timeout,
        }
    }

    fn postgres<'h>(&'h self, settings: &'h Settings) -> Postgres<'h> {
        Postgres {
            host: self,
            settings,
        }
    }

    fn ids(&self) -> &RandomIds {
        &RandomIds
    }

    fn unix_seconds(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        })
    }

    async fn probe_both(&self, settings: &Settings) -> (Probe, Probe) {
        let (redis, postgres) = (self.redis(settings), self.postgres(settings));
        tokio::join!(redis.probe(), postgres.probe())
    }
}

/// The result of a call, unless it takes longer than that; the failure is logged.
async fn within<T>(
    timeout: Duration,
    store: &str,
    call: impl Future<Output = Result<T>>,
) -> Option<T> {
    let failure: &dyn Display = match tokio::time::timeout(timeout, call).await {
        Ok(Ok(value)) => return Some(value),
        Ok(Err(error)) => &format!("{error:#}"),
        Err(_) => &"no answer in time",
    };
    eprintln!("native: {store}: {failure}");
    None
}

async fn probe(answers: impl Future<Output = bool>) -> Probe {
    let start = Instant::now();
    Probe {
        up: answers.await,
        latency_ms: start.elapsed().as_secs_f64() * 1000.0,
    }
}

/// Redis, for one request.
pub struct Redis<'h> {
    stores: &'h Stores,
    timeout: Duration,
}

impl Redis<'_> {
    async fn send(&self, command: Command) -> Result<Reply, ReservationsUnavailable> {
        within(self.timeout, "redis", self.stores.send(&command))
            .await
            .ok_or(ReservationsUnavailable)
    }
}

impl Reservations for Redis<'_> {
    async fn reserve(
        &self,
        scope: &KeyScope,
        record: &Record,
    ) -> Result<Reservation, ReservationsUnavailable> {
        let command = self.stores.records().reserve(scope, record);
        self.send(command).await.map(reservation)
    }

    async fn complete(
        &self,
        scope: &KeyScope,
        record: &Record,
    ) -> Result<(), ReservationsUnavailable> {
        let command = self.stores.records().complete(scope, record);
        self.send(command).await.map(|_| ())
    }

    async fn withdraw(
        &self,
        scope: &KeyScope,
        record: &Record,
    ) -> Result<(), ReservationsUnavailable> {
        let command = self.stores.records().withdraw(scope, record);
        self.send(command).await.map(|_| ())
    }
}

impl RecordLookup for Redis<'_> {
    async fn find_record(
        &self,
        scope: &KeyScope,
    ) -> Result<Option<Record>, ReservationsUnavailable> {
        let command = self.stores.records().find_record(scope);
        self.send(command).await.map(record)
    }
}

impl Locks for Redis<'_> {
    async fn acquire(
        &self,
        list: &List,
        holder: &ResourceId,
    ) -> Result<Lock, ReservationsUnavailable> {
        let command = self.stores.locking().acquire(list, holder);
        lock(self.send(command).await?).ok_or(ReservationsUnavailable)
    }

    async fn release(
        &self,
        list: &List,
        holder: &ResourceId,
    ) -> Result<(), ReservationsUnavailable> {
        let command = self.stores.locking().release(list, holder);
        self.send(command).await.map(|_| ())
    }
}

impl Probes for Redis<'_> {
    async fn probe(&self) -> Probe {
        probe(async { self.send(ping()).await.is_ok() }).await
    }
}

/// Postgres, for one request.
pub struct Postgres<'h> {
    host: &'h NativeHost,
    settings: &'h Settings,
}

impl Postgres<'_> {
    async fn rows(&self, statement: Statement<'_>) -> Result<Vec<Row>, DatabaseUnavailable> {
        let sent = self.now();
        let rows = within(
            self.settings.database_timeout,
            "postgres",
            self.host.stores.rows(statement),
        )
        .await;
        let mut monitor = self.monitor();
        match &rows {
            Some(rows) => {
                if let Some(history) = rows.first().and_then(history) {
                    monitor.heard(history, sent);
                }
            }
            None => monitor.failed(sent, self.now()),
        }
        rows.ok_or(DatabaseUnavailable)
    }

    fn now(&self) -> Duration {
        self.host.now()
    }

    fn monitor(&self) -> MutexGuard<'_, HistoryMonitor> {
        // A panic cannot leave it half changed.
        let monitor = self.host.history.lock();
        monitor.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Histories for Postgres<'_> {
    fn known_history(&self) -> KnownHistory {
        self.monitor().known(self.now())
    }

    async fn ask_history(&self) -> KnownHistory {
        // Not shared: one process hears of Postgres all the time.
        let _ = self.rows(self.host.stores.statements.history()).await;
        self.known_history()
    }
}

fn unreadable(error: Unreadable) -> DatabaseUnavailable {
    eprintln!("native: postgres: {error}");
    DatabaseUnavailable
}

impl Resources for Postgres<'_> {
    async fn insert_new(&self, new: &NewResource) -> Attempt {
        let insertion = self
            .host
            .stores
            .inserted(self.host.stores.insert_alone(new));
        // Half of the time is left for the insertion that follows when this one does not answer.
        match within(self.settings.database_timeout / 2, "postgres", insertion).await {
            Some(1) => Attempt::Inserted,
            _ => Attempt::Undecided,
        }
    }

    async fn insert_unless_exists(
        &self,
        new: &NewResource,
    ) -> Result<InHistory<Insertion>, DatabaseUnavailable> {
        let rows = self
            .rows(
                self.host
                    .stores
                    .statements
                    .insert(new, self.settings.lock_timeout()),
            )
            .await?;
        insertion(rows.first()).map_err(unreadable)
    }
}

impl ConditionalResources for Postgres<'_> {
    async fn insert_based_on(
        &self,
        new: &NewResource,
        expected: &Expected,
    ) -> Result<InHistory<ConditionalInsertion>, DatabaseUnavailable> {
        let statement = self.host.stores.statements.insert_based_on(
            new,
            expected,
            self.settings.lock_timeout(),
        );
        let rows = self.rows(statement).await?;
        conditional_insertion(rows.first(), expected).map_err(unreadable)
    }
}

impl ResourcesByKey for Postgres<'_> {
    async fn find_by_key(
        &self,
        scope: &KeyScope,
    ) -> Result<InHistory<Option<StoredResource>>, DatabaseUnavailable> {
        let rows = self
            .rows(self.host.stores.statements.find_by_key(scope))
            .await?;
        found_in_history(rows.first()).map_err(unreadable)
    }
}

impl ResourceLists for Postgres<'_> {
    async fn find(
        &self,
        customer: &Customer,
        id: ResourceId,
    ) -> Result<Option<StoredResource>, DatabaseUnavailable> {
        let rows = self
            .rows(self.host.stores.statements.find(customer, id))
            .await?;
        found(rows.first()).map_err(unreadable)
    }

    async fn page(
        &self,
        customer: &Customer,
        after: Option<ResourceId>,
        limit: usize,
    ) -> Result<Option<Page>, DatabaseUnavailable> {
        let statement = self.host.stores.statements.page(customer, after, limit);
        page(&self.rows(statement).await?, limit).map_err(unreadable)
    }
}

impl Feed for Postgres<'_> {
    async fn look(
        &self,
        after: i64,
        limit: usize,
        among: Option<&Writers>,
    ) -> Result<Outlook, DatabaseUnavailable> {
        let statement = self.host.stores.statements.look(after, limit, among);
        outlook(self.rows(statement).await?.first()).map_err(unreadable)
    }

    async fn read(
        &self,
        after: i64,
        last: i64,
        limit: usize,
    ) -> Result<FeedRows, DatabaseUnavailable> {
        let statement = self.host.stores.statements.read(after, last, limit);
        feed_rows(&self.rows(statement).await?).map_err(unreadable)
    }
}

impl Probes for Postgres<'_> {
    async fn probe(&self) -> Probe {
        let statement = self.host.stores.statements.probe();
        probe(async { self.rows(statement).await.is_ok() }).await
    }
}
