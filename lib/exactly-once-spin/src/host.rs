//! The host of one request: its timer, and the stores with their budgets.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exactly_once::Collection;
use exactly_once::ports::Clock;
use exactly_once_http::settings::Settings;
use exactly_once_http::{Head, Host, Probe, Probes, Problem, Response};
use spin_sdk::time::sleep;

use crate::database::Database;
use crate::deadline::{Timer, now};
use crate::ids::RandomIds;
use crate::log::RequestLog;
use crate::redis::RedisReservations;
use crate::variables;

/// What one request uses of the host.
pub struct SpinHost {
    timer: Timer,
    log: RequestLog,
    collection: Collection,
}

impl SpinHost {
    /// For a request about resources of a collection.
    pub fn for_collection(collection: &Collection) -> Self {
        Self {
            timer: Timer::default(),
            log: RequestLog::start(),
            collection: *collection,
        }
    }

    /// Writes the request's line to the log, where `log_requests` is set.
    pub async fn log(&self, collection: &Collection, head: &impl Head, answer: &Response) {
        self.log.write(collection, head, answer).await;
    }

    /// A variable that only one component has; empty where its manifest does not declare it.
    ///
    /// # Errors
    /// [`Problem::Misconfigured`]; the log names the variable.
    pub async fn variable(&self, name: &str) -> Result<String, Problem> {
        variables::one(name).await
    }

    pub(crate) fn timer(&self) -> &Timer {
        &self.timer
    }
}

impl Clock for SpinHost {
    fn now(&self) -> Duration {
        now()
    }

    async fn sleep(&self, time: Duration) {
        sleep(time).await;
    }
}

impl Host for SpinHost {
    type Redis<'h> = RedisReservations<'h>;
    type Postgres<'h> = Database<'h>;
    type Ids = RandomIds;

    async fn settings(&self) -> Result<Arc<Settings>, Problem> {
        variables::settings().await
    }

    fn redis<'h>(&'h self, settings: &'h Settings) -> RedisReservations<'h> {
        RedisReservations::for_request(settings, &self.timer, &self.log)
    }

    fn postgres<'h>(&'h self, settings: &'h Settings) -> Database<'h> {
        Database::for_request(settings, &self.timer, &self.log, &self.collection)
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
        futures::join!(redis.probe(), postgres.probe())
    }
}
