//! The parts of the host that a request uses.

use std::sync::Arc;

use exactly_once::ports::{
    Clock, ConditionalResources, Feed, Histories, Locks, Probe, Probes, RecordLookup, Reservations, ResourceIds,
    ResourceLists, Resources, ResourcesByKey,
};

use crate::problem::Problem;
use crate::settings::Settings;

/// Why [`Host::fetch`] returns nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfetched {
    /// There is no such response.
    NoAnswer,
    /// Another request has fetched it, with success or without.
    AskedByAnother,
}

/// The host of one request. Its stores keep the request's deadlines.
#[allow(async_fn_in_trait, reason = "the callers are generic and single-threaded; none needs a Send bound")]
pub trait Host: Clock {
    /// Redis. Without a Redis, every call fails at once.
    type Redis<'h>: Reservations + Locks + RecordLookup + Probes
    where
        Self: 'h;
    /// Postgres, or the embedded store.
    type Postgres<'h>: Resources + ConditionalResources + ResourcesByKey + ResourceLists + Feed + Histories + Probes
    where
        Self: 'h;
    /// Draws ids.
    type Ids: ResourceIds;

    /// The checked variables.
    ///
    /// # Errors
    /// [`Problem::WrongVariables`] or [`Problem::Misconfigured`]; the log names the variables.
    async fn settings(&self) -> Result<Arc<Settings>, Problem>;

    /// The body that a GET of a URL returns with 200, if it is not longer than [`crate::MAX_BODY_BYTES`] and arrives
    /// soon.
    ///
    /// # Errors
    /// It could not be fetched; or another request of the instance fetched it at the same time, and this one has
    /// waited.
    async fn fetch(&self, url: &str) -> Result<Vec<u8>, Unfetched> {
        let _ = url;
        Err(Unfetched::NoAnswer)
    }

    /// Whether the host does not permit the database's address, as far as is known; the log names the variable.
    fn misconfigured(&self) -> bool {
        false
    }

    /// Redis, with this request's time for it.
    fn redis<'h>(&'h self, settings: &'h Settings) -> Self::Redis<'h>;

    /// Postgres or the embedded store, with this request's time for it.
    fn postgres<'h>(&'h self, settings: &'h Settings) -> Self::Postgres<'h>;

    /// Draws ids.
    fn ids(&self) -> &Self::Ids;

    /// The time, in seconds since the Unix epoch.
    fn unix_seconds(&self) -> i64;

    /// Probes both stores at the same time: Redis, then Postgres. Callers within a second may share a result.
    async fn probe_both(&self, settings: &Settings) -> (Probe, Probe);
}
