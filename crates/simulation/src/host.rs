//! A simulated HTTP request, and the host that it runs on: what `http_api::respond` needs besides the stores.

use std::sync::Arc;

use http_api::settings::{RawSettings, Settings};
use http_api::{Body, BodyError, ETag, Head, Host, Method, Probe, Probes, Problem};
use protocol::ListState;
use protocol::ports::{
    ConditionalResources, Histories, Locks, RecordLookup, Reservations, ResourceIds, ResourceLists,
    Resources, ResourcesByKey,
};

use crate::client_request::{ClientRequest, Condition};

/// The field that names the customer.
pub(crate) const CUSTOMER: &str = "x-customer";

thread_local! {
    static KEY_REQUIRED: Arc<Settings> = settings("key");
    static CONDITION_REQUIRED: Arc<Settings> = settings("etag");
}

fn settings(precondition: &str) -> Arc<Settings> {
    let raw = RawSettings {
        redis_url: "redis://simulated".into(),
        database_url: "postgres://simulated".into(),
        reservation_ttl: "86400".into(),
        redis_timeout_ms: "500".into(),
        database_timeout_ms: "5000".into(),
        key_reuse: "reject".into(),
        precondition: precondition.into(),
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
        if request.condition != Condition::None {
            fields.push(("if-match", ETag::of_state(known).to_string()));
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

/// All ports of both stores.
pub trait Stores:
    Reservations
    + Locks
    + RecordLookup
    + Resources
    + ConditionalResources
    + ResourcesByKey
    + ResourceLists
    + Histories
    + ResourceIds
    + Probes
    + Clone
    + 'static
{
}

impl<S> Stores for S where
    S: Reservations
        + Locks
        + RecordLookup
        + Resources
        + ConditionalResources
        + ResourcesByKey
        + ResourceLists
        + Histories
        + ResourceIds
        + Probes
        + Clone
        + 'static
{
}

/// A host with these stores. Clones of the stores share their state.
pub struct SimulatedHost<S> {
    stores: S,
    settings: Arc<Settings>,
}

impl<S: Stores> SimulatedHost<S> {
    /// The host of a request.
    pub fn new(request: &ClientRequest, stores: S) -> Self {
        // Only where a condition is required can a request have no key.
        let settings = match request.condition {
            Condition::Keyless => CONDITION_REQUIRED.with(Arc::clone),
            Condition::None | Condition::Unchanged => KEY_REQUIRED.with(Arc::clone),
        };
        Self { stores, settings }
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
