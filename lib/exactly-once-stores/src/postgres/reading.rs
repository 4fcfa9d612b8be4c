//! Resources and lists as customers read them: one statement each, so that its answer is of one snapshot.

use exactly_once::ports::Page;
use exactly_once::{Customer, KeyScope, ListState, ResourceId};

use super::{Parameter, Row, Statement, Statements, Unreadable, stored};

/// SQL for the [`ListState`] of the customer that the placeholder stands for. Sequence numbers are drawn before they are
/// committed, so a resource can appear below the newest one: hence the sequence numbers of the newest 256, and not the
/// last one alone, make the state. The id makes it unguessable; the customer makes it the customer's even when the list
/// is empty. Costs one descent of the index `(customer_id, seq)` and at most 256 entries from there. Another relation
/// with the table's columns can take its place.
macro_rules! list_state {
    ($customer:literal) => {
        list_state!($customer, "{table}")
    };
    ($customer:literal, $relation:literal) => {
        concat!(
            "(SELECT substring(sha256( \
                convert_to('{table} list 1:' || octet_length(",
            $customer,
            ") || ':' || ",
            $customer,
            ", 'UTF8') \
                || coalesce((SELECT uuid_send({id}) FROM ",
            $relation,
            " WHERE customer_id = ",
            $customer,
            " ORDER BY seq DESC LIMIT 1), ''::bytea) \
                || coalesce(string_agg(int8send(seq), ''::bytea ORDER BY seq DESC), ''::bytea) \
            ) FROM 1 FOR 16) \
            FROM (SELECT seq FROM ",
            $relation,
            " WHERE customer_id = ",
            $customer,
            " ORDER BY seq DESC LIMIT 256) AS newest)"
        )
    };
}
pub(super) use list_state;

/// One row: the database's history, and the resource if there is one.
pub(super) const FIND: &str = "\
    SELECT history, {id}::text AS id, fingerprint, document::text AS document \
    FROM (SELECT database_history() AS history) AS current \
    LEFT JOIN {table} ON {id} = $1::text::uuid AND customer_id = $2";

/// The same.
pub(super) const FIND_BY_KEY: &str = "\
    SELECT history, {id}::text AS id, fingerprint, document::text AS document \
    FROM (SELECT database_history() AS history) AS current \
    LEFT JOIN {table} ON customer_id = $1 AND idempotency_key = $2";

/// One row per resource, and one without a resource where there is none. A cursor that is none of the customer's
/// resources has no sequence number. Comparing with one number that is known before the index is entered makes a later
/// page as cheap as the first.
pub(super) const PAGE: &str = concat!(
    "WITH start AS MATERIALIZED ( \
        SELECT CASE WHEN $2::text IS NULL THEN 9223372036854775807 \
               ELSE (SELECT seq FROM {table} WHERE {id} = $2::text::uuid AND customer_id = $1) \
               END AS seq, database_history() AS history \
    ), page AS ( \
        SELECT {id}, fingerprint, document, seq FROM {table} \
        WHERE customer_id = $1 AND seq < (SELECT seq FROM start) \
        ORDER BY seq DESC LIMIT $3 \
    ) \
    SELECT {id}::text AS id, fingerprint, document::text AS document, \
           start.seq IS NOT NULL AS cursor_known, start.history AS history, ",
    list_state!("$1"),
    " AS state FROM start LEFT JOIN page ON true ORDER BY page.seq DESC"
);

impl Statements {
    /// Looks for a customer's resource; read the row with [`found`](super::found).
    pub fn find(&self, customer: &Customer, id: ResourceId) -> Statement<'_> {
        Statement {
            sql: &self.find,
            parameters: vec![
                Parameter::Text(id.to_string()),
                Parameter::Text(customer.as_str().to_owned()),
            ],
        }
    }

    /// Looks for the resource of a scope; read the row with [`found_in_history`](super::found_in_history).
    pub fn find_by_key(&self, scope: &KeyScope) -> Statement<'_> {
        Statement {
            sql: &self.find_by_key,
            parameters: vec![
                Parameter::Text(scope.customer.as_str().to_owned()),
                Parameter::Text(scope.key.as_str().to_owned()),
            ],
        }
    }

    /// Reads up to `limit` of a customer's resources that are older than `after`, and one more, which says that there
    /// are more; read the rows with [`page`].
    pub fn page(
        &self,
        customer: &Customer,
        after: Option<ResourceId>,
        limit: usize,
    ) -> Statement<'_> {
        Statement {
            sql: &self.page,
            parameters: vec![
                Parameter::Text(customer.as_str().to_owned()),
                Parameter::NullableText(after.map(|id| id.to_string())),
                Parameter::Int64(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)),
            ],
        }
    }
}

/// The page in the rows of [`Statements::page`]; `None` when its cursor is none of the customer's resources.
///
/// # Errors
/// [`Unreadable`] when they are not as the statement returns them.
pub fn page(rows: &[impl Row], limit: usize) -> Result<Option<Page>, Unreadable> {
    let first = rows.first().ok_or(Unreadable)?;
    if first.boolean("cursor_known") != Some(true) {
        return Ok(None);
    }
    let state = first.bytes("state").ok_or(Unreadable)?;
    let state = ListState::from_bytes(&state).ok_or(Unreadable)?;
    let mut resources = rows
        .iter()
        .filter(|row| row.text("id").is_some())
        .map(stored)
        .collect::<Result<Vec<_>, _>>()?;
    let more = resources.len() > limit;
    resources.truncate(limit);
    Ok(Some(Page {
        state,
        resources,
        more,
    }))
}
