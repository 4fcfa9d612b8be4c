//! The statements for SQLite, the embedded store: the same parameters and rows as Postgres's, so that one code builds
//! and reads both.
//!
//! One difference: an insertion in SQLite cannot return the row that it conflicts with. SQLite has one writer at a
//! time, so that row is committed, and the next statement reads it. Rows never change, so reading later is as good.

use exactly_once::Collection;

use crate::database::Failure;
use crate::platform::StatementError;
use crate::sql::{Row, Statements, Templates, fill_in};

/// How long a statement waits for another connection's, in milliseconds. Not longer: the request can do other things
/// before it sends the statement again.
const BUSY_TIMEOUT: &str = "PRAGMA busy_timeout = 50";

/// Readers and the writer do not wait for each other, and a commit is one `fsync`. The file keeps it. Returns the mode,
/// which must be [`LOG_MODE`].
const JOURNAL: &str = "PRAGMA journal_mode = WAL";

/// The journal mode of a file. A database in memory has another one, and each connection would have its own database.
pub const LOG_MODE: &str = "wal";

/// A commit returns when the disk has it, so that it survives a power cut. The host may have been built with another
/// default.
const SYNCHRONOUS: &str = "PRAGMA synchronous = FULL";

/// The table.
const CREATE_TABLE: &str = include_str!("../sqlite/create_table.sql");

/// SQL for the [`ListState`](exactly_once::ListState) of the customer that the placeholder stands for: the id of the
/// newest resource, whose 74 random bits make it unguessable for other customers. It is enough because SQLite commits
/// in the order of `seq`: no resource appears below the newest one. An empty list's state is the beginning of the
/// customer's name, so that the tag of another customer's empty list is hardly ever right.
macro_rules! list_state {
    ($customer:literal) => {
        concat!(
            "coalesce((SELECT unhex(replace({id}, '-', '')) FROM {table} WHERE customer_id = ",
            $customer,
            " ORDER BY seq DESC LIMIT 1), substr(CAST(",
            $customer,
            " || zeroblob(16) AS BLOB), 1, 16))"
        )
    };
}

/// There is one history: no record outlives a row here, so no row can be missing from what is believed.
macro_rules! history {
    () => {
        "zeroblob(8) AS history"
    };
}

/// A time in milliseconds as text.
macro_rules! created_at {
    ($millis:literal) => {
        concat!("strftime('%Y-%m-%dT%H:%M:%fZ', ", $millis, " / 1000.0, 'unixepoch')")
    };
}

/// Returns a row if, and only if, it has inserted one. The lock timeout is the connection's.
const INSERT: &str = concat!(
    "INSERT INTO {table} ({id}, customer_id, idempotency_key, fingerprint, document, created_at) \
     SELECT ?1, ?2, ?3, ?4, ?5, ",
    created_at!("?6"),
    " WHERE ?7 IS NOT NULL ON CONFLICT DO NOTHING RETURNING true AS inserted, ",
    history!()
);

/// Returns a row for each one that it has inserted.
const INSERT_ALL: &str = concat!(
    "INSERT INTO {table} ({id}, customer_id, idempotency_key, fingerprint, document, created_at) \
     SELECT value ->> 'id', value ->> 'customer_id', value ->> 'idempotency_key', \
            unhex(value ->> 'fingerprint'), value -> 'document', ",
    created_at!("(value ->> 'created_at')"),
    " FROM json_each(?1) WHERE true ON CONFLICT DO NOTHING RETURNING {id} AS ids"
);

/// Returns a row if, and only if, it has inserted one: the list was in an expected state, and nothing conflicted.
const INSERT_BASED_ON: &str = concat!(
    "INSERT INTO {table} ({id}, customer_id, idempotency_key, fingerprint, document, created_at, based_on) \
     SELECT ?1, ?2, ?3, ?4, ?5, ",
    created_at!("?6"),
    ", CASE WHEN ?7 <> '*' THEN state END FROM (SELECT ",
    list_state!("?2"),
    " AS state) \
     WHERE (?7 = '*' OR instr(?7, lower(hex(state))) > 0) AND ?8 IS NOT NULL \
     ON CONFLICT DO NOTHING \
     RETURNING true AS inserted, unhex(replace({id}, '-', '')) AS after, ",
    history!()
);

