//! The statements for Postgres. Every call is one statement, and so one implicit transaction.

mod feed;

use exactly_once::Collection;

use crate::database::Failure;
use crate::platform::StatementError;
use crate::sql::{Statements, Templates};

// The functions are the migration's. A statement about one customer is a call of one function that names the customer:
// a distributed table's server does all of it.

/// Inserts unless the scope has a resource, and otherwise returns that one.
const INSERT: &str = "SELECT * FROM insert_or_find_{table}_1(\
    $2::text, $3::text, $1::text::uuid, $4::bytea, $5::text::json, $6::bigint, $7::text)";

/// Inserts the row if it conflicts with nothing, and returns [`ROWS_OF_ONE`] then.
const INSERT_NEW: &str = "SELECT 1 AS one FROM insert_{table}_2($1::text::json, $2::text)";

/// How many rows say that one row was inserted: its id, and the end that the function adds. Hosts count rows faster
/// than they read one, but a pooler that mixes up prepared statements executes another text, and each returns one row.
pub const ROWS_OF_ONE: usize = 2;

/// The same, and says which rows were inserted.
const INSERT_ALL: &str =
    "SELECT string_agg(id::text, ',') AS ids FROM insert_{table}_2($1::text::json) AS id WHERE id IS NOT NULL";

/// Reads no table of resources and waits for no lock.
pub(crate) const HISTORY: &str = "SELECT database_history() AS history";

/// Draws the history and the feed's numbering where the server has begun a new incarnation. Returns a row.
const DRAW_EPOCHS: &str = "SELECT draw_missing_epochs()::text AS drawn";

/// Inserts nothing, in the way that resources are inserted: a database that lacks the schema, has another one, or only
/// reads is not called ready.
const PROBE: &str = "\
    SELECT database_history() AS history, fault_of_resource('{table}', '{id}') AS fault, \
           (SELECT count(*) FROM insert_{table}_2('[]')) AS none";

/// One row: the database's history, and the resource if there is one.
const FIND: &str = "SELECT * FROM find_{table}_1($2::text, $1::text::uuid, NULL)";

/// The same. The response acknowledges the resource, which a read of [`FIND`] does not.
const FIND_BY_KEY: &str = "SELECT * FROM find_{table}_1($1::text, NULL, $2::text)";

/// One row per resource, and one without a resource where there is none.
const PAGE: &str = "SELECT * FROM page_{table}_1($1::text, $2::text::uuid, $3::bigint, $4::text::uuid)";

/// Inserts if the list's state is an expected one, and always returns one row.
const INSERT_BASED_ON: &str = "SELECT * FROM insert_{table}_based_on_1(\
    $2::text, $3::text, $1::text::uuid, $4::bytea, $5::text::json, $6::bigint, $8::text, $7::text)";

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

/// What a failure means, by the SQLSTATE. 25006 is read_only_sql_transaction, and MD421 the schema's own. Transient are
/// serialization_failure, deadlock_detected, lock_not_available, and query_canceled, which is the statement timeout
/// where an operator has set one.
pub(crate) fn failure(error: &StatementError) -> Failure {
    match error.sqlstate.as_deref() {
        Some("40001" | "40P01" | "55P03" | "57014") => Failure::Transient,
        Some("25006") => Failure::TakesNoWrites,
        Some("MD421") => Failure::Elsewhere,
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
            (&["MD421"], Failure::Elsewhere),
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
