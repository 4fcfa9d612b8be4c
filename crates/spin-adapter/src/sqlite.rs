//! Resources in Spin's own SQLite, over one connection per instance; other instances have others to the same file. Every
//! change is one statement, and so one transaction, and SQLite's unique constraints decide between instances. New
//! resources share statements, as in Postgres: each statement costs an `fsync`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use http_api::settings::Settings;
use http_api::{Probe, Probes};
use protocol::condition::Expected;
use protocol::error::DatabaseUnavailable;
use protocol::group_commit::{Batches, Group, Ticket};
use protocol::ports::{
    Attempt, ConditionalInsertion, ConditionalResources, Histories, Insertion, NewResource, Page,
    ResourceLists, Resources, ResourcesByKey, StoredResource,
};
use protocol::{Collection, Customer, History, InHistory, KeyScope, KnownHistory, ResourceId};
use spin_sdk::sqlite::{Connection, Error, Value};
use spin_sdk::time::sleep;
use stores::postgres::{self, Parameter, Row, Statement, Unreadable};
use stores::sqlite::{
    LOG_MODE, Setup, Statements, attempts, found, in_history, refusal, state_with,
};

use crate::deadline::{Budget, Timer};
use crate::log::{Outage, RequestLog, once};
use crate::shared_connection::{self, SharedConnection};
use crate::signals::TaskSignals;

/// The batch window: about as long as it takes to write a batch.
const BATCH_WINDOW: Duration = Duration::from_millis(2);

/// How often a statement is tried that another instance makes fail.
const STATEMENT_TRIES: u32 = 8;

/// The pause between two tries: SQLite does not wait where waiting could be a deadlock, and for the journal's mode.
const LOCKED_PAUSE: Duration = Duration::from_millis(20);

/// The table of a collection, as the requests of this instance share it.
pub struct Table {
    collection: &'static str,
    statements: Statements,
    group: Rc<Group<TaskSignals>>,
}

thread_local! {
    static CONNECTION: SharedConnection<Connection> = const { SharedConnection::closed() };
    static OUTAGE: Outage = const { Outage::none("sqlite") };
    static TABLES: RefCell<Vec<Rc<Table>>> = const { RefCell::new(Vec::new()) };
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

/// SQLite, as one request uses it.
pub struct SqliteResources<'r> {
    settings: &'r Settings,
    timer: &'r Timer,
    log: &'r RequestLog,
    table: Rc<Table>,
    budget: Budget,
    /// Lets other requests wait for this one's insertion.
    ticket: Cell<Option<Ticket<TaskSignals>>>,
}

impl<'r> SqliteResources<'r> {
    /// With the request's time for the database.
    pub fn for_request(
        settings: &'r Settings,
        timer: &'r Timer,
        log: &'r RequestLog,
        table: Rc<Table>,
    ) -> Self {
        Self {
            settings,
            timer,
            log,
            table,
            budget: Budget::of(settings.database_timeout),
            ticket: Cell::new(None),
        }
    }

    fn statements(&self) -> &Statements {
        &self.table.statements
    }

    /// The rows, once the statement has ended: only then its transaction has committed. A statement that found the file
    /// locked is repeated: it has changed nothing.
    async fn rows(&self, statement: Statement<'_>) -> Result<Vec<SqliteRow>, DatabaseUnavailable> {
        let _wait = self.log.postgres();
        for _ in 0..STATEMENT_TRIES {
            let attempt = self.rows_once(statement.clone());
            match self.timer.within(&self.budget, attempt).await {
                Some(Ok(rows)) => return Ok(rows),
                // Another try that waits for the lock could last for longer than the request.
                Some(Err(Failure::Locked))
                    if self.budget.rest() > self.settings.lock_timeout() =>
                {
                    self.timer.within(&self.budget, sleep(LOCKED_PAUSE)).await;
                }
                Some(Err(_)) => break,
                None => {
                    Failure::outage("no answer in time");
                    break;
                }
            }
        }
        Err(DatabaseUnavailable)
    }

    async fn rows_once(&self, statement: Statement<'_>) -> Result<Vec<SqliteRow>, Failure> {
        self.log.count_trip();
        let connection = shared_connection::get(&CONNECTION, async || self.open().await)
            .await
            .map_err(|error| Failure::of(&error))?;
        let rows = run(&connection, statement.sql, statement.parameters).await;
        if rows.is_ok() {
            OUTAGE.with(Outage::succeeded);
        }
        rows.map_err(|error| {
            let failure = Failure::of(&error);
            if let Failure::Outage = failure {
                // The next one finds out whether it was the connection, or the table is missing.
                CONNECTION.with(|shared| shared.forget(&connection));
            }
            failure
        })
    }

    /// A new connection to the file, which has the table from now on.
    async fn open(&self) -> Result<Connection, Error> {
        let connection = Connection::open_default().await?;
        let busy_timeout_ms = self.settings.lock_timeout().as_millis();
        for statement in self.statements().setup(busy_timeout_ms) {
            match statement {
                Setup::Run(sql) => {
                    run(&connection, &sql, Vec::new()).await?;
                }
                Setup::UseLog(sql) => {
                    let rows = run(&connection, sql, Vec::new()).await?;
                    let mode = rows.first().and_then(|row| row.values.first());
                    if !matches!(mode, Some(Value::Text(mode)) if mode == LOG_MODE) {
                        return Err(Error::Io(NO_FILE.to_owned()));
                    }
                }
            }
        }
        Ok(connection)
    }

    async fn insert(&self, new: &NewResource) -> Result<bool, DatabaseUnavailable> {
        let rows = self.rows(self.statements().insert(new)).await?;
        Ok(!rows.is_empty())
    }
}

