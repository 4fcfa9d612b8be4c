//! Resources in the database that the variable `store` chooses: Postgres, or Spin's own SQLite. Each call is one statement;
//! where SQLite has inserted nothing, others read why. New resources share statements. Never a transaction: the pool's reset
//! does not roll back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use exactly_once::condition::Expected;
use exactly_once::error::DatabaseUnavailable;
use exactly_once::group_commit::{Batches, Group, Ticket};
use exactly_once::history::HistoryMonitor;
use exactly_once::ports::{
    Attempt, ConditionalInsertion, ConditionalResources, Feed, FeedRows, Histories, Insertion,
    NewResource, Outlook, Page, ResourceLists, Resources, ResourcesByKey, StoredResource, Writers,
};
use exactly_once::single_flight::SingleFlight;
use exactly_once::{Collection, Customer, InHistory, KeyScope, KnownHistory, ResourceId};
use exactly_once_http::settings::{Settings, Store};
use exactly_once_http::{Probe, Probes};
use exactly_once_stores::postgres::{
    Row, Statement, Statements, Unreadable, attempts, conditional_insertion, feed_rows, found,
    found_in_history, history, insertion, outlook,
};
use spin_sdk::time::sleep;

use crate::deadline::{Budget, Timer, now};
use crate::log::RequestLog;
use crate::postgres::PostgresRow;
use crate::signals::TaskSignals;
use crate::sqlite::SqliteRow;
use crate::{postgres, sqlite};

/// The batch window: a few trips to Redis, which is where the requests are that a leader waits for; and about what SQLite
/// takes to write a batch.
const BATCH_WINDOW: Duration = Duration::from_millis(2);

/// How often a statement is tried that other transactions make fail.
const STATEMENT_TRIES: u32 = 8;

/// The pause between two tries of SQLite.
const LOCKED_PAUSE: Duration = Duration::from_millis(20);

/// Which database it is.
enum Kind<'r> {
    Postgres { url: &'r str },
    Sqlite,
}

impl Kind<'_> {
    fn outage(&self, why: &str) -> Failure {
        match self {
            Self::Postgres { .. } => postgres::outage(why),
            Self::Sqlite => sqlite::outage(why),
        }
    }
}

/// Why a statement returned no rows. It is logged when it is found out.
pub enum Failure {
    /// Another transaction was in the way.
    Transient,
    /// The database refuses the statement, and would refuse it again.
    Refused,
    /// The database serves no request.
    Outage,
}

/// A row of either database.
pub enum AnyRow {
    /// Of Postgres.
    Postgres(PostgresRow),
    /// Of SQLite.
    Sqlite(SqliteRow),
}

impl Row for AnyRow {
    fn boolean(&self, column: &str) -> Option<bool> {
        match self {
            Self::Postgres(row) => row.boolean(column),
            Self::Sqlite(row) => row.boolean(column),
        }
    }

    fn text(&self, column: &str) -> Option<String> {
        match self {
            Self::Postgres(row) => row.text(column),
            Self::Sqlite(row) => row.text(column),
        }
    }

    fn bytes(&self, column: &str) -> Option<Vec<u8>> {
        match self {
            Self::Postgres(row) => row.bytes(column),
            Self::Sqlite(row) => row.bytes(column),
        }
    }
}

/// The table of a collection, as the requests of this instance share it.
struct Table {
    collection: Collection,
    statements: Statements,
    group: Rc<Group<TaskSignals>>,
}

thread_local! {
    static TABLES: RefCell<Vec<Rc<Table>>> = const { RefCell::new(Vec::new()) };
    /// Of the one database that the instance uses.
    static HISTORY: RefCell<HistoryMonitor> = const { RefCell::new(HistoryMonitor::new()) };
    static ASKING: Rc<SingleFlight<TaskSignals>> = Rc::new(SingleFlight::new(TaskSignals));
}

impl Table {
    fn of(collection: &Collection, kind: &Kind<'_>) -> Rc<Self> {
        TABLES.with_borrow_mut(|tables| {
            if let Some(table) = tables.iter().find(|t| t.collection.name == collection.name) {
                return table.clone();
            }
            let table = Rc::new(Self {
                collection: *collection,
                statements: match kind {
                    Kind::Postgres { .. } => Statements::of(collection),
                    Kind::Sqlite => exactly_once_stores::sqlite::statements(collection),
                },
                group: Rc::new(Group::new(TaskSignals)),
            });
            tables.push(table.clone());
            table
        })
    }
}

