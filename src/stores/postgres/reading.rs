//! Orders and lists of orders as they are read: one statement each, so that what it answers is of one
//! snapshot.

use super::{OrderRow, Parameter, Statement, Unreadable, stored};
use crate::customer::Customer;
use crate::idempotency::Slot;
use crate::order::OrderId;
use crate::reading::{ListState, Page};

/// The columns of an [`OrderRow`].
macro_rules! columns {
    () => {
        "false, order_id, fingerprint, currency, items::text, note, total"
    };
}

/// SQL for the [`ListState`] of the customer that the placeholder stands for. Places are drawn before they
/// are committed, so an order can appear below the newest one: hence the places of the newest 256, and not
/// the last alone, make the state. The id makes it unguessable; the customer makes it the customer's even
/// without orders. Costs one descent of the index `(customer_id, seq)` and at most 256 entries from there.
/// In place of the table there can be something else with its columns.
macro_rules! list_state {
    ($customer:literal) => {
        list_state!($customer, "orders")
    };
    ($customer:literal, $orders:literal) => {
        concat!(
            "(SELECT substring(sha256( \
                convert_to('orders list 1:' || octet_length(",
            $customer,
            ") || ':' || ",
            $customer,
            ", 'UTF8') \
                || coalesce((SELECT uuid_send(order_id) FROM ",
            $orders,
            " WHERE customer_id = ",
            $customer,
            " ORDER BY seq DESC LIMIT 1), ''::bytea) \
                || coalesce(string_agg(int8send(seq), ''::bytea ORDER BY seq DESC), ''::bytea) \
            ) FROM 1 FOR 16) \
            FROM (SELECT seq FROM ",
            $orders,
            " WHERE customer_id = ",
            $customer,
            " ORDER BY seq DESC LIMIT 256) AS newest)"
        )
    };
}
pub(super) use list_state;

const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM orders WHERE order_id = $1 AND customer_id = $2"
);

const FIND_BY_KEY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM orders WHERE customer_id = $1 AND idempotency_key = $2"
);

/// One row per order, and one without an order where there is none. A cursor that names none of the
/// customer's orders has no place. Comparing with one place, known before the index is entered, is what
/// makes a later page as cheap as the first.
const PAGE: &str = concat!(
    "WITH start AS MATERIALIZED ( \
        SELECT CASE WHEN $2::text IS NULL THEN 9223372036854775807 \
               ELSE (SELECT seq FROM orders WHERE order_id = $2::text::uuid AND customer_id = $1) \
               END AS seq \
    ), page AS ( \
        SELECT ",
    columns!(),
    ", seq FROM orders \
        WHERE customer_id = $1 AND seq < (SELECT seq FROM start) \
        ORDER BY seq DESC LIMIT $3 \
    ) \
    SELECT false, order_id, fingerprint, currency, items, note, total, \
           start.seq IS NOT NULL, ",
    list_state!("$1"),
    " FROM start LEFT JOIN page ON true ORDER BY page.seq DESC"
);

/// A row as [`page`] returns it.
#[derive(Clone, Debug, PartialEq)]
pub struct PageRow {
    /// The order; its id is empty where there is none.
    pub order: OrderRow,
    /// Whether the cursor has a place among the customer's orders.
    pub cursor_known: bool,
    /// `bytea`, the list's state.
    pub state: Option<Vec<u8>>,
}

/// Looks for a customer's order; read a row with [`stored`].
pub fn find(customer: &Customer, order_id: OrderId) -> Statement {
    Statement {
        sql: FIND,
        parameters: vec![
            Parameter::Uuid(order_id.to_string()),
            Parameter::Text(customer.as_str().to_owned()),
        ],
    }
}

/// Looks for the order of a slot; read a row with [`stored`].
pub fn find_by_key(slot: &Slot) -> Statement {
    Statement {
        sql: FIND_BY_KEY,
        parameters: vec![
            Parameter::Text(slot.customer.as_str().to_owned()),
            Parameter::Text(slot.key.as_str().to_owned()),
        ],
    }
}

/// Asks for up to `limit` of a customer's orders that are older than `after`, and for one more, which tells
/// that there are more; read the rows with [`paged`].
pub fn page(customer: &Customer, after: Option<OrderId>, limit: usize) -> Statement {
    Statement {
        sql: PAGE,
        parameters: vec![
            Parameter::Text(customer.as_str().to_owned()),
            Parameter::NullableText(after.map(|id| id.to_string())),
            Parameter::Int64(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)),
        ],
    }
}

/// The page that the rows are; `None` when its cursor names none of the customer's orders.
///
/// # Errors
/// [`Unreadable`] when they are not as [`page`] returns them.
pub fn paged(rows: Vec<PageRow>, limit: usize) -> Result<Option<Page>, Unreadable> {
    let Some(PageRow {
        cursor_known,
        state: Some(state),
        ..
    }) = rows.first()
    else {
        return Err(Unreadable);
    };
    if !cursor_known {
        return Ok(None);
    }
    let state = ListState::from_bytes(state).ok_or(Unreadable)?;
    let rows = rows.into_iter().map(|row| row.order);
    let mut orders = rows
        .filter(|order| !order.order_id.is_empty())
        .map(stored)
        .collect::<Result<Vec<_>, _>>()?;
    let more = orders.len() > limit;
    orders.truncate(limit);
    Ok(Some(Page {
        state,
        orders,
        more,
    }))
}