/// What a database in memory gets.
const NO_FILE: &str = "the database is not a file that all instances share: the host needs a folder for its state";

impl Histories for SqliteResources<'_> {
    fn known_history(&self) -> KnownHistory {
        KnownHistory::Current(History::ONLY)
    }
}

impl Resources for SqliteResources<'_> {
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

    /// Reads before it writes: mostly the resource exists, because [`Self::insert_new`] has not inserted it. The insertion
    /// decides.
    async fn insert_unless_exists(
        &self,
        new: &NewResource,
    ) -> Result<InHistory<Insertion>, DatabaseUnavailable> {
        drop(self.ticket.take());
        let found = self.find_by_key(&new.scope).await?;
        Ok(in_history(match found.value {
            Some(stored) => Insertion::Existing(stored),
            None if self.insert(new).await? => Insertion::Inserted,
            None => Insertion::Conflict,
        }))
    }
}

impl ResourceLists for SqliteResources<'_> {
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

impl ResourcesByKey for SqliteResources<'_> {
    async fn find_by_key(
        &self,
        scope: &KeyScope,
    ) -> Result<InHistory<Option<StoredResource>>, DatabaseUnavailable> {
        let rows = self.rows(self.statements().find_by_key(scope)).await?;
        found(rows.first()).map(in_history).map_err(unreadable)
    }
}

impl ConditionalResources for SqliteResources<'_> {
    async fn insert_based_on(
        &self,
        new: &NewResource,
        expected: &Expected,
    ) -> Result<InHistory<ConditionalInsertion>, DatabaseUnavailable> {
        let statement = self.statements().insert_based_on(new, expected);
        let outcome = match self.rows(statement).await?.is_empty() {
            false => state_with(new).map(ConditionalInsertion::Inserted),
            true => {
                let statement = self.statements().find_with_state(&new.scope);
                refusal(self.rows(statement).await?.first(), expected)
            }
        };
        outcome.map(in_history).map_err(unreadable)
    }
}

impl Batches for SqliteResources<'_> {
    async fn insert_all(
        &self,
        batch: &[&NewResource],
    ) -> Result<Vec<Attempt>, DatabaseUnavailable> {
        let statement = self.statements().insert_all(batch);
        let rows = self.rows_once(statement).await;
        Ok(attempts(batch, &rows.map_err(|_| DatabaseUnavailable)?))
    }

    async fn batch_window(&self) {
        sleep(BATCH_WINDOW).await;
    }
}

impl Probes for SqliteResources<'_> {
    async fn probe(&self) -> Probe {
        let start = Instant::now();
        let up = self.rows(self.statements().probe()).await.is_ok();
        Probe {
            up,
            latency_ms: start.elapsed().as_secs_f64() * 1000.0,
        }
    }
}

async fn run(
    connection: &Connection,
    sql: &str,
    parameters: Vec<Parameter>,
) -> Result<Vec<SqliteRow>, Error> {
    let parameters = parameters.into_iter().map(value);
    let result = connection.execute(sql, parameters).await?;
    let columns: Rc<[String]> = result.columns().into();
    let rows = result.collect().await?.into_iter();
    Ok(rows
        .map(|row| SqliteRow {
            columns: columns.clone(),
            values: row.values,
        })
        .collect())
}

fn value(parameter: Parameter) -> Value {
    match parameter {
        Parameter::Text(text) | Parameter::NullableText(Some(text)) => Value::Text(text),
        Parameter::NullableText(None) => Value::Null,
        Parameter::Bytes(bytes) => Value::Blob(bytes),
        Parameter::Int64(number) => Value::Integer(number),
    }
}

/// A row of Spin's, with the names of its columns.
struct SqliteRow {
    columns: Rc<[String]>,
    values: Vec<Value>,
}

impl SqliteRow {
    fn get(&self, column: &str) -> Option<&Value> {
        let index = self.columns.iter().position(|name| name == column)?;
        self.values.get(index)
    }
}

impl Row for SqliteRow {
    fn boolean(&self, column: &str) -> Option<bool> {
        match self.get(column)? {
            Value::Integer(number) => Some(*number != 0),
            _ => None,
        }
    }

    fn text(&self, column: &str) -> Option<String> {
        match self.get(column)? {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn bytes(&self, column: &str) -> Option<Vec<u8>> {
        match self.get(column)? {
            Value::Blob(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }
}

fn unreadable(unreadable: Unreadable) -> DatabaseUnavailable {
    eprintln!("sqlite: {unreadable}");
    DatabaseUnavailable
}

/// Why a statement returned no rows. It is logged when it is found out.
enum Failure {
    /// Another connection held the lock for as long as a statement may wait.
    Locked,
    /// Any other reason.
    Outage,
}

impl Failure {
    /// By the message: Spin passes no code on.
    fn of(error: &Error) -> Self {
        let why = match error {
            Error::Io(text) if text.contains("is locked") => {
                once("sqlite locked", &format!("sqlite: {text}"));
                return Self::Locked;
            }
            // Neither statements nor parameters are in it.
            Error::Io(text) => text,
            Error::NoSuchDatabase => "the host has no database \"default\"",
            Error::AccessDenied => "the manifest lacks sqlite_databases = [\"default\"]",
            Error::InvalidConnection => "invalid connection",
            Error::DatabaseFull => "the database is full",
        };
        Self::outage(why)
    }

    fn outage(why: &str) -> Self {
        OUTAGE.with(|outage| outage.failed(why, "requests are answered 503"));
        Self::Outage
    }
}
