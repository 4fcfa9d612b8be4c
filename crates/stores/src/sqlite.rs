//! Resources as SQL for SQLite, the embedded store. SQLite has one writer at a time: what a statement has not inserted, it
//! has not inserted because of rows that are committed, and the next statement reads them. Rows never change, so it does
//! not matter that it is another statement.
//!
//! There is no history: no record exists that a row could be missing from.

use protocol::condition::Expected;
use protocol::json::to_json;
use protocol::ports::{Attempt, ConditionalInsertion, NewResource, StoredResource};
use protocol::{Collection, Customer, History, InHistory, KeyScope, ListState, ResourceId};

use crate::postgres::{
    Parameter, Row, Statement, Unreadable, attempts_by_id, conditional, json_rows_with, stored,
};

/// A connection's first statement: how long a statement waits for another connection's, in milliseconds. The host's own
/// limit could be longer than the request waits.
const BUSY_TIMEOUT: &str = "PRAGMA busy_timeout = ";

/// Readers and the writer do not wait for each other, and a commit is one `fsync`. The file keeps it. Returns the mode.
const JOURNAL: &str = "PRAGMA journal_mode = WAL";

/// A commit returns when the disk has it, so that it survives a power cut. The host may have been built with another
/// default.
const SYNCHRONOUS: &str = "PRAGMA synchronous = FULL";

/// The table.
const CREATE_TABLE: &str = include_str!("../../../migrations/sqlite/create_table.sql");

/// SQL for the [`ListState`] of the customer that the placeholder stands for: the id of the newest resource, whose 74
/// random bits make it unguessable for other customers. It is enough because SQLite commits in the order of `seq`: no
/// resource appears below the newest one.
macro_rules! list_state {
    ($customer:literal) => {
        concat!(
            "coalesce((SELECT unhex(replace({id}, '-', '')) FROM {table} WHERE customer_id = ",
            $customer,
            " ORDER BY seq DESC LIMIT 1), zeroblob(16))"
        )
    };
}

/// Returns a row if, and only if, it has inserted one.
const INSERT: &str = "\
    INSERT INTO {table} ({id}, customer_id, idempotency_key, fingerprint, document, created_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING RETURNING true AS inserted";

/// Returns a row for each one that it has inserted.
const INSERT_ALL: &str = "\
    INSERT INTO {table} ({id}, customer_id, idempotency_key, fingerprint, document, created_at) \
    SELECT value ->> 'id', value ->> 'customer_id', value ->> 'idempotency_key', \
           unhex(value ->> 'fingerprint'), value ->> 'document', \
           strftime('%Y-%m-%dT%H:%M:%fZ', (value ->> 'created_at') / 1000.0, 'unixepoch') \
    FROM json_each(?1) WHERE true ON CONFLICT DO NOTHING RETURNING {id} AS id";

/// Returns a row if, and only if, it has inserted one: the list was in an expected state, and nothing conflicted.
const INSERT_BASED_ON: &str = concat!(
    "INSERT INTO {table} ({id}, customer_id, idempotency_key, fingerprint, document, created_at, based_on) \
     SELECT ?1, ?2, ?3, ?4, ?5, ?6, CASE WHEN ?7 <> '*' THEN state END FROM (SELECT ",
    list_state!("?2"),
    " AS state) WHERE ?7 = '*' OR instr(?7, lower(hex(state))) > 0 \
     ON CONFLICT DO NOTHING RETURNING true AS inserted"
);

/// One row, for what the statement before it has not inserted: the list's state, and the scope's resource if there is one.
const FIND_WITH_STATE: &str = concat!(
    "SELECT state AS before, {id} AS id, fingerprint, document FROM (SELECT ",
    list_state!("?1"),
    " AS state) LEFT JOIN {table} ON customer_id = ?1 AND idempotency_key = ?2"
);

/// One row if there is the resource.
const FIND: &str = "SELECT {id} AS id, fingerprint, document FROM {table} \
    WHERE {id} = ?1 AND customer_id = ?2";

