//! The host of one request: its instance, and what it has used of the stores.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exactly_once::Collection;
use exactly_once::ports::{Clock, Probe, Probes};
use exactly_once_http::request_log::{REQUEST_ID, request_id};
use exactly_once_http::settings::{Settings, Store};
use exactly_once_http::{Head, Host, Problem, Response};
use exactly_once_stores::deadline::Timer;
use exactly_once_stores::platform::Place;
use exactly_once_stores::{DatabaseSettings, Instance, Redis, RedisSettings, Request};

use crate::ids::RandomIds;
use crate::platform::{Spin, instance};
use crate::{ids, log, variables};

/// The database, as one request uses it.
pub type Database<'h> = exactly_once_stores::Database<'h, Spin>;

/// What one request uses of the host.
pub struct SpinHost {
    pub(crate) instance: &'static Instance<Spin>,
    pub(crate) request: Request<Spin>,
    pub(crate) collection: Collection,
    /// When it began, if it may be logged.
    pub(crate) started: Option<Duration>,
}

impl SpinHost {
    /// For a request about resources of a collection.
    pub fn for_collection(collection: &Collection) -> Self {
        let (instance, started) = (instance(), log::start());
        let request = Request::new(instance, Spin, started.is_some());
        Self { instance, request, collection: *collection, started }
    }

    /// Gives the response the request's id, and writes the request's line to the log where `log_requests` is set.
    pub async fn finish(&self, head: &impl Head, answer: Response) -> Response {
        let id = request_id(head).unwrap_or_else(ids::request_id);
        log::write(self, head, &answer, &id).await;
        answer.with(REQUEST_ID, id)
    }

    /// A variable that only one component has; empty where its manifest does not declare it.
    ///
    /// # Errors
    /// [`Problem::Misconfigured`]; the log names the variable.
    pub async fn variable(&self, name: &str) -> Result<String, Problem> {
        variables::one(name).await
    }

    pub(crate) fn timer(&self) -> &Timer<Spin> {
        self.request.timer()
    }
}

impl Clock for SpinHost {
    fn now(&self) -> Duration {
        Spin.now()
    }

    async fn sleep(&self, time: Duration) {
        Spin.sleep(time).await;
    }
}

impl Host for SpinHost {
    type Redis<'h> = Redis<'h, Spin>;
    type Postgres<'h> = Database<'h>;
    type Ids = RandomIds;

    async fn settings(&self) -> Result<Arc<Settings>, Problem> {
        variables::settings().await
    }

    fn redis<'h>(&'h self, settings: &'h Settings) -> Redis<'h, Spin> {
        let settings = RedisSettings {
            url: match &settings.store {
                Store::Servers { redis_url, .. } => Some(redis_url),
                Store::Embedded => None,
            },
            prefix: &settings.redis_key_prefix,
            ttl: settings.reservation_ttl,
            lease: settings.lock_lease,
            timeout: settings.redis_timeout,
        };
        Redis::new(self.instance, &self.request, settings)
    }

    fn postgres<'h>(&'h self, settings: &'h Settings) -> Database<'h> {
        let settings = DatabaseSettings {
            place: match &settings.store {
                Store::Servers { database_url, .. } => Place::Postgres { url: database_url },
                Store::Embedded => Place::Sqlite,
            },
            timeout: settings.database_timeout,
            lock_timeout: settings.lock_timeout(),
        };
        Database::new(self.instance, &self.request, settings, &self.collection)
    }

    fn ids(&self) -> &RandomIds {
        &RandomIds
    }

    fn unix_seconds(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    #[cfg(feature = "fetch")]
    async fn fetch(&self, url: &str) -> Result<Vec<u8>, exactly_once_http::Unfetched> {
        crate::fetch::fetch(url, self.timer()).await
    }

    fn misconfigured(&self) -> bool {
        self.instance.misconfigured()
    }

    async fn probe_both(&self, settings: &Settings) -> (Probe, Probe) {
        let (redis, postgres) = (self.redis(settings), self.postgres(settings));
        let both = async { futures::join!(redis.probe(), postgres.probe()) };
        self.instance.probe(&Spin, both).await
    }
}
