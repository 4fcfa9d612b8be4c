//! The statements for Postgres. Every call is one statement, and so one implicit transaction.

mod feed;

use exactly_once::Collection;

use crate::database::Failure;
use crate::platform::StatementError;
use crate::sql::{Statements, Templates};

/// Inserts unless the scope has a resource, and otherwise returns that one. Both halves see the statement's snapshot: a
/// resource that is committed while this waits for its lock is in neither, and the caller asks again. `ON CONFLICT`
/// names no constraint because a request that continues an interrupted one repeats an id as well as a key. The
/// insertion reads from `current`, so that the lock timeout is set before it begins, for this transaction only: a
/// statement that waits for longer than its request would delay the next request on the connection.
const INSERT: &str = "\
    WITH current AS MATERIALIZED ( \
        SELECT database_history() AS history, set_config('lock_timeout', $7::text, true) AS lock_timeout \
    ), inserted AS ( \
        INSERT INTO {table} ({id}, customer_id, idempotency_key, fingerprint, document, created_at) \
        SELECT $1::text::uuid, $2::text, $3::text, $4::bytea, $5::text::json, to_timestamp($6::bigint / 1000.0) \
        FROM current WHERE lock_timeout IS NOT NULL AND history IS NOT NULL \
        ON CONFLICT DO NOTHING \
        RETURNING {id} \
    ), decided AS ( \
        SELECT true AS inserted, {id}::text AS id, NULL::bytea AS fingerprint, NULL::text AS document \
        FROM inserted \
        UNION ALL \
        SELECT false, {id}::text, fingerprint, document::text \
        FROM {table} WHERE customer_id = $2::text AND idempotency_key = $3::text \
    ) \
    SELECT history, inserted, id, fingerprint, document, \
           CASE WHEN NOT inserted THEN wait_for_standbys() END AS replicated \
    FROM current LEFT JOIN decided ON true";

/// Inserts the row if it conflicts with nothing, and returns [`ROWS_OF_ONE`] then. The function's name ends in the
/// version of the row's shape: without this shape in the database the statement fails and loses nothing.
const INSERT_NEW: &str = "SELECT FROM insert_{table}_2($1::text::json)";

/// How many rows say that one row was inserted: its id, and the end that the function adds. Hosts count rows faster
/// than they read one, but a pooler that mixes up prepared statements executes another text, and each returns one row.
pub const ROWS_OF_ONE: usize = 2;

/// The same, and says which rows were inserted.
const INSERT_ALL: &str = "SELECT string_agg(id::text, ',') AS ids FROM insert_{table}_2($1::text::json) AS id";

/// Reads no table of resources and waits for no lock.
pub(crate) const HISTORY: &str = "SELECT database_history() AS history";

/// Draws the history and the feed's numbering where the server has begun a new incarnation. Returns a row.
const DRAW_EPOCHS: &str = "SELECT draw_missing_epochs()::text AS drawn";

/// Inserts nothing, in the way that resources are inserted, and reads the columns that nothing else checks: a database
/// that lacks the schema, has another one, or only reads is not called ready.
const PROBE: &str = "\
    SELECT database_history() AS history, coalesce(numbers_continue('{table}'), false) AS numbers_continue, EXISTS ( \
        SELECT FROM insert_{table}_2('[]') \
        UNION ALL SELECT FROM (SELECT {id}, seq, based_on, document FROM {table} LIMIT 0) AS columns \
    ) AS found";

/// SQL for the [`ListState`] of the customer that the placeholder stands for. Sequence numbers are drawn before they
/// are committed, so a resource can appear below the newest one: hence the sequence numbers of the newest 256, and not
/// the last one alone, make the state. The id makes it unguessable; the customer makes it the customer's even when the
/// list is empty. Costs one descent of the index `(customer_id, seq)` and at most 256 entries from there. Another
/// relation with the table's columns can take its place.
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

/// One row: the database's history, and the resource if there is one.
const FIND: &str = "\
    SELECT history, {id}::text AS id, fingerprint, document::text AS document \
    FROM (SELECT database_history() AS history) AS current \
    LEFT JOIN {table} ON {id} = $1::text::uuid AND customer_id = $2";