/// The same.
const FIND_BY_KEY: &str = "SELECT {id} AS id, fingerprint, document FROM {table} \
    WHERE customer_id = ?1 AND idempotency_key = ?2";

/// The rows that [`page`](crate::postgres::page) reads.
const PAGE: &str = concat!(
    "WITH start AS MATERIALIZED ( \
        SELECT CASE WHEN ?2 IS NULL THEN 9223372036854775807 \
               ELSE (SELECT seq FROM {table} WHERE {id} = ?2 AND customer_id = ?1) END AS seq \
    ), page AS ( \
        SELECT {id} AS id, fingerprint, document, seq FROM {table} \
        WHERE customer_id = ?1 AND seq < (SELECT seq FROM start) ORDER BY seq DESC LIMIT ?3 \
    ) \
    SELECT id, fingerprint, document, start.seq IS NOT NULL AS cursor_known, ",
    list_state!("?1"),
    " AS state FROM start LEFT JOIN page ORDER BY page.seq DESC"
);

/// Inserts nothing, but as a writer: a file that cannot be written or has another schema is not called ready.
const PROBE: &str = "\
    INSERT INTO {table} (seq, {id}, customer_id, idempotency_key, fingerprint, document, created_at, based_on) \
    SELECT seq, {id}, customer_id, idempotency_key, fingerprint, document, created_at, based_on \
    FROM {table} WHERE false";

/// The statements of one collection's table.
pub struct Statements {
    create_table: String,
    insert: String,
    insert_all: String,
    insert_based_on: String,
    find_with_state: String,
    find: String,
    find_by_key: String,
    page: String,
    probe: String,
}

impl Statements {
    /// The statements of a collection. Built once and kept: this formats every text.
    pub fn of(collection: &Collection) -> Self {
        let id = format!("{}_id", collection.one);
        let sql = |template: &str| {
            template
                .replace("{table}", collection.name)
                .replace("{id}", &id)
        };
        Self {
            create_table: sql(CREATE_TABLE),
            insert: sql(INSERT),
            insert_all: sql(INSERT_ALL),
            insert_based_on: sql(INSERT_BASED_ON),
            find_with_state: sql(FIND_WITH_STATE),
            find: sql(FIND),
            find_by_key: sql(FIND_BY_KEY),
            page: sql(PAGE),
            probe: sql(PROBE),
        }
    }

    /// What a new connection begins with. All of it may be repeated, and by several connections at once.
    pub fn setup(&self, busy_timeout_ms: u128) -> [Setup<'_>; 4] {
        [
            Setup::Run(format!("{BUSY_TIMEOUT}{busy_timeout_ms}").into()),
            Setup::UseLog(JOURNAL),
            Setup::Run(SYNCHRONOUS.into()),
            Setup::Run(self.create_table.as_str().into()),
        ]
    }

