//! Orders as SQL: every call is one statement, and so one implicit transaction. Creation here, reading in
//! [`reading`], creation on a condition in [`conditional`].

pub mod conditional;
pub mod reading;

use serde::Serialize;

use crate::idempotency::Fingerprint;
use crate::json::to_json;
use crate::order::{Draft, Item, OrderId};
use crate::ports::{Attempt, Insertion, NewOrder, StoredOrder};

/// A statement and its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// The SQL.
    pub sql: &'static str,
    /// `$1`, `$2`, …
    pub parameters: Vec<Parameter>,
}

/// A parameter, by the type that Postgres expects for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// `uuid`, in its hyphenated form.
    Uuid(String),
    /// `text`
    Text(String),
    /// `text`, maybe NULL.
    NullableText(Option<String>),
    /// `bytea`
    Bytes(Vec<u8>),
    /// `bigint`
    Int64(i64),
    /// `text[]`, with NULLs.
    Texts(Vec<Option<String>>),
}

/// A row as [`insert`] and [`reading::find`] return it, column by column.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderRow {
    /// Whether this statement inserted it; then only the id is filled in.
    pub inserted: bool,
    /// `uuid`, in its hyphenated form.
    pub order_id: String,
    /// `bytea`
    pub fingerprint: Option<Vec<u8>>,
    /// `text`
    pub currency: Option<String>,
    /// `text`, JSON.
    pub items: Option<String>,
    /// `text`
    pub note: Option<String>,
    /// `bigint`
    pub total: Option<i64>,
}

/// A stored order that cannot be read back; somebody else has written to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Inserts unless the slot has an order, and otherwise returns that one. Both halves see the statement's
/// snapshot, so an order that is committed while we wait for its lock gives no row at all: the caller asks
/// again. `ON CONFLICT` names no constraint because a helper repeats an id as well as a key.
const INSERT: &str = "\
    WITH inserted AS ( \
        INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, \
                            currency, items, note, total, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8, to_timestamp($9::bigint / 1000.0)) \
        ON CONFLICT DO NOTHING \
        RETURNING order_id \
    ) \
    SELECT true, order_id, NULL::bytea, NULL::text, NULL::text, NULL::text, NULL::bigint \
    FROM inserted \
    UNION ALL \
    SELECT false, order_id, fingerprint, currency, items::text, note, total \
    FROM orders WHERE customer_id = $2 AND idempotency_key = $3";

/// Inserts those that nothing is in the way of (migration 0003), and says how many that were.
const INSERT_NEW: &str = "SELECT FROM insert_orders($1::text::json)";

/// The same, and says which.
const INSERT_AND_LIST: &str =
    "SELECT array_agg(order_id::text) FROM insert_orders($1::text::json) AS order_id";

/// Inserts nothing, the way that orders are inserted: a database that lacks our schema, or that only reads,
/// is not called ready.
const PROBE: &str = "SELECT FROM insert_orders('[]')";

/// Inserts the order unless its slot has one; read the outcome with [`insertion`].
pub fn insert(order: &NewOrder) -> Statement {
    let NewOrder {
        slot,
        order_id,
        fingerprint,
        draft,
    } = order;
    Statement {
        sql: INSERT,
        parameters: vec![
            Parameter::Uuid(order_id.to_string()),
            Parameter::Text(slot.customer.as_str().to_owned()),
            Parameter::Text(slot.key.as_str().to_owned()),
            Parameter::Bytes(fingerprint.as_bytes().to_vec()),
            Parameter::Text(draft.currency().to_owned()),
            Parameter::Text(draft.items_json()),
            Parameter::NullableText(draft.note().map(ToOwned::to_owned)),
            Parameter::Int64(draft.total()),
            Parameter::Int64(order_id.created_at_millis()),
        ],
    }
}

/// Inserts the order if nothing is in the way; the number of rows returned tells.
pub fn insert_new(order: &NewOrder) -> Statement {
    Statement {
        sql: INSERT_NEW,
        parameters: vec![Parameter::Text(new_rows(&[order]))],
    }
}

/// Inserts those orders that nothing is in the way of, in the order given; read the one row it returns, the
/// ids of those inserted, with [`attempts`].
pub fn insert_all(orders: &[&NewOrder]) -> Statement {
    Statement {
        sql: INSERT_AND_LIST,
        parameters: vec![Parameter::Text(new_rows(orders))],
    }
}

/// What `insert_orders` takes.
fn new_rows(orders: &[&NewOrder]) -> String {
    let rows: Vec<_> = orders.iter().map(|order| NewRow::of(order)).collect();
    to_json(&rows)
}

/// By the names that migration 0003 reads.
#[derive(Serialize)]
struct NewRow<'a> {
    order_id: String,
    customer_id: &'a str,
    idempotency_key: &'a str,
    fingerprint: String,
    currency: &'a str,
    items: &'a [Item],
    note: Option<&'a str>,
    total: i64,
    created_at: i64,
}