/// The same. The response acknowledges the resource, which a read of [`FIND`] does not.
const FIND_BY_KEY: &str = "\
    SELECT history, {id}::text AS id, fingerprint, document::text AS document, \
           CASE WHEN {id} IS NOT NULL THEN wait_for_standbys() END AS replicated \
    FROM (SELECT database_history() AS history) AS current \
    LEFT JOIN {table} ON customer_id = $1 AND idempotency_key = $2";

/// One row per resource, and one without a resource where there is none. Up to 1 MB of documents, and the first one in
/// any case; a resource after that is a row without an id. A cursor that is none of the customer's resources has no
/// sequence number. Comparing with one number that is known before the index is entered makes a later
/// page as cheap as the first.
const PAGE: &str = concat!(
    "WITH start AS MATERIALIZED ( \
        SELECT CASE WHEN $2::text IS NULL THEN 9223372036854775807 \
               ELSE (SELECT seq FROM {table} WHERE {id} = $2::text::uuid AND customer_id = $1) \
               END AS seq, database_history() AS history \
    ), page AS ( \
        SELECT *, sum(octet_length(document)) OVER (ORDER BY seq DESC) - octet_length(document) < 1000000 AS fits \
        FROM (SELECT {id}::text AS id, fingerprint, document::text AS document, seq FROM {table} \
              WHERE customer_id = $1 AND seq < (SELECT seq FROM start) \
                  AND ($4::text IS NULL OR {id} >= $4::text::uuid) \
              ORDER BY seq DESC LIMIT $3) AS newest \
    ) \
    SELECT CASE WHEN fits THEN id END AS id, fingerprint, CASE WHEN fits THEN document END AS document, \
           start.seq IS NOT NULL AS cursor_known, start.history AS history, ",
    list_state!("$1"),
    " AS state FROM start LEFT JOIN page ON true ORDER BY page.seq DESC"
);

/// Inserts if the list's state is an expected one, and always returns one row: the resource inserted, or the scope's,
/// or none; the state before; the state after an insertion; and the database's history. `ON CONFLICT` waits for a
/// concurrent statement that is based on the same state, but does not see its row: then the state is still an expected
/// one, and the caller asks again. Resources without a condition neither wait for this statement nor make it wait.
const INSERT_BASED_ON: &str = concat!(
    "WITH seen AS MATERIALIZED ( \
        SELECT database_history() AS history, set_config('lock_timeout', $8::text, true) AS lock_timeout, ",
    list_state!("$2::text"),
    " AS state), inserted AS ( \
        INSERT INTO {table} ({id}, customer_id, idempotency_key, fingerprint, document, created_at, based_on) \
        SELECT $1::text::uuid, $2::text, $3::text, $4::bytea, $5::text::json, \
               to_timestamp($6::bigint / 1000.0), CASE WHEN $7::text <> '*' THEN state END \
        FROM seen WHERE lock_timeout IS NOT NULL AND history IS NOT NULL \
            AND ARRAY['*', encode(state, 'hex')] && string_to_array($7::text, ',') \
        ON CONFLICT DO NOTHING \
        RETURNING {id}, customer_id, seq \
    ) \
    SELECT history, inserted.{id} IS NOT NULL AS inserted, coalesce(inserted.{id}, found.{id})::text AS id, \
           found.fingerprint AS fingerprint, found.document::text AS document, state AS before, \
           CASE WHEN inserted.{id} IS NULL THEN wait_for_standbys() END AS replicated, \
           CASE WHEN inserted.{id} IS NOT NULL THEN ",
    list_state!(
        "$2::text",
        "(SELECT {id}, customer_id, seq FROM {table} \
          UNION ALL SELECT {id}, customer_id, seq FROM inserted) AS after"
    ),
    " END AS after \
    FROM seen LEFT JOIN inserted ON true \
    LEFT JOIN {table} AS found ON found.customer_id = $2::text AND found.idempotency_key = $3::text"
);

