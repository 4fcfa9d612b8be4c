//! A simulated HTTP request and its host, which gives it the stores as the component's host does.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use exactly_once::ListState;
use exactly_once::condition::Precondition;
use exactly_once::create::{KeyReuse, OutageReplay, ReplayPolicy};
use exactly_once::ports::{Clock, Probe, Probes};
use exactly_once_http::settings::{RawSettings, Settings};
use exactly_once_http::{Body, BodyError, ETag, Head, Host, Method, Problem};
use exactly_once_stores::platform::Place;
use exactly_once_stores::{Database, DatabaseSettings, Instance, Redis, RedisSettings, Request};

use crate::client_request::{ClientRequest, Condition};
use crate::kind::Kind;
use crate::platform::Simulated;

/// The header that names the customer.
pub(crate) const CUSTOMER: &str = "x-customer";

/// A request's time for Redis.
const REDIS_TIMEOUT: Duration = Duration::from_millis(500);
/// A request's time for Postgres.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a statement waits for another one's commit.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

thread_local! {
    /// All settings that requests have used.
    static SETTINGS: RefCell<Vec<Arc<Settings>>> = const { RefCell::new(Vec::new()) };
}

/// The checked settings with these policies.
fn settings(precondition: Precondition, policy: ReplayPolicy) -> Arc<Settings> {
    SETTINGS.with_borrow_mut(|all| {
        let is_it =
            |settings: &&Arc<Settings>| settings.precondition == precondition && settings.replay_policy == policy;
        if let Some(settings) = all.iter().find(is_it) {
            return settings.clone();
        }
        let settings = check(precondition, policy);
        all.push(settings.clone());
        settings
    })
}

fn check(precondition: Precondition, policy: ReplayPolicy) -> Arc<Settings> {
    let raw = RawSettings {
        redis_url: "redis://simulated".into(),
        database_url: "postgres://simulated".into(),
        reservation_ttl: "86400".into(),
        redis_timeout_ms: REDIS_TIMEOUT.as_millis().to_string(),
        database_timeout_ms: DATABASE_TIMEOUT.as_millis().to_string(),
        key_reuse: match policy.key_reuse {
            KeyReuse::Reject => "reject",
            KeyReuse::Replay => "replay",
        }
        .into(),
        replay_during_outage: match policy.outage {
            OutageReplay::FromRecord => "true",
            OutageReplay::Unavailable => "false",
        }
        .into(),
        precondition: match precondition {
            Precondition::Key => "key",
            Precondition::Etag => "etag",
            Precondition::Both => "both",
        }
        .into(),
        lock_lease_ms: "5000".into(),
        identity: "header".into(),
        identity_header: CUSTOMER.into(),
        ..RawSettings::default()
    };
    #[allow(clippy::expect_used, reason = "literals that are valid")]
    Arc::new(raw.check().expect("valid settings"))
}

/// The head of a client's request.
pub struct SimulatedHead {
    path: &'static str,
    fields: Vec<(&'static str, String)>,
}

impl SimulatedHead {
    /// The head of a request of a client that knows this state of its list.
    pub fn new(request: &ClientRequest, known: &ListState) -> Self {
        let scope = request.scope();
        let mut fields =
            vec![("content-type", "application/json".to_owned()), (CUSTOMER, scope.customer.as_str().to_owned())];
        if request.condition != Condition::Keyless {
            fields.push(("idempotency-key", scope.key.as_str().to_owned()));
        }
        match request.condition {
            Condition::None | Condition::Missing => {}
            Condition::Unchanged | Condition::Keyless => {
                fields.push(("if-match", ETag::of_state(known).to_string()));
            }
            Condition::Any => fields.push(("if-match", "*".to_owned())),
        }
        Self { path: request.kind.collection().path, fields }
    }
}

impl Head for SimulatedHead {
    fn method(&self) -> Method {
        Method::Post
    }

    fn target(&self) -> String {
        self.path.to_owned()
    }

    fn values(&self, name: &str) -> Vec<Vec<u8>> {
        let named = self.fields.iter().filter(|(other, _)| *other == name);
        named.map(|(_, value)| value.as_bytes().to_vec()).collect()
    }
}

/// The body of a client's request.
pub struct SimulatedBody(pub String);

impl Body for SimulatedBody {
    async fn read(self, _declared: Option<u64>, limit: usize) -> Result<Vec<u8>, BodyError> {
        match self.0.len() > limit {
            true => Err(BodyError::TooLarge),
            false => Ok(self.0.into_bytes()),
        }
    }
}

/// The host of one request.
pub struct SimulatedHost {
    /// The instance that it has come to.
    pub instance: Rc<Instance<Simulated>>,
    request: Request<Simulated>,
    kind: Kind,
    settings: Arc<Settings>,
}

impl SimulatedHost {
    /// The host of a request that has come to an instance.
    pub fn new(
        request: &ClientRequest,
        policy: ReplayPolicy,
        instance: Rc<Instance<Simulated>>,
        platform: Simulated,
    ) -> Self {
        let precondition = match request.condition {
            // Only where a condition is required can a request have no key.
            Condition::Keyless => Precondition::Etag,
            Condition::Missing => Precondition::Both,
            Condition::None | Condition::Unchanged | Condition::Any => Precondition::Key,
        };
        Self {
            request: Request::new(&instance, platform, false),
            instance,
            kind: request.kind,
            settings: settings(precondition, policy),
        }
    }

    /// What it runs on.
    pub fn platform(&self) -> &Simulated {
        self.request.platform()
    }

    /// How many commands and statements it has sent.
    pub fn trips(&self) -> u32 {
        self.request.trips()
    }
}

impl Clock for SimulatedHost {
    fn now(&self) -> Duration {
        self.platform().now()
    }

    async fn sleep(&self, time: Duration) {
        self.platform().sleep(time).await;
    }
}

impl Host for SimulatedHost {
    type Redis<'h> = Redis<'h, Simulated>;
    type Postgres<'h> = Database<'h, Simulated>;
    type Ids = Simulated;

    async fn settings(&self) -> Result<Arc<Settings>, Problem> {
        Ok(self.settings.clone())
    }

    fn redis<'h>(&'h self, settings: &'h Settings) -> Redis<'h, Simulated> {
        let settings = RedisSettings {
            url: Some(""),
            prefix: "",
            ttl: settings.reservation_ttl,
            lease: settings.lock_lease,
            timeout: settings.redis_timeout,
        };
        Redis::new(&self.instance, &self.request, settings)
    }

    fn postgres<'h>(&'h self, settings: &'h Settings) -> Database<'h, Simulated> {
        let settings = DatabaseSettings {
            place: Place::Postgres { url: "" },
            timeout: settings.database_timeout,
            lock_timeout: settings.lock_timeout(),
        };
        Database::new(&self.instance, &self.request, settings, self.kind.collection())
    }

    fn ids(&self) -> &Simulated {
        self.platform()
    }

    fn unix_seconds(&self) -> i64 {
        0
    }

    async fn probe_both(&self, settings: &Settings) -> (Probe, Probe) {
        (self.redis(settings).probe().await, self.postgres(settings).probe().await)
    }
}