/// The database, as one request uses it.
pub struct Database<'r> {
    kind: Kind<'r>,
    settings: &'r Settings,
    timer: &'r Timer,
    log: &'r RequestLog,
    table: Rc<Table>,
    budget: Budget,
    /// Lets other requests wait for this one's insertion.
    ticket: Cell<Option<Ticket<TaskSignals>>>,
}

impl<'r> Database<'r> {
    /// With the request's time for it.
    pub fn for_request(
        settings: &'r Settings,
        timer: &'r Timer,
        log: &'r RequestLog,
        collection: &Collection,
    ) -> Self {
        let kind = match &settings.store {
            Store::Servers { database_url, .. } => Kind::Postgres { url: database_url },
            Store::Embedded => Kind::Sqlite,
        };
        Self {
            table: Table::of(collection, &kind),
            kind,
            settings,
            timer,
            log,
            budget: Budget::of(settings.database_timeout),
            ticket: Cell::new(None),
        }
    }

    fn statements(&self) -> &Statements {
        &self.table.statements
    }

    /// The rows, once the statement has ended: only then its transaction has committed. A statement that another
    /// transaction has made fail is repeated: it is one transaction, and has changed nothing.
    ///
    /// # Errors
    /// The database does not answer in time, or refuses the statement; the log says why.
    pub async fn rows(&self, statement: Statement<'_>) -> Result<Vec<AnyRow>, DatabaseUnavailable> {
        let _wait = self.log.postgres();
        let started = Instant::now();
        for tries in 1.. {
            match self.rows_once(statement.clone()).await {
                Ok(rows) => return Ok(rows),
                Err(Failure::Transient) if self.may_retry(tries, started).await => {}
                Err(_) => break,
            }
        }
        Err(DatabaseUnavailable)
    }

    async fn rows_once(&self, statement: Statement<'_>) -> Result<Vec<AnyRow>, Failure> {
        self.log.count_trip();
        let sent = now();
        let work = async {
            match self.kind {
                Kind::Postgres { url } => postgres::query(url, statement).await,
                Kind::Sqlite => sqlite::query(&self.table.collection, statement),
            }
        };
        let failure = match self.timer.within(&self.budget, work).await {
            Some(Ok(rows)) => {
                if let Some(history) = rows.first().and_then(history) {
                    HISTORY.with_borrow_mut(|monitor| monitor.heard(history, sent));
                }
                return Ok(rows);
            }
            Some(Err(failure)) => failure,
            None => self.kind.outage("no answer in time"),
        };
        if let Failure::Outage = failure {
            HISTORY.with_borrow_mut(|monitor| monitor.failed(sent, now()));
        }
        Err(failure)
    }
}

impl Histories for Database<'_> {
    fn known_history(&self) -> KnownHistory {
        HISTORY.with_borrow(|monitor| monitor.known(now()))
    }

    async fn ask_history(&self) -> KnownHistory {
        let _wait = self.log.postgres();
        let asking = ASKING.with(Rc::clone);
        let joined = self.timer.within(&self.budget, asking.join()).await;
        if let Some(Some(_flight)) = joined {
            // What it says is heard, and so is that it says nothing.
            let _ = self.rows_once(self.statements().history()).await;
        }
        self.known_history()
    }
}

impl Resources for Database<'_> {
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
        // SQLite does not return what is in the way, and mostly something is: `insert_new` has not inserted it.
        let found = match self.kind {
            Kind::Postgres { .. } => None,
            Kind::Sqlite => Some(self.find_by_key(&new.scope).await?),
        };
        if let Some(InHistory {
            history,
            value: Some(stored),
        }) = found
        {
            let value = Insertion::Existing(stored);
            return Ok(InHistory { history, value });
        }
        let rows = self
            .rows(self.statements().insert(new, self.settings.lock_timeout()))
            .await?;
        if let (true, Some(found)) = (rows.is_empty(), found) {
            return Ok(found.map(|_| Insertion::Conflict));
        }
        insertion(rows.first()).map_err(unreadable)
    }
}

