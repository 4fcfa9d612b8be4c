//! Orders in Postgres: each call takes a connection from the host's pool, runs one statement on it and
//! gives it back. Never a transaction: the pool's reset does not roll back.

use std::time::Instant;

use spin_sdk::pg::{Connection, DbValue, Decode, Error, ParameterValue, PgError, QueryError, Row};

use super::deadline::Budget;
use crate::customer::Customer;
use crate::error::OrdersUnavailable;
use crate::http::Probe;
use crate::idempotency::Fingerprint;
use crate::order::{Draft, OrderId};
use crate::ports::{Insertion, NewOrder, Orders, StoredOrder};
use crate::settings::Settings;

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

const FIND: &str = "\
    SELECT false, order_id, fingerprint, currency, items::text, note, total \
    FROM orders WHERE order_id = $1 AND customer_id = $2";

/// Touches the table, so that a database without our schema is not called ready.
const PROBE: &str = "SELECT 1 FROM orders LIMIT 1";

/// Postgres, as one request may use it.
pub struct PostgresOrders<'s> {
    settings: &'s Settings,
    budget: Budget,
}

impl<'s> PostgresOrders<'s> {
    /// Starts the request's time for Postgres.
    pub fn for_request(settings: &'s Settings) -> Self {
        Self {
            settings,
            budget: Budget::starting_now(settings.database_timeout),
        }
    }

    /// Asks for a sign of life.
    pub async fn probe(&self) -> Probe {
        let start = Instant::now();
        let up = self.query(PROBE, vec![]).await.is_ok();
        Probe {
            up,
            latency_ms: start.elapsed().as_secs_f64() * 1000.0,
        }
    }

    /// The rows, once the statement is over: only then has its transaction committed.
    async fn query(
        &self,
        statement: &str,
        parameters: Vec<ParameterValue>,
    ) -> Result<Vec<Row>, OrdersUnavailable> {
        let work = async {
            let connection = Connection::open(&self.settings.database_url).await?;
            connection
                .query(statement, parameters)
                .await?
                .collect()
                .await
        };
        match self.budget.spend(work).await {
            Some(Ok(rows)) => Ok(rows),
            Some(Err(error)) => {
                eprintln!("orders: postgres: {}", describe(&error));
                Err(OrdersUnavailable)
            }
            None => {
                eprintln!("orders: postgres: no answer in time");
                Err(OrdersUnavailable)
            }
        }
    }
}

impl Orders for PostgresOrders<'_> {
    async fn insert_unless_exists(&self, order: &NewOrder) -> Result<Insertion, OrdersUnavailable> {
        let NewOrder {
            slot,
            order_id,
            fingerprint,
            draft,
        } = order;
        let parameters = vec![
            ParameterValue::Uuid(order_id.to_string()),
            ParameterValue::Str(slot.customer.as_str().to_owned()),
            ParameterValue::Str(slot.key.as_str().to_owned()),
            ParameterValue::Binary(fingerprint.as_bytes().to_vec()),
            ParameterValue::Str(draft.currency().to_owned()),
            ParameterValue::Str(draft.items_json()),
            draft.note().map_or(ParameterValue::DbNull, |note| {
                ParameterValue::Str(note.to_owned())
            }),
            ParameterValue::Int64(draft.total()),
            ParameterValue::Int64(order_id.created_at_millis()),
        ];
        let rows = self.query(INSERT, parameters).await?;
        match rows.first() {
            None => Ok(Insertion::Conflict),
            Some(row) if matches!(row[0], DbValue::Boolean(true)) => Ok(Insertion::Inserted),
            Some(row) => stored(row).map(Insertion::Existing),
        }
    }

    async fn find(
        &self,
        customer: &Customer,
        order_id: OrderId,
    ) -> Result<Option<StoredOrder>, OrdersUnavailable> {
        let parameters = vec![
            ParameterValue::Uuid(order_id.to_string()),
            ParameterValue::Str(customer.as_str().to_owned()),
        ];
        let rows = self.query(FIND, parameters).await?;
        rows.first().map(stored).transpose()
    }
}

/// A row as both statements select it.
fn stored(row: &Row) -> Result<StoredOrder, OrdersUnavailable> {
    let read = || -> Result<Option<StoredOrder>, Error> {
        let DbValue::Uuid(order_id) = &row[1] else {
            return Ok(None);
        };
        let fingerprint = Vec::<u8>::decode(&row[2])?;
        let items = String::decode(&row[4])?;
        let draft = Draft::from_stored(
            String::decode(&row[3])?,
            items.as_bytes(),
            Option::<String>::decode(&row[5])?,
            i64::decode(&row[6])?,
        );
        Ok(OrderId::parse(order_id)
            .zip(Fingerprint::from_bytes(&fingerprint))
            .zip(draft)
            .map(|((order_id, fingerprint), draft)| StoredOrder {
                order_id,
                fingerprint,
                draft,
            }))
    };
    match read() {
        Ok(Some(order)) => Ok(order),
        Ok(None) | Err(_) => {
            eprintln!("orders: postgres: a stored order is not readable");
            Err(OrdersUnavailable)
        }
    }
}

/// For the log: what the server said, without the rows' content that it puts into `detail`.
fn describe(error: &Error) -> String {
    match error {
        Error::PgError(PgError::QueryFailed(QueryError::DbError(e))) if e.code == "42P01" => {
            format!("{}; apply the migrations", e.message)
        }
        Error::PgError(PgError::QueryFailed(QueryError::DbError(e))) => {
            format!("{} {}", e.code, e.message)
        }
        Error::PgError(PgError::QueryFailed(QueryError::Text(text))) => text.clone(),
        Error::PgError(PgError::ConnectionFailed(text)) => {
            format!("connection failed: {}", text.replace('\n', " "))
        }
        Error::PgError(PgError::BadParameter(_)) => "bad parameter".to_owned(),
        Error::PgError(PgError::ValueConversionFailed(_)) | Error::Decode(_) => {
            "unexpected value".to_owned()
        }
        Error::PgError(PgError::Other(text)) => text.clone(),
    }
}
