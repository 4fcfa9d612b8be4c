//! Resources in Postgres, each call one statement on a connection of the host's pool. New resources share statements,
//! on a connection that the instance keeps for a short time; every other statement takes a connection and returns it.
//! Never a transaction: the pool's reset does not roll back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use http_api::settings::Settings;
use http_api::{Probe, Probes};
use protocol::condition::Expected;
use protocol::error::DatabaseUnavailable;
use protocol::group_commit::{Batches, Group, Ticket};
use protocol::history::HistoryMonitor;
use protocol::ports::{
    Attempt, ConditionalInsertion, ConditionalResources, Histories, Insertion, NewResource, Page,
    ResourceLists, Resources, ResourcesByKey, StoredResource,
};
use protocol::{Collection, Customer, InHistory, KeyScope, KnownHistory, ResourceId};
use spin_sdk::pg::{Connection, Error, ParameterValue, PgError, QueryError};
use spin_sdk::time::sleep;
use stores::postgres::{
    self, Parameter, Row, Statement, Statements, Unreadable, conditional_insertion, found,
    found_in_history, history, insertion,
};

use crate::connection_cache;
use crate::deadline::{Budget, Timer, now};
use crate::log::{Outage, RequestLog, once};
use crate::signals::TaskSignals;

/// The batch window: a few trips to Redis, which is where the requests are that a leader waits for.
const BATCH_WINDOW: Duration = Duration::from_millis(2);

/// How often a statement is tried that other transactions make fail.
const STATEMENT_TRIES: u32 = 8;

/// The table of a collection, as the requests of this instance share it.
pub struct Table {
    collection: &'static str,
    statements: Statements,
    group: Rc<Group<TaskSignals>>,
}

thread_local! {
    static OUTAGE: Outage = const { Outage::none("postgres") };
    static TABLES: RefCell<Vec<Rc<Table>>> = const { RefCell::new(Vec::new()) };
    /// Of the one database that the instance uses.
    static HISTORY: RefCell<HistoryMonitor> = const { RefCell::new(HistoryMonitor::new()) };
}

impl Table {
    /// The table of a collection.
    pub fn of(collection: &Collection) -> Rc<Self> {
        TABLES.with_borrow_mut(|tables| {
            if let Some(table) = tables.iter().find(|t| t.collection == collection.name) {
                return table.clone();
            }
            let table = Rc::new(Self {
                collection: collection.name,
                statements: Statements::of(collection),
                group: Rc::new(Group::new(TaskSignals)),
            });
            tables.push(table.clone());
            table
        })
    }
}

/// Postgres, as one request uses it.
pub struct PostgresResources<'r> {
    url: &'r str,
    settings: &'r Settings,
    timer: &'r Timer,
    log: &'r RequestLog,
    table: &'r Table,
    budget: Budget,
    /// Lets other requests wait for this one's insertion.
    ticket: Cell<Option<Ticket<TaskSignals>>>,
}

impl<'r> PostgresResources<'r> {
    /// With the request's time for Postgres.
    pub fn for_request(
        url: &'r str,
        settings: &'r Settings,
        timer: &'r Timer,
        log: &'r RequestLog,
        table: &'r Table,
    ) -> Self {
        Self {
            url,
            settings,
            timer,
            log,
            table,
            budget: Budget::of(settings.database_timeout),
            ticket: Cell::new(None),
        }
    }

    fn statements(&self) -> &'r Statements {
        &self.table.statements
    }

    /// The rows, once the statement has ended: only then its transaction has committed. A statement that another
    /// transaction has made fail is repeated: it is one transaction, and has changed nothing.
    async fn rows(&self, statement: Statement<'_>) -> Result<Vec<SpinRow>, DatabaseUnavailable> {
        let _wait = self.log.postgres();
        for _ in 0..STATEMENT_TRIES {
            match self.rows_once(statement.clone()).await {
                Ok(rows) => return Ok(rows),
                // Another try that waits for a lock could last for longer than the request.
                Err(Failure::Transient) if self.budget.rest() > self.settings.lock_timeout() => {}
                Err(_) => break,
            }
        }
        Err(DatabaseUnavailable)
    }

    async fn rows_once(&self, statement: Statement<'_>) -> Result<Vec<SpinRow>, Failure> {
        self.log.count_trip();
        let sent = now();
        let work = async {
            let connection = Connection::open(self.url).await?;
            rows(&connection, statement).await
        };
        let failure = match self.timer.within(&self.budget, work).await {
            Some(Ok(rows)) => {
                OUTAGE.with(Outage::succeeded);
                if let Some(history) = rows.first().and_then(history) {
                    HISTORY.with_borrow_mut(|monitor| monitor.heard(history, sent));
                }
                return Ok(rows);
            }
            Some(Err(error)) => Failure::of(&error),
            None => Failure::outage("no answer in time"),
        };
        if let Failure::Outage = failure {
            HISTORY.with_borrow_mut(|monitor| monitor.failed(sent, now()));
        }
        Err(failure)
    }
}

