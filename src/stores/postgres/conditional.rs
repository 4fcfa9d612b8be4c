//! Creation on a condition, in one statement: what it compares, inserts and returns is of one snapshot.

use super::reading::list_state;
use super::{OrderRow, Parameter, Statement, Unreadable, stored};
use crate::create_order::conditional::Expected;
use crate::ports::{ConditionalInsertion, NewOrder};
use crate::reading::ListState;

/// Inserts if the list's state is an expected one, and always returns one row: the order inserted, or the
/// slot's, or none; the state; and the one after an insertion. Somebody who is following the same state is
/// waited for by `ON CONFLICT`, and not seen: then the state is an expected one still, and the caller asks
/// again. Orders without a condition neither wait for this statement nor are waited for.
const INSERT_FOLLOWING: &str = concat!(
    "WITH seen AS MATERIALIZED (SELECT ",
    list_state!("$2::text"),
    " AS state), inserted AS ( \
        INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, \
                            currency, items, note, total, created_at, follows) \
        SELECT $1::uuid, $2::text, $3::text, $4::bytea, $5::text, $6::text::jsonb, $7::text, $8::bigint, \
               to_timestamp($9::bigint / 1000.0), CASE WHEN '*' <> ALL ($10::text[]) THEN state END \
        FROM seen WHERE ARRAY['*', encode(state, 'hex')] && $10::text[] \
        ON CONFLICT DO NOTHING \
        RETURNING order_id, customer_id, seq \
    ) \
    SELECT inserted.order_id IS NOT NULL, coalesce(inserted.order_id, found.order_id), fingerprint, \
           currency, items::text, note, total, state, \
           CASE WHEN inserted.order_id IS NOT NULL THEN ",
    list_state!(
        "$2::text",
        "(SELECT order_id, customer_id, seq FROM orders \
          UNION ALL SELECT order_id, customer_id, seq FROM inserted) AS after"
    ),
    " END \
    FROM seen LEFT JOIN inserted ON true \
    LEFT JOIN orders AS found ON found.customer_id = $2::text AND found.idempotency_key = $3::text"
);

/// A row as [`insert`] returns it.
#[derive(Clone, Debug, PartialEq)]
pub struct ConditionalRow {
    /// The order; its id is empty where there is none.
    pub order: OrderRow,
    /// `bytea`, the list's state before.
    pub before: Option<Vec<u8>>,
    /// `bytea`, the list's state with the order that was inserted.
    pub after: Option<Vec<u8>>,
}

/// Inserts the order if the list is in an expected state and the slot has none; read the outcome with
/// [`insertion`].
pub fn insert(order: &NewOrder, expected: &Expected) -> Statement {
    let states = match expected {
        Expected::Any => vec![Some("*".to_owned())],
        Expected::OneOf(states) => states.iter().map(|s| Some(s.to_string())).collect(),
    };
    let mut statement = Statement {
        sql: INSERT_FOLLOWING,
        ..super::insert(order)
    };
    statement.parameters.push(Parameter::Texts(states));
    statement
}

/// How the insertion ended, by the row it returned.
///
/// # Errors
/// [`Unreadable`] when it is not as [`insert`] returns it.
pub fn insertion(
    row: Option<ConditionalRow>,
    expected: &Expected,
) -> Result<ConditionalInsertion, Unreadable> {
    let state = |bytes: Option<Vec<u8>>| bytes.as_deref().and_then(ListState::from_bytes);
    let ConditionalRow {
        order,
        before,
        after,
    } = row.ok_or(Unreadable)?;
    if order.inserted {
        let after = state(after).ok_or(Unreadable)?;
        return Ok(ConditionalInsertion::Inserted(after));
    }
    if !order.order_id.is_empty() {
        return stored(order).map(ConditionalInsertion::Existing);
    }
    let before = state(before).ok_or(Unreadable)?;
    Ok(match expected.is_met_by(&before) {
        true => ConditionalInsertion::Conflict,
        false => ConditionalInsertion::Stale(before),
    })
}
