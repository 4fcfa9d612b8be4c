//! Conditional insertion in one statement: what it compares, inserts and returns is of one snapshot.

use std::time::Duration;

use exactly_once::condition::Expected;
use exactly_once::ports::{ConditionalInsertion, NewResource};
use exactly_once::{InHistory, ListState};

use super::{Parameter, Row, Statement, Statements, Unreadable, in_history, milliseconds, row_parameters, stored};

impl Statements {
    /// Inserts the resource if the list is in an expected state and the scope is empty; read the row with
    /// [`conditional_insertion`]. It fails when it waits for another transaction for longer than the lock timeout.
    pub fn insert_based_on(&self, new: &NewResource, expected: &Expected, lock_timeout: Duration) -> Statement<'_> {
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
        Statement { sql: &self.insert_based_on, parameters }
    }
}

/// The result of [`Statements::insert_based_on`], by its row.
///
/// # Errors
/// [`Unreadable`] when the row is not as the statement returns it.
pub fn conditional_insertion(
    row: Option<&Row>,
    expected: &Expected,
) -> Result<InHistory<ConditionalInsertion>, Unreadable> {
    in_history(row, |row| decided(row, expected))
}

fn decided(row: &Row, expected: &Expected) -> Result<ConditionalInsertion, Unreadable> {
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