impl<'a> NewRow<'a> {
    fn of(order: &'a NewOrder) -> Self {
        Self {
            order_id: order.order_id.to_string(),
            customer_id: order.slot.customer.as_str(),
            idempotency_key: order.slot.key.as_str(),
            fingerprint: order.fingerprint.to_string(),
            currency: order.draft.currency(),
            items: order.draft.items(),
            note: order.draft.note(),
            total: order.draft.total(),
            created_at: order.order_id.created_at_millis(),
        }
    }
}

/// What became of each order, by the ids that were inserted.
pub fn attempts(orders: &[&NewOrder], inserted: &[String]) -> Vec<Attempt> {
    let attempt = |order: &&NewOrder| {
        let id = order.order_id.to_string();
        if inserted.contains(&id) {
            Attempt::Inserted
        } else {
            Attempt::Undecided
        }
    };
    orders.iter().map(attempt).collect()
}

/// How an insertion ended, by the first row it returned.
///
/// # Errors
/// [`Unreadable`] when the order that is there cannot be read.
pub fn insertion(first: Option<OrderRow>) -> Result<Insertion, Unreadable> {
    match first {
        None => Ok(Insertion::Conflict),
        Some(row) if row.inserted => Ok(Insertion::Inserted),
        Some(row) => stored(row).map(Insertion::Existing),
    }
}

/// A sign of life.
pub fn probe() -> Statement {
    Statement {
        sql: PROBE,
        parameters: Vec::new(),
    }
}

/// The order that a row is.
///
/// # Errors
/// [`Unreadable`] when it is not as [`insert`] wrote it.
pub fn stored(row: OrderRow) -> Result<StoredOrder, Unreadable> {
    let read = || {
        Some(StoredOrder {
            order_id: OrderId::parse(&row.order_id)?,
            fingerprint: Fingerprint::from_bytes(&row.fingerprint?)?,
            draft: Draft::from_stored(row.currency?, row.items?.as_bytes(), row.note, row.total?)?,
        })
    };
    read().ok_or(Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create_order::conditional::Expected;
    use crate::customer::Customer;
    use crate::idempotency::{IdempotencyKey, Slot};

    fn new_order() -> NewOrder {
        let slot = Slot {
            customer: Customer::anonymous(),
            key: IdempotencyKey::parse(b"k").expect("a key"),
        };
        let items = br#"[{"quantity":2,"sku":"A","unitPrice":5}]"#;
        let draft = Draft::from_stored("EUR".into(), items, Some("a note".into()), 10);
        NewOrder {
            order_id: OrderId::parse("01970000-0000-7000-8000-000000000001").expect("an id"),
            fingerprint: Fingerprint::of(&slot, "POST", "/", ""),
            draft: draft.expect("readable"),
            slot,
        }
    }

    /// The row that inserting the order leaves, as it is selected.
    fn row(order: &NewOrder) -> OrderRow {
        OrderRow {
            inserted: false,
            order_id: order.order_id.to_string(),
            fingerprint: Some(order.fingerprint.as_bytes().to_vec()),
            currency: Some(order.draft.currency().to_owned()),
            items: Some(order.draft.items_json()),
            note: order.draft.note().map(ToOwned::to_owned),
            total: Some(order.draft.total()),
        }
    }

    #[test]
    fn an_order_is_read_back_as_it_was_inserted() {
        let order = new_order();
        let expected = StoredOrder {
            order_id: order.order_id,
            fingerprint: order.fingerprint,
            draft: order.draft.clone(),
        };
        assert_eq!(stored(row(&order)), Ok(expected.clone()));
        assert_eq!(
            insertion(Some(row(&order))),
            Ok(Insertion::Existing(expected))
        );
        let inserted = OrderRow {
            inserted: true,
            ..row(&order)
        };
        assert_eq!(insertion(Some(inserted)), Ok(Insertion::Inserted));
        assert_eq!(insertion(None), Ok(Insertion::Conflict));
    }

    #[test]
    fn a_row_of_other_hands_is_unreadable() {
        let order = new_order();
        for damage in [
            (|row| row.order_id.clear()) as fn(&mut OrderRow),
            |row| row.fingerprint = Some(vec![1]),
            |row| row.fingerprint = None,
            |row| row.currency = None,
            |row| row.items = Some("[{}]".into()),
            |row| row.total = None,
        ] {
            let mut damaged = row(&order);
            damage(&mut damaged);
            assert_eq!(stored(damaged), Err(Unreadable));
        }
    }

    #[test]
    fn every_placeholder_has_its_parameter() {
        let order = new_order();
        let statements = [
            insert(&order),
            insert_new(&order),
            insert_all(&[&order]),
            reading::find(&order.slot.customer, order.order_id),
            reading::find_by_key(&order.slot),
            reading::page(&order.slot.customer, None, 1),
            conditional::insert(&order, &Expected::Any),
            probe(),
        ];
        for Statement { sql, parameters } in statements {
            let highest = (1..=20).rev().find(|n| sql.contains(&format!("${n}")));
            assert_eq!(highest.unwrap_or(0), parameters.len(), "{sql}");
        }
    }
}