impl Histories for PostgresResources<'_> {
    fn known_history(&self) -> KnownHistory {
        HISTORY.with_borrow(|monitor| monitor.known(now()))
    }
}

impl Resources for PostgresResources<'_> {
    fn announce_insertion(&self) {
        self.ticket.set(Some(self.table.group.ticket()));
    }

    async fn insert_new(&self, new: &NewResource) -> Attempt {
        drop(self.ticket.take());
        let _wait = self.log.postgres();
        let insertion = self.table.group.insert(new, self);
        // The rest is for the request's own statement: this one depends on other requests.
        let half = self.settings.database_timeout / 2;
        let attempt = self.timer.within_part(&self.budget, half, insertion).await;
        attempt.unwrap_or(Attempt::Undecided)
    }

    async fn insert_unless_exists(
        &self,
        new: &NewResource,
    ) -> Result<InHistory<Insertion>, DatabaseUnavailable> {
        drop(self.ticket.take());
        let rows = self
            .rows(self.statements().insert(new, self.settings.lock_timeout()))
            .await?;
        insertion(rows.first()).map_err(unreadable)
    }
}

impl ResourceLists for PostgresResources<'_> {
    async fn find(
        &self,
        customer: &Customer,
        id: ResourceId,
    ) -> Result<Option<StoredResource>, DatabaseUnavailable> {
        let rows = self.rows(self.statements().find(customer, id)).await?;
        found(rows.first()).map_err(unreadable)
    }

    async fn page(
        &self,
        customer: &Customer,
        after: Option<ResourceId>,
        limit: usize,
    ) -> Result<Option<Page>, DatabaseUnavailable> {
        let statement = self.statements().page(customer, after, limit);
        postgres::page(&self.rows(statement).await?, limit).map_err(unreadable)
    }
}

impl ResourcesByKey for PostgresResources<'_> {
    async fn find_by_key(
        &self,
        scope: &KeyScope,
    ) -> Result<InHistory<Option<StoredResource>>, DatabaseUnavailable> {
        let rows = self.rows(self.statements().find_by_key(scope)).await?;
        found_in_history(rows.first()).map_err(unreadable)
    }
}

impl ConditionalResources for PostgresResources<'_> {
    async fn insert_based_on(
        &self,
        new: &NewResource,
        expected: &Expected,
    ) -> Result<InHistory<ConditionalInsertion>, DatabaseUnavailable> {
        let lock_timeout = self.settings.lock_timeout();
        let statement = self
            .statements()
            .insert_based_on(new, expected, lock_timeout);
        let rows = self.rows(statement).await?;
        conditional_insertion(rows.first(), expected).map_err(unreadable)
    }
}

impl Batches for PostgresResources<'_> {
    async fn insert_all(
        &self,
        batch: &[&NewResource],
    ) -> Result<Vec<Attempt>, DatabaseUnavailable> {
        self.log.count_trip();
        let work = async {
            let connection = match connection_cache::take() {
                Some(connection) => connection,
                None => Connection::open(self.url).await?,
            };
            let attempts = self.insert_over(&connection, batch).await?;
            connection_cache::put(connection);
            Ok(attempts)
        };
        let attempts = work.await.map_err(|error: Error| {
            Failure::of(&error);
            DatabaseUnavailable
        })?;
        OUTAGE.with(Outage::succeeded);
        Ok(attempts)
    }

    async fn batch_window(&self) {
        sleep(BATCH_WINDOW).await;
    }
}

impl PostgresResources<'_> {
    async fn insert_over(
        &self,
        connection: &Connection,
        batch: &[&NewResource],
    ) -> Result<Vec<Attempt>, Error> {
        if let [new] = batch {
            let Statement { sql, parameters } = self.statements().insert_new(new);
            // The host counts a SELECT's rows as well. If it did not, the resource would be inserted once more.
            let inserted = connection.execute(sql, values(parameters)).await?;
            return Ok(vec![match inserted {
                0 => Attempt::Undecided,
                _ => Attempt::Inserted,
            }]);
        }
        let rows = rows(connection, self.statements().insert_all(batch)).await?;
        Ok(postgres::attempts(batch, rows.first()))
    }
}

