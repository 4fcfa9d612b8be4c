//! Orders in Postgres: each call takes a connection from the host's pool, runs one statement on it and
//! gives it back. Never a transaction: the pool's reset does not roll back.

use std::time::Instant;

use spin_sdk::pg::{Connection, DbValue, Error, ParameterValue, PgError, QueryError, Row};

use super::deadline::Budget;
use crate::customer::Customer;
use crate::error::OrdersUnavailable;
use crate::http::Probe;
use crate::idempotency::Slot;
use crate::order::OrderId;
use crate::ports::{Insertion, NewOrder, OrderLists, Orders, StoredOrder};
use crate::reading::Page;
use crate::settings::Settings;
use crate::stores::postgres::reading::{PageRow, find, find_by_key, page, paged};
use crate::stores::postgres::{
    OrderRow, Parameter, Statement, Unreadable, insert, insertion, probe, stored,
};

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
        let up = self.rows(probe()).await.is_ok();
        Probe {
            up,
            latency_ms: start.elapsed().as_secs_f64() * 1000.0,
        }
    }

    /// The rows, once the statement is over: only then has its transaction committed.
    async fn rows(&self, statement: Statement) -> Result<Vec<Row>, OrdersUnavailable> {
        let parameters: Vec<_> = statement.parameters.into_iter().map(value).collect();
        let work = async {
            let connection = Connection::open(&self.settings.database_url).await?;
            let rows = connection.query(statement.sql, parameters).await?;
            rows.collect().await
        };
        let failure = match self.budget.spend(work).await {
            Some(Ok(rows)) => return Ok(rows),
            Some(Err(error)) => describe(&error),
            None => "no answer in time".to_owned(),
        };
        eprintln!("orders: postgres: {failure}");
        Err(OrdersUnavailable)
    }

    async fn first_order(
        &self,
        statement: Statement,
    ) -> Result<Option<OrderRow>, OrdersUnavailable> {
        Ok(self.rows(statement).await?.first().map(order_row))
    }

    async fn stored_order(
        &self,
        statement: Statement,
    ) -> Result<Option<StoredOrder>, OrdersUnavailable> {
        let row = self.first_order(statement).await?;
        row.map(stored).transpose().map_err(unreadable)
    }
}

impl Orders for PostgresOrders<'_> {
    async fn insert_unless_exists(&self, order: &NewOrder) -> Result<Insertion, OrdersUnavailable> {
        insertion(self.first_order(insert(order)).await?).map_err(unreadable)
    }

    async fn find(
        &self,
        customer: &Customer,
        order_id: OrderId,
    ) -> Result<Option<StoredOrder>, OrdersUnavailable> {
        self.stored_order(find(customer, order_id)).await
    }
}

impl OrderLists for PostgresOrders<'_> {
    async fn page(
        &self,
        customer: &Customer,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Option<Page>, OrdersUnavailable> {
        let rows = self.rows(page(customer, after, limit)).await?;
        paged(rows.iter().map(page_row).collect(), limit).map_err(unreadable)
    }

    async fn find_by_key(&self, slot: &Slot) -> Result<Option<StoredOrder>, OrdersUnavailable> {
        self.stored_order(find_by_key(slot)).await
    }
}

fn value(parameter: Parameter) -> ParameterValue {
    match parameter {
        Parameter::Uuid(text) => ParameterValue::Uuid(text),
        Parameter::Text(text) | Parameter::NullableText(Some(text)) => ParameterValue::Str(text),
        Parameter::NullableText(None) => ParameterValue::DbNull,
        Parameter::Bytes(bytes) => ParameterValue::Binary(bytes),
        Parameter::Int64(number) => ParameterValue::Int64(number),
    }
}

/// The statements select these seven columns in this order.
fn order_row(row: &Row) -> OrderRow {
    let text = |value: &DbValue| match value {
        DbValue::Str(text) | DbValue::Uuid(text) => Some(text.clone()),
        _ => None,
    };
    OrderRow {
        inserted: matches!(row[0], DbValue::Boolean(true)),
        order_id: text(&row[1]).unwrap_or_default(),
        fingerprint: binary(&row[2]),
        currency: text(&row[3]),
        items: text(&row[4]),
        note: text(&row[5]),
        total: match row[6] {
            DbValue::Int64(number) => Some(number),
            _ => None,
        },
    }
}

/// Two more columns.
fn page_row(row: &Row) -> PageRow {
    PageRow {
        order: order_row(row),
        cursor_known: matches!(row[7], DbValue::Boolean(true)),
        state: binary(&row[8]),
    }
}

fn binary(value: &DbValue) -> Option<Vec<u8>> {
    match value {
        DbValue::Binary(bytes) => Some(bytes.clone()),
        _ => None,
    }
}

fn unreadable(Unreadable: Unreadable) -> OrdersUnavailable {
    eprintln!("orders: postgres: a stored order is not readable");
    OrdersUnavailable
}

/// For the log, undefined tables and columns with a hint: what the server said, without the rows' content that it puts into `detail`.
fn describe(error: &Error) -> String {
    match error {
        Error::PgError(PgError::QueryFailed(QueryError::DbError(e)))
            if ["42P01", "42703"].contains(&e.code.as_str()) =>
        {
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
