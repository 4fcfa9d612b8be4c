//! A simulated HTTP request and its host: everything that `exactly_once_http::respond` needs besides the stores.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use exactly_once::ListState;
use exactly_once::condition::Precondition;
use exactly_once::create::{KeyReuse, OutageReplay, ReplayPolicy};
use exactly_once::ports::{
    Clock, ConditionalResources, Feed, Histories, Locks, RecordLookup, Reservations, ResourceIds, ResourceLists,
    Resources, ResourcesByKey,
};
use exactly_once::ports::{Probe, Probes};
use exactly_once_http::settings::{RawSettings, Settings};
use exactly_once_http::{Body, BodyError, ETag, Head, Host, Method, Problem};

use crate::client_request::{ClientRequest, Condition};

/// The field that names the customer.
pub(crate) const CUSTOMER: &str = "x-customer";

/// A request's time for Redis.
pub const REDIS_TIMEOUT: Duration = Duration::from_millis(500);
/// A request's time for Postgres.
pub const DATABASE_TIMEOUT: Duration = Duration::from_secs(5);

thread_local! {
    /// All settings that requests have been answered with.
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
        let mut fields = vec![
            ("content-type", "application/json".to_owned()),
            (CUSTOMER, scope.customer.as_str().to_owned()),
        ];
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
        Self {
            path: request.kind.collection().path,
            fields,
        }
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

/// Names the ports of both stores once, for the trait and for what implements it.
macro_rules! stores {
    ($($port:ident),*) => {
        /// All ports of both stores.
        pub trait Stores: $($port +)* Clone + 'static {}

        impl<S: $($port +)* Clone + 'static> Stores for S {}
    };
}

stores!(
    Reservations,
    Locks,
    RecordLookup,
    Resources,
    ConditionalResources,
    ResourcesByKey,
    ResourceLists,
    Feed,
    Histories,
    ResourceIds,
    Probes
);

/// A host with these stores. Clones of the stores share their state.
pub struct SimulatedHost<S> {
    stores: S,
    settings: Arc<Settings>,
    slept: Cell<Duration>,
}

impl<S: Stores> SimulatedHost<S> {
    /// The host of a request.
    pub fn new(request: &ClientRequest, policy: ReplayPolicy, stores: S) -> Self {
        let precondition = match request.condition {
            // Only where a condition is required can a request have no key.
            Condition::Keyless => Precondition::Etag,
            Condition::Missing => Precondition::Both,
            Condition::None | Condition::Unchanged | Condition::Any => Precondition::Key,
        };
        Self {
            stores,
            settings: settings(precondition, policy),
            slept: Cell::default(),
        }
    }
}

/// A clock of the request's own: its time passes while it sleeps.
impl<S: Stores> Clock for SimulatedHost<S> {
    fn now(&self) -> Duration {
        self.slept.get()
    }

    async fn sleep(&self, time: Duration) {
        self.slept.set(self.slept.get() + time);
    }
}

impl<S: Stores> Host for SimulatedHost<S> {
    type Redis<'h> = S;
    type Postgres<'h> = S;
    type Ids = S;

    async fn settings(&self) -> Result<Arc<Settings>, Problem> {
        Ok(self.settings.clone())
    }

    fn redis<'h>(&'h self, _: &'h Settings) -> S {
        self.stores.clone()
    }

    fn postgres<'h>(&'h self, _: &'h Settings) -> S {
        self.stores.clone()
    }

    fn ids(&self) -> &S {
        &self.stores
    }

    fn unix_seconds(&self) -> i64 {
        0
    }

    async fn probe_both(&self, _: &Settings) -> (Probe, Probe) {
        (self.stores.probe().await, self.stores.probe().await)
    }
}
