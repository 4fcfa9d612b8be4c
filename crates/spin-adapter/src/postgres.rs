//! Resources in Postgres, each call one statement on a connection of the host's pool. New orders share
//! statements, on a connection that is kept for a moment; all else takes one and gives it back. Never a
//! transaction: the pool's reset does not roll back.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use spin_sdk::pg::{Connection, DbValue, Error, ParameterValue, PgError, QueryError, Row};
use spin_sdk::time::sleep;

use super::deadline::{Budget, Timer};
use super::kept;
use super::signals::TaskSignals;
use crate::create::conditional::Expected;
use crate::customer::Customer;
use crate::error::DatabaseUnavailable;
use crate::group_commit::{Approach, Batches, Group};
use crate::http::Probe;
use crate::idempotency::KeyScope;
use crate::order::ResourceId;
use crate::ports::{
    Attempt, ConditionalInsertion, ConditionalResources, Insertion, NewResource, ResourceLists, Resources,
    ResourcesByKey, StoredResource,
};
use crate::reading::Page;
use crate::settings::Settings;
use crate::stores::postgres::conditional::{self, ConditionalRow};
use crate::stores::postgres::reading::{PageRow, find, find_by_key, page, paged};
use crate::stores::postgres::{
    OrderRow, Parameter, Statement, Unreadable, attempts, insert, insert_all, insert_new,
    insertion, probe, stored,
};

/// How long a new order may wait for others that are with Redis still: a few trips to Redis.
const GATHERING: Duration = Duration::from_millis(2);

thread_local! {
    static NEW_ORDERS: Rc<Group<TaskSignals>> = Rc::new(Group::new(TaskSignals));
}

/// Postgres, as one request may use it.
pub struct PostgresResources<'r> {
    settings: &'r Settings,
    timer: &'r Timer,
    /// Half of the time, for the attempt that depends on others.
    shared: Budget,
    budget: Budget,
    /// Lets others wait for this request's insertion.
    approach: Cell<Option<Approach<TaskSignals>>>,
}

impl<'r> PostgresResources<'r> {
    /// With the request's time for Postgres.
    pub fn for_request(settings: &'r Settings, timer: &'r Timer) -> Self {
        Self {
            settings,
            timer,
            shared: Budget::of(settings.database_timeout / 2),
            budget: Budget::of(settings.database_timeout),
            approach: Cell::new(None),
        }
    }

    /// The same for a request that may come to insert.
    pub fn for_creation(settings: &'r Settings, timer: &'r Timer) -> Self {
        let orders = Self::for_request(settings, timer);
        orders.approach.set(Some(NEW_ORDERS.with(Group::approach)));
        orders
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
    async fn rows(&self, statement: Statement) -> Result<Vec<Row>, DatabaseUnavailable> {
        let work = async {
            let connection = Connection::open(&self.settings.database_url).await?;
            let parameters = values(statement.parameters);
            let rows = connection.query(statement.sql, parameters).await?;
            rows.collect().await
        };
        let failure = match self.timer.within(&self.budget, work).await {
            Some(Ok(rows)) => return Ok(rows),
            Some(Err(error)) => describe(&error),
            None => "no answer in time".to_owned(),
        };
        eprintln!("orders: postgres: {failure}");
        Err(DatabaseUnavailable)
    }

    async fn first_order(
        &self,
        statement: Statement,
    ) -> Result<Option<OrderRow>, DatabaseUnavailable> {
        Ok(self.rows(statement).await?.first().map(order_row))
    }

    async fn stored_order(
        &self,
        statement: Statement,
    ) -> Result<Option<StoredResource>, DatabaseUnavailable> {
        let row = self.first_order(statement).await?;
        row.map(stored).transpose().map_err(unreadable)
    }
}

impl Resources for PostgresResources<'_> {
    async fn insert_new(&self, order: &NewResource) -> Attempt {
        drop(self.approach.take());
        let group = NEW_ORDERS.with(Rc::clone);
        let insertion = group.insert(order, self);
        let attempt = self.timer.within(&self.shared, insertion).await;
        attempt.unwrap_or(Attempt::Undecided)
    }

    async fn insert_unless_exists(&self, order: &NewResource) -> Result<Insertion, DatabaseUnavailable> {
        drop(self.approach.take());
        insertion(self.first_order(insert(order)).await?).map_err(unreadable)
    }