/// One row, and in it the resource if there is one.
const FIND: &str = concat!(
    "SELECT ",
    history!(),
    ", {id} AS id, fingerprint, document \
     FROM (SELECT 1) LEFT JOIN {table} ON {id} = ?1 AND customer_id = ?2"
);

/// The same.
const FIND_BY_KEY: &str = concat!(
    "SELECT ",
    history!(),
    ", {id} AS id, fingerprint, document \
     FROM (SELECT 1) LEFT JOIN {table} ON customer_id = ?1 AND idempotency_key = ?2"
);

/// One row per resource, and one without a resource where there is none. Up to 1 MB of documents, and the first one in
/// any case; a resource after that is a row without an id.
const PAGE: &str = concat!(
    "WITH start AS MATERIALIZED ( \
        SELECT CASE WHEN ?2 IS NULL THEN 9223372036854775807 \
               ELSE (SELECT seq FROM {table} WHERE {id} = ?2 AND customer_id = ?1) END AS seq \
    ), page AS ( \
        SELECT *, sum(length(document)) OVER (ORDER BY seq DESC) - length(document) < 1000000 AS fits \
        FROM (SELECT {id} AS id, fingerprint, document, seq FROM {table} \
              WHERE customer_id = ?1 AND seq < (SELECT seq FROM start) AND {id} >= coalesce(?4, '') \
              ORDER BY seq DESC LIMIT ?3) \
    ) \
    SELECT CASE WHEN fits THEN id END AS id, fingerprint, CASE WHEN fits THEN document END AS document, \
           start.seq IS NOT NULL AS cursor_known, ",
    history!(),
    ", ",
    list_state!("?1"),
    " AS state FROM start LEFT JOIN page ORDER BY page.seq DESC"
);

/// The mark of the number that the placeholder stands for: the random half of the id of the resource that has it,
/// because numbers of deleted resources are drawn again. Zeros where there is none, and so before the first one.
macro_rules! mark {
    ($seq:literal) => {
        concat!(
            "coalesce((SELECT substr(unhex(replace({id}, '-', '')), 9) FROM {table} WHERE seq = ",
            $seq,
            "), zeroblob(8))"
        )
    };
}

/// One row. There are no writers: SQLite commits in the order of `seq`.
const LOOK: &str = concat!(
    "SELECT ",
    mark!("?1"),
    " AS here, \
     (SELECT unhex(printf('%016x', max(seq))) \
      FROM (SELECT seq FROM {table} WHERE seq > ?1 ORDER BY seq LIMIT ?2) HAVING max(seq) > 0) AS last, \
     nullif('', ?3) AS writers"
);

/// One row per resource, and one without a resource where there is none. Up to 1 MB of documents, and the first one in
/// any case.
const READ: &str = concat!(
    "SELECT here, substr(unhex(replace(id, '-', '')), 9) AS mark, unhex(printf('%016x', number)) AS seq, id, \
            customer_id, document \
     FROM (SELECT ",
    mark!("?1"),
    " AS here) LEFT JOIN ( \
        SELECT *, sum(length(document)) OVER (ORDER BY number) - length(document) AS before \
        FROM (SELECT seq AS number, {id} AS id, customer_id, document \
              FROM {table} WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3) \
     ) ON before < 1000000 ORDER BY number"
);

const HISTORY: &str = concat!("SELECT ", history!());

/// Inserts nothing, but as a writer: a file that cannot be written or has another schema is not called ready.
const PROBE: &str = "\
    INSERT INTO {table} (seq, {id}, customer_id, idempotency_key, fingerprint, document, created_at, based_on) \
    SELECT seq, {id}, customer_id, idempotency_key, fingerprint, document, created_at, based_on \
    FROM {table} WHERE false";