    /// Inserts the resource if it conflicts with nothing: then, and only then, the result has a row.
    pub fn insert(&self, new: &NewResource) -> Statement<'_> {
        Statement {
            sql: &self.insert,
            parameters: row_parameters(new),
        }
    }

    /// Inserts those resources that conflict with nothing, in the given order; read the rows with [`attempts`].
    pub fn insert_all(&self, batch: &[&NewResource]) -> Statement<'_> {
        // As a string: SQLite does not keep the text of a JSON value as it is.
        let rows = json_rows_with(batch, |document| to_json(&document.as_str()));
        Statement {
            sql: &self.insert_all,
            parameters: vec![Parameter::Text(rows)],
        }
    }

    /// Inserts the resource if the list is in an expected state and nothing conflicts: then, and only then, the result has
    /// a row, and the list is in the state that [`state_with`] computes. Otherwise [`Self::find_with_state`] says why.
    pub fn insert_based_on(&self, new: &NewResource, expected: &Expected) -> Statement<'_> {
        let mut parameters = row_parameters(new);
        parameters.push(Parameter::Text(conditional::states(expected)));
        Statement {
            sql: &self.insert_based_on,
            parameters,
        }
    }

    /// Looks for what is in the way of a conditional insertion; read the row with [`refusal`].
    pub fn find_with_state(&self, scope: &KeyScope) -> Statement<'_> {
        Statement {
            sql: &self.find_with_state,
            parameters: scope_parameters(scope),
        }
    }

    /// Looks for a customer's resource; read the row with [`found`].
    pub fn find(&self, customer: &Customer, id: ResourceId) -> Statement<'_> {
        Statement {
            sql: &self.find,
            parameters: vec![
                Parameter::Text(id.to_string()),
                Parameter::Text(customer.as_str().to_owned()),
            ],
        }
    }

    /// Looks for the resource of a scope; read the row with [`found`].
    pub fn find_by_key(&self, scope: &KeyScope) -> Statement<'_> {
        Statement {
            sql: &self.find_by_key,
            parameters: scope_parameters(scope),
        }
    }

    /// Reads up to `limit` of a customer's resources that are older than `after`, and one more, which says that there are
    /// more; read the rows with [`page`](crate::postgres::page).
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

    /// Fails unless the file accepts these statements. Changes nothing.
    pub fn probe(&self) -> Statement<'_> {
        Statement {
            sql: &self.probe,
            parameters: Vec::new(),
        }
    }
}

/// A statement of a connection's setup.
pub enum Setup<'s> {
    /// Only has to succeed.
    Run(std::borrow::Cow<'s, str>),
    /// Returns one row with one column, which must be [`LOG_MODE`]. A database in memory has another mode: it would be
    /// each connection's own, and decide nothing.
    UseLog(&'s str),
}

/// What [`Setup::UseLog`] returns when the file is in this mode.
pub const LOG_MODE: &str = "wal";

fn row_parameters(new: &NewResource) -> Vec<Parameter> {
    vec![
        Parameter::Text(new.id.to_string()),
        Parameter::Text(new.scope.customer.as_str().to_owned()),
        Parameter::Text(new.scope.key.as_str().to_owned()),
        Parameter::Bytes(new.fingerprint.as_bytes().to_vec()),
        Parameter::Text(new.document.as_str().to_owned()),
        Parameter::Text(new.id.created_at()),
    ]
}

fn scope_parameters(scope: &KeyScope) -> Vec<Parameter> {
    vec![
        Parameter::Text(scope.customer.as_str().to_owned()),
        Parameter::Text(scope.key.as_str().to_owned()),
    ]
}

/// A value in the one history that there is.
pub fn in_history<T>(value: T) -> InHistory<T> {
    InHistory {
        history: History::ONLY,
        value,
    }
}

/// What became of each resource of a batch, by the rows of [`Statements::insert_all`].
pub fn attempts(batch: &[&NewResource], rows: &[impl Row]) -> Vec<Attempt> {
    let inserted: Vec<String> = rows.iter().filter_map(|row| row.text("id")).collect();
    attempts_by_id(batch, |id| inserted.iter().any(|inserted| inserted == id))
}

/// The state of the list with a resource that was just inserted.
///
/// # Errors
/// Never: an id has as many bytes as a state.
pub fn state_with(new: &NewResource) -> Result<ListState, Unreadable> {
    ListState::from_bytes(new.id.as_bytes()).ok_or(Unreadable)
}

/// Why a conditional insertion has inserted nothing, by the row of [`Statements::find_with_state`].
///
/// # Errors
/// [`Unreadable`] when the row is not as the statement returns it.
pub fn refusal(
    row: Option<&impl Row>,
    expected: &Expected,
) -> Result<ConditionalInsertion, Unreadable> {
    conditional::decided(row.ok_or(Unreadable)?, expected)
}

/// The resource in the row of a statement that returns one if it has found it.
///
/// # Errors
/// [`Unreadable`] when another program has written it.
pub fn found(row: Option<&impl Row>) -> Result<Option<StoredResource>, Unreadable> {
    row.map(stored).transpose()
}