    async fn find(
        &self,
        customer: &Customer,
        order_id: ResourceId,
    ) -> Result<Option<StoredResource>, DatabaseUnavailable> {
        self.stored_order(find(customer, order_id)).await
    }
}

impl ResourceLists for PostgresResources<'_> {
    async fn page(
        &self,
        customer: &Customer,
        after: Option<ResourceId>,
        limit: usize,
    ) -> Result<Option<Page>, DatabaseUnavailable> {
        let rows = self.rows(page(customer, after, limit)).await?;
        paged(rows.iter().map(page_row).collect(), limit).map_err(unreadable)
    }
}

impl ResourcesByKey for PostgresResources<'_> {
    async fn find_by_key(&self, scope: &KeyScope) -> Result<Option<StoredResource>, DatabaseUnavailable> {
        self.stored_order(find_by_key(scope)).await
    }
}

impl ConditionalResources for PostgresResources<'_> {
    async fn insert_based_on(
        &self,
        order: &NewResource,
        expected: &Expected,
    ) -> Result<ConditionalInsertion, DatabaseUnavailable> {
        let rows = self.rows(conditional::insert(order, expected)).await?;
        conditional::insertion(rows.first().map(conditional_row), expected).map_err(unreadable)
    }
}

impl Batches for PostgresResources<'_> {
    async fn insert_all(&self, orders: &[&NewResource]) -> Result<Vec<Attempt>, DatabaseUnavailable> {
        let work = async {
            let connection = match kept::take() {
                Some(connection) => connection,
                None => Connection::open(&self.settings.database_url).await?,
            };
            let attempts = insert_over(&connection, orders).await?;
            kept::give_back(connection);
            Ok(attempts)
        };
        work.await.map_err(|error: Error| {
            eprintln!("orders: postgres: {}", describe(&error));
            DatabaseUnavailable
        })
    }

    async fn patience(&self) {
        sleep(GATHERING).await;
    }
}

async fn insert_over(connection: &Connection, orders: &[&NewResource]) -> Result<Vec<Attempt>, Error> {
    if let [order] = orders {
        let Statement { sql, parameters } = insert_new(order);
        // A SELECT's rows are counted as well. Were they not, the order would be asked for once more.
        let inserted = connection.execute(sql, values(parameters)).await?;
        return Ok(vec![match inserted {
            0 => Attempt::Undecided,
            _ => Attempt::Inserted,
        }]);
    }
    let Statement { sql, parameters } = insert_all(orders);
    let rows = connection.query(sql, values(parameters)).await?;
    let inserted = match rows.collect().await?.first().map(|row| &row[0]) {
        Some(DbValue::ArrayStr(ids)) => ids.iter().flatten().cloned().collect(),
        _ => Vec::new(),
    };
    Ok(attempts(orders, &inserted))
}

fn values(parameters: Vec<Parameter>) -> Vec<ParameterValue> {
    parameters.into_iter().map(value).collect()
}

fn value(parameter: Parameter) -> ParameterValue {
    match parameter {
        Parameter::Uuid(text) => ParameterValue::Uuid(text),
        Parameter::Text(text) | Parameter::NullableText(Some(text)) => ParameterValue::Str(text),
        Parameter::NullableText(None) => ParameterValue::DbNull,
        Parameter::Bytes(bytes) => ParameterValue::Binary(bytes),
        Parameter::Int64(number) => ParameterValue::Int64(number),
        Parameter::Texts(texts) => ParameterValue::ArrayStr(texts),
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

/// Two others.
fn conditional_row(row: &Row) -> ConditionalRow {
    ConditionalRow {
        order: order_row(row),
        before: binary(&row[7]),
        after: binary(&row[8]),
    }
}

fn binary(value: &DbValue) -> Option<Vec<u8>> {
    match value {
        DbValue::Binary(bytes) => Some(bytes.clone()),
        _ => None,
    }
}

fn unreadable(Unreadable: Unreadable) -> DatabaseUnavailable {
    eprintln!("orders: postgres: a stored order is not readable");
    DatabaseUnavailable
}

/// For the log: what the server said, without the rows' content that it puts into `detail`; and what to do
/// about undefined tables, columns and functions.
fn describe(error: &Error) -> String {
    match error {
        Error::PgError(PgError::QueryFailed(QueryError::DbError(e)))
            if ["42P01", "42703", "42883"].contains(&e.code.as_str()) =>
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