impl Probes for PostgresResources<'_> {
    async fn probe(&self) -> Probe {
        let start = Instant::now();
        let up = self.rows(self.statements().probe()).await.is_ok();
        Probe {
            up,
            latency_ms: start.elapsed().as_secs_f64() * 1000.0,
        }
    }
}

async fn rows(
    connection: &Connection,
    Statement { sql, parameters }: Statement<'_>,
) -> Result<Vec<SpinRow>, Error> {
    let rows = connection.query(sql, values(parameters)).await?;
    Ok(rows.collect().await?.into_iter().map(SpinRow).collect())
}

fn values(parameters: Vec<Parameter>) -> Vec<ParameterValue> {
    parameters.into_iter().map(value).collect()
}

fn value(parameter: Parameter) -> ParameterValue {
    match parameter {
        Parameter::Text(text) | Parameter::NullableText(Some(text)) => ParameterValue::Str(text),
        Parameter::NullableText(None) => ParameterValue::DbNull,
        Parameter::Bytes(bytes) => ParameterValue::Binary(bytes),
        Parameter::Int64(number) => ParameterValue::Int64(number),
    }
}

/// A row of Spin's.
struct SpinRow(spin_sdk::pg::Row);

impl Row for SpinRow {
    fn boolean(&self, column: &str) -> Option<bool> {
        self.0.get(column)
    }

    fn text(&self, column: &str) -> Option<String> {
        self.0.get(column)
    }

    fn bytes(&self, column: &str) -> Option<Vec<u8>> {
        self.0.get(column)
    }
}

fn unreadable(unreadable: Unreadable) -> DatabaseUnavailable {
    eprintln!("postgres: {unreadable}");
    DatabaseUnavailable
}

/// Why a statement returned no rows. It is logged when it is found out.
enum Failure {
    /// Another transaction was in the way.
    Transient,
    /// The server refuses the statement, and would refuse it again.
    Refused,
    /// The server serves no request.
    Outage,
}

impl Failure {
    /// By the SQLSTATE. Transient are serialization_failure, deadlock_detected, lock_not_available, and query_canceled,
    /// which is the statement timeout where an operator has set one.
    fn of(error: &Error) -> Self {
        let Some(code) = sqlstate(error).filter(|code| !is_down(code)) else {
            return Self::outage(&describe(error));
        };
        // A server that refuses a statement is up. It refuses the next one as well, so that is logged once.
        once(
            &format!("postgres {code}"),
            &format!("postgres: {}", describe(error)),
        );
        match code {
            "40001" | "40P01" | "55P03" | "57014" => Self::Transient,
            _ => Self::Refused,
        }
    }

    fn outage(why: &str) -> Self {
        OUTAGE.with(|outage| outage.failed(why, "requests are answered 503"));
        Self::Outage
    }
}

/// The code of a failure that the server has reported.
fn sqlstate(error: &Error) -> Option<&str> {
    match error {
        Error::PgError(PgError::QueryFailed(QueryError::DbError(e))) => Some(&e.code),
        _ => None,
    }
}

/// Whether a server with this SQLSTATE serves no request: it shuts down or starts, is out of something, or is not a
/// primary. One that has cancelled a statement serves others.
fn is_down(code: &str) -> bool {
    code != "57014" && ["08", "53", "57", "58", "25"].contains(&code.get(..2).unwrap_or_default())
}

/// For the log: what the server said, without values, which it puts into `detail` and into messages about data (class
/// 22); and what to do about undefined tables, columns and functions.
fn refusal(code: &str, message: &str) -> String {
    match code {
        "42P01" | "42703" | "42883" => format!("{code} {message}; apply the migrations"),
        _ if code.starts_with("22") => format!("{code}, a value is refused"),
        _ => format!("{code} {message}"),
    }
}

/// For the log. Neither statements nor parameters are in it.
fn describe(error: &Error) -> String {
    match error {
        Error::PgError(PgError::QueryFailed(QueryError::DbError(e))) => {
            refusal(&e.code, &e.message)
        }
        Error::PgError(PgError::QueryFailed(QueryError::Text(text))) => text.clone(),
        Error::PgError(PgError::ConnectionFailed(text)) => format!("connection failed: {text}"),
        Error::PgError(PgError::BadParameter(_)) => "bad parameter".to_owned(),
        Error::PgError(PgError::ValueConversionFailed(_)) | Error::Decode(_) => {
            "unexpected value".to_owned()
        }
        Error::PgError(PgError::Other(text)) => text.clone(),
    }
}