/// Postgres's statements of a collection. Built once and kept: this formats every text.
pub fn statements(collection: &Collection) -> Statements {
    Statements::from_templates(
        collection,
        &Templates {
            insert: INSERT,
            insert_new: INSERT_NEW,
            insert_all: INSERT_ALL,
            insert_based_on: INSERT_BASED_ON,
            find: FIND,
            find_by_key: FIND_BY_KEY,
            page: PAGE,
            look: feed::LOOK,
            read: feed::READ,
            history: HISTORY,
            draw_epochs: DRAW_EPOCHS,
            probe: PROBE,
        },
    )
}

/// Ends the connection that it is sent on, and fails.
pub(crate) const END_CONNECTION: &str = "SELECT pg_terminate_backend(pg_backend_pid())::text";

/// What a failure means, by the SQLSTATE. 25006 is read_only_sql_transaction. Transient are serialization_failure,
/// deadlock_detected, lock_not_available, and query_canceled, which is the statement timeout where an operator has set
/// one.
pub(crate) fn failure(error: &StatementError) -> Failure {
    match error.sqlstate.as_deref() {
        Some("40001" | "40P01" | "55P03" | "57014") => Failure::Transient,
        Some("25006") => Failure::TakesNoWrites,
        Some(code) if rejects_values(code) => Failure::ValueRejected,
        Some(code) if !is_down(code) => Failure::Refused,
        _ => Failure::Outage,
    }
}

/// Whether a server with this SQLSTATE serves no request: it shuts down or starts, is out of something, or is not a
/// primary.
fn is_down(code: &str) -> bool {
    ["08", "53", "57", "58", "25"].contains(&code.get(..2).unwrap_or_default())
}

/// Whether it is about the values: data exceptions, constraints, and limits such as the size of an index row. A unique
/// constraint fails only a statement that races with another one.
fn rejects_values(code: &str) -> bool {
    code != "23505" && ["22", "23", "54"].contains(&code.get(..2).unwrap_or_default())
}

/// For the log: what the server said, without values, which it puts into messages about data (class 22); and what to do
/// about undefined tables, columns and functions.
pub(crate) fn describe(error: &StatementError) -> String {
    let message = &error.text;
    match error.sqlstate.as_deref() {
        None => message.clone(),
        Some(code @ ("42P01" | "42703" | "42883")) => {
            format!("{code} {message}; apply the migrations")
        }
        Some(code @ ("26000" | "42P05")) => {
            format!("{code} {message}; the pooler must keep prepared statements")
        }
        Some(code) if code.starts_with("22") => format!("{code}, a value is refused"),
        Some(code) => format!("{code} {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str) -> StatementError {
        StatementError { sqlstate: Some(code.to_owned()), text: "s3cret".to_owned() }
    }

    #[test]
    fn a_sqlstate_says_whether_to_try_again_and_whether_the_server_is_up() {
        for (codes, meaning) in [
            (&["40001", "40P01", "55P03", "57014"][..], Failure::Transient),
            (&["42P01", "23505", "0A000", "0"], Failure::Refused),
            (&["22P05", "23514", "54000"], Failure::ValueRejected),
            (&["25006"], Failure::TakesNoWrites),
            (&["08006", "53300", "57P01", "57P03", "58030", "25001"], Failure::Outage),
        ] {
            for code in codes {
                assert_eq!(failure(&error(code)), meaning, "{code}");
            }
        }
        let no_server = StatementError { sqlstate: None, text: "no server".to_owned() };
        assert_eq!(failure(&no_server), Failure::Outage);
        assert_eq!(describe(&no_server), "no server");
    }

    #[test]
    fn values_are_not_logged_and_a_missing_migration_is_named() {
        assert!(!describe(&error("22P02")).contains("s3cret"));
        assert_eq!(describe(&error("53300")), "53300 s3cret");
        assert!(describe(&error("42883")).ends_with("; apply the migrations"));
        assert!(describe(&error("26000")).ends_with("; the pooler must keep prepared statements"));
    }
}