impl ResourceLists for Database<'_> {
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
        exactly_once_stores::postgres::page(&self.rows(statement).await?, limit).map_err(unreadable)
    }
}

impl ResourcesByKey for Database<'_> {
    async fn find_by_key(
        &self,
        scope: &KeyScope,
    ) -> Result<InHistory<Option<StoredResource>>, DatabaseUnavailable> {
        let rows = self.rows(self.statements().find_by_key(scope)).await?;
        found_in_history(rows.first()).map_err(unreadable)
    }
}

impl Feed for Database<'_> {
    async fn look(
        &self,
        after: i64,
        limit: usize,
        among: Option<&Writers>,
    ) -> Result<Outlook, DatabaseUnavailable> {
        let rows = self
            .rows(self.statements().look(after, limit, among))
            .await?;
        outlook(rows.first()).map_err(unreadable)
    }

    async fn read(
        &self,
        after: i64,
        last: i64,
        limit: usize,
    ) -> Result<FeedRows, DatabaseUnavailable> {
        let rows = self
            .rows(self.statements().read(after, last, limit))
            .await?;
        feed_rows(&rows).map_err(unreadable)
    }
}

impl ConditionalResources for Database<'_> {
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
        if rows.is_empty() {
            return self.refusal(&new.scope, expected).await;
        }
        conditional_insertion(rows.first(), expected).map_err(unreadable)
    }
}

impl Batches for Database<'_> {
    async fn insert_all(
        &self,
        batch: &[&NewResource],
    ) -> Result<Vec<Attempt>, DatabaseUnavailable> {
        self.log.count_trip();
        let statements = self.statements();
        let attempts = match self.kind {
            Kind::Postgres { url } => postgres::insert_all(url, statements, batch).await,
            Kind::Sqlite => {
                let statement = statements.insert_all(batch);
                let rows = sqlite::query(&self.table.collection, statement);
                rows.map(|rows| attempts(batch, &rows))
            }
        };
        attempts.map_err(|_| DatabaseUnavailable)
    }

    async fn batch_window(&self) {
        sleep(BATCH_WINDOW).await;
    }
}

impl Database<'_> {
    /// Whether to send a statement once more that another transaction has made fail, and after a pause. Postgres has waited
    /// for the lock as long as a statement may. SQLite gives up soon, so that the instance's other requests go on.
    async fn may_retry(&self, tries: u32, started: Instant) -> bool {
        match self.kind {
            // Another try that waits for a lock could last for longer than the request.
            Kind::Postgres { .. } => {
                tries < STATEMENT_TRIES && self.budget.rest() > self.settings.lock_timeout()
            }
            Kind::Sqlite => {
                sleep(LOCKED_PAUSE).await;
                let has_time = started.elapsed() < self.settings.database_timeout;
                if !has_time {
                    sqlite::outage("the file was locked for all of the time");
                }
                has_time
            }
        }
    }

    /// Why SQLite has inserted nothing on a condition. The state is read first: if the scope has no resource after that, it
    /// had none before.
    async fn refusal(
        &self,
        scope: &KeyScope,
        expected: &Expected,
    ) -> Result<InHistory<ConditionalInsertion>, DatabaseUnavailable> {
        let page = self.page(&scope.customer, None, 0).await?;
        let state = page.ok_or(DatabaseUnavailable)?.state;
        let found = self.find_by_key(scope).await?;
        Ok(found.map(|found| match found {
            Some(stored) => ConditionalInsertion::Existing(stored),
            None if expected.is_met_by(&state) => ConditionalInsertion::Conflict,
            None => ConditionalInsertion::Stale(state),
        }))
    }
}

impl Probes for Database<'_> {
    async fn probe(&self) -> Probe {
        let start = Instant::now();
        let up = self.rows(self.statements().probe()).await.is_ok();
        Probe {
            up,
            latency_ms: start.elapsed().as_secs_f64() * 1000.0,
        }
    }
}

fn unreadable(unreadable: Unreadable) -> DatabaseUnavailable {
    eprintln!("database: {unreadable}");
    DatabaseUnavailable
}