/// SQLite's statements of a collection. Built once and kept: this formats every text.
pub fn statements(collection: &Collection) -> Statements {
    Statements::from_templates(
        collection,
        &Templates {
            insert: INSERT,
            insert_new: INSERT_ALL,
            insert_all: INSERT_ALL,
            insert_based_on: INSERT_BASED_ON,
            find: FIND,
            find_by_key: FIND_BY_KEY,
            page: PAGE,
            look: LOOK,
            read: READ,
            history: HISTORY,
            // Not sent: SQLite's rows always have a history.
            draw_epochs: HISTORY,
            probe: PROBE,
        },
    )
}

/// What a new connection runs first, in this order. All of it may be repeated, and by several connections at once.
/// Check the rows of each with [`check_mode`].
pub fn setup(collection: &Collection) -> [String; 4] {
    [BUSY_TIMEOUT, JOURNAL, SYNCHRONOUS, CREATE_TABLE].map(|sql| fill_in(sql, collection))
}

/// Whether the rows of a statement of [`setup`] are as they should be.
///
/// # Errors
/// The journal's mode is not [`LOG_MODE`]: the database is in memory.
pub fn check_mode(rows: &[Row]) -> Result<(), StatementError> {
    match rows.first().and_then(|row| row.text("journal_mode")) {
        Some(mode) if mode != LOG_MODE => Err(StatementError { sqlstate: None, text: NO_FILE.to_owned() }),
        _ => Ok(()),
    }
}

/// What a database in memory gets.
const NO_FILE: &str = "the database is not a file that all instances share; the host needs a folder for its state";

/// Whether another connection was in the way. Spin passes SQLite's text on, and no code.
pub(crate) fn is_locked(error: &StatementError) -> bool {
    error.text.ends_with("is locked")
}

/// What a failure means. SQLite's texts have neither statements nor parameters in them.
pub(crate) fn failure(error: &StatementError) -> Failure {
    match is_locked(error) {
        true => Failure::Transient,
        false => Failure::Outage,
    }
}

#[cfg(test)]
mod tests {
    use exactly_once::condition::Expected;
    use exactly_once::ports::{NewResource, PageRequest};
    use exactly_once::{Customer, Document, Fingerprint, IdempotencyKey, KeyScope, ResourceId};

    use super::*;
    use crate::sql::Statement;

    const ORDERS: Collection = Collection { name: "orders", one: "order", path: "/orders" };

    #[test]
    fn every_placeholder_has_its_parameter_and_its_table() {
        let scope = KeyScope {
            collection: "orders",
            customer: Customer::anonymous(),
            key: IdempotencyKey::parse(b"k").expect("a key"),
        };
        let document = Document::from_text("{}");
        let new = NewResource {
            id: ResourceId::parse("01970000-0000-7000-8000-000000000001").expect("an id"),
            fingerprint: Fingerprint::of(&scope, "POST", "/", &document),
            document,
            scope,
        };
        let statements = statements(&ORDERS);
        let timeout = std::time::Duration::from_secs(2);
        for Statement { sql, parameters } in [
            statements.insert(&new, timeout),
            statements.insert_all(&[&new]),
            statements.insert_based_on(&new, &Expected::Any, timeout),
            statements.find(&new.scope.customer, new.id),
            statements.find_by_key(&new.scope),
            statements.page(&new.scope.customer, PageRequest::newest(1)),
            statements.look(0, 1, None),
            statements.read(0, 1, 1),
            statements.probe(),
        ] {
            let highest = (1..=20).rev().find(|n| sql.contains(&format!("?{n}")));
            assert_eq!(highest.unwrap_or(0), parameters.len(), "{sql}");
            assert!(sql.contains("orders") && !sql.contains('{'), "{sql}");
        }
        for sql in setup(&ORDERS) {
            assert!(!sql.contains("{table}") && !sql.contains("{id}"), "{sql}");
        }
    }
}
