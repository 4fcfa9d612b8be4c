//! Conditional insertion in one statement: what it compares, inserts and returns is of one snapshot.

use std::time::Duration;

use exactly_once::condition::Expected;
use exactly_once::ports::{ConditionalInsertion, NewResource};
use exactly_once::{InHistory, ListState};

use super::reading::list_state;
use super::{
    Parameter, Row, Statement, Statements, Unreadable, in_history, milliseconds, row_parameters,
    stored,
};

/// Inserts if the list's state is an expected one, and always returns one row: the resource inserted, or the scope's, or
/// none; the state before; the state after an insertion; and the database's history. `ON CONFLICT` waits for a
/// concurrent statement that is based on the same state, but does not see its row: then the state is still an expected
/// one, and the caller asks again.
/// Resources without a condition neither wait for this statement nor make it wait.
pub(super) const INSERT_BASED_ON: &str = concat!(
    "WITH seen AS MATERIALIZED ( \
        SELECT database_history() AS history, set_config('lock_timeout', $8::text, true) AS lock_timeout, ",
    list_state!("$2::text"),
    " AS state), inserted AS ( \
        INSERT INTO {table} ({id}, customer_id, idempotency_key, fingerprint, document, created_at, based_on) \
        SELECT $1::text::uuid, $2::text, $3::text, $4::bytea, $5::text::json, \
               to_timestamp($6::bigint / 1000.0), CASE WHEN $7::text <> '*' THEN state END \
        FROM seen WHERE lock_timeout IS NOT NULL \
            AND ARRAY['*', encode(state, 'hex')] && string_to_array($7::text, ',') \
        ON CONFLICT DO NOTHING \
        RETURNING {id}, customer_id, seq \
    ) \
    SELECT history, inserted.{id} IS NOT NULL AS inserted, coalesce(inserted.{id}, found.{id})::text AS id, \
           found.fingerprint AS fingerprint, found.document::text AS document, state AS before, \
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

impl Statements {
    /// Inserts the resource if the list is in an expected state and the scope is empty; read the row with
    /// [`conditional_insertion`]. It fails when it waits for another transaction for longer than the lock timeout.
    pub fn insert_based_on(
        &self,
        new: &NewResource,
        expected: &Expected,
        lock_timeout: Duration,
    ) -> Statement<'_> {
        let states = match expected {
            Expected::Any => "*".to_owned(),
            Expected::OneOf(states) => {
                let states: Vec<String> = states.iter().map(ToString::to_string).collect();
                states.join(",")
            }
        };
        let mut parameters = row_parameters(new);
        parameters.push(Parameter::Text(states));
        parameters.push(milliseconds(lock_timeout));
        Statement {
            sql: &self.insert_based_on,
            parameters,
        }
    }
}

/// The result of [`Statements::insert_based_on`], by its row.
///
/// # Errors
/// [`Unreadable`] when the row is not as the statement returns it.
pub fn conditional_insertion(
    row: Option<&impl Row>,
    expected: &Expected,
) -> Result<InHistory<ConditionalInsertion>, Unreadable> {
    in_history(row, |row| decided(row, expected))
}

fn decided(row: &impl Row, expected: &Expected) -> Result<ConditionalInsertion, Unreadable> {
    let state = |column| {
        let bytes = row.bytes(column).ok_or(Unreadable)?;
        ListState::from_bytes(&bytes).ok_or(Unreadable)
    };
    if row.boolean("inserted") == Some(true) {
        return state("after").map(ConditionalInsertion::Inserted);
    }
    if row.text("id").is_some() {
        return stored(row).map(ConditionalInsertion::Existing);
    }
    let before = state("before")?;
    Ok(match expected.is_met_by(&before) {
        true => ConditionalInsertion::Conflict,
        false => ConditionalInsertion::Stale(before),
    })
}
