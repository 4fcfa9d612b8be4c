//! The database that the variable `store` chooses, behind one type: a request finds out with its first call.

use http_api::{Probe, Probes};
use protocol::condition::Expected;
use protocol::error::DatabaseUnavailable;
use protocol::ports::{
    Attempt, ConditionalInsertion, ConditionalResources, Histories, Insertion, NewResource, Page,
    ResourceLists, Resources, ResourcesByKey, StoredResource,
};
use protocol::{Customer, InHistory, KeyScope, KnownHistory, ResourceId};

use crate::postgres::PostgresResources;
use crate::sqlite::SqliteResources;

/// Where resources are kept, as one request uses it.
pub enum Database<'r> {
    /// In Postgres.
    Postgres(PostgresResources<'r>),
    /// In the host's own SQLite.
    Sqlite(SqliteResources<'r>),
}

/// Evaluates an expression over the database that it is.
macro_rules! with {
    ($database:expr, $it:ident => $expression:expr) => {
        match $database {
            Database::Postgres($it) => $expression,
            Database::Sqlite($it) => $expression,
        }
    };
}

impl Histories for Database<'_> {
    fn known_history(&self) -> KnownHistory {
        with!(self, it => it.known_history())
    }
}

impl Resources for Database<'_> {
    fn announce_insertion(&self) {
        with!(self, it => it.announce_insertion());
    }

    async fn insert_new(&self, new: &NewResource) -> Attempt {
        with!(self, it => it.insert_new(new).await)
    }

    async fn insert_unless_exists(
        &self,
        new: &NewResource,
    ) -> Result<InHistory<Insertion>, DatabaseUnavailable> {
        with!(self, it => it.insert_unless_exists(new).await)
    }
}

impl ConditionalResources for Database<'_> {
    async fn insert_based_on(
        &self,
        new: &NewResource,
        expected: &Expected,
    ) -> Result<InHistory<ConditionalInsertion>, DatabaseUnavailable> {
        with!(self, it => it.insert_based_on(new, expected).await)
    }
}

impl ResourcesByKey for Database<'_> {
    async fn find_by_key(
        &self,
        scope: &KeyScope,
    ) -> Result<InHistory<Option<StoredResource>>, DatabaseUnavailable> {
        with!(self, it => it.find_by_key(scope).await)
    }
}

impl ResourceLists for Database<'_> {
    async fn find(
        &self,
        customer: &Customer,
        id: ResourceId,
    ) -> Result<Option<StoredResource>, DatabaseUnavailable> {
        with!(self, it => it.find(customer, id).await)
    }

    async fn page(
        &self,
        customer: &Customer,
        after: Option<ResourceId>,
        limit: usize,
    ) -> Result<Option<Page>, DatabaseUnavailable> {
        with!(self, it => it.page(customer, after, limit).await)
    }
}

impl Probes for Database<'_> {
    async fn probe(&self) -> Probe {
        with!(self, it => it.probe().await)
    }
}
