//! The component's composition over native connections. An instance and its requests belong to one thread: each of a
//! few threads has an instance of its own, as in a Spin host.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use deadpool_postgres::Pool;
use exactly_once::ports::{Clock, Probe, Probes};
use exactly_once_http::settings::{RawSettings, Settings, Store};
use exactly_once_http::{Host, Problem};
use exactly_once_stores::platform::Place;
use exactly_once_stores::{Database, DatabaseSettings, Instance, Redis, RedisSettings, Request};
use native_stores::{Native, OneshotSignals, Postgres, RandomIds};
use orders::ORDERS;

/// What all requests are served with.
#[derive(Clone)]
pub struct Service {
    settings: Arc<Settings>,
    postgres: Pool,
}

impl Service {
    /// With the component's default settings.
    ///
    /// # Errors
    /// A default is not valid.
    pub fn new(redis_url: String, database_url: String, prefix: String, pool: Pool) -> Result<Self> {
        let settings = RawSettings {
            redis_url,
            database_url,
            redis_key_prefix: prefix,
            reservation_ttl: "86400".to_owned(),
            redis_timeout_ms: "500".to_owned(),
            database_timeout_ms: "5000".to_owned(),
            key_reuse: "reject".to_owned(),
            precondition: "key".to_owned(),
            lock_lease_ms: "5000".to_owned(),
            identity: "none".to_owned(),
            ..RawSettings::default()
        };
        Ok(Self { settings: Arc::new(settings.check()?), postgres: pool })
    }
}

/// A thread's instance, and the host that it runs on.
struct OfThread {
    platform: Native,
    instance: Rc<Instance<Native>>,
}

thread_local! {
    static OF_THREAD: RefCell<Option<OfThread>> = const { RefCell::new(None) };
}

/// The host of one request.
pub struct NativeHost {
    settings: Arc<Settings>,
    instance: Rc<Instance<Native>>,
    request: Request<Native>,
}

impl NativeHost {
    /// For a request of this thread's instance.
    pub fn new(service: &Service) -> Self {
        OF_THREAD.with_borrow_mut(|of_thread| {
            let it = of_thread.get_or_insert_with(|| OfThread {
                platform: Native::new(Postgres::Pool(service.postgres.clone())),
                instance: Rc::new(Instance::new(OneshotSignals)),
            });
            Self {
                settings: service.settings.clone(),
                instance: it.instance.clone(),
                request: Request::new(&it.instance, it.platform.clone(), false),
            }
        })
    }
}

impl Clock for NativeHost {
    fn now(&self) -> Duration {
        self.request.platform().now()
    }

    async fn sleep(&self, time: Duration) {
        self.request.platform().sleep(time).await;
    }
}

impl Host for NativeHost {
    type Redis<'h> = Redis<'h, Native>;
    type Postgres<'h> = Database<'h, Native>;
    type Ids = RandomIds;

    async fn settings(&self) -> Result<Arc<Settings>, Problem> {
        Ok(self.settings.clone())
    }

    fn redis<'h>(&'h self, settings: &'h Settings) -> Redis<'h, Native> {
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
        Redis::new(&self.instance, &self.request, settings)
    }

    fn postgres<'h>(&'h self, settings: &'h Settings) -> Database<'h, Native> {
        let settings = DatabaseSettings {
            // The pool knows the address.
            place: Place::Postgres { url: "" },
            timeout: settings.database_timeout,
            lock_timeout: settings.lock_timeout(),
        };
        Database::new(&self.instance, &self.request, settings, &ORDERS.collection)
    }

    fn ids(&self) -> &RandomIds {
        &RandomIds
    }

    fn unix_seconds(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    async fn probe_both(&self, settings: &Settings) -> (Probe, Probe) {
        let (redis, postgres) = (self.redis(settings), self.postgres(settings));
        tokio::join!(redis.probe(), postgres.probe())
    }
}
