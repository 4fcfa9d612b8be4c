//! The database, as one request uses it: Postgres, or the host's SQLite. Each call is one statement; after an insertion
//! of SQLite that conflicts with a row, another statement reads that row. New resources share statements. Never a
//! transaction: the reset of Spin's pool does not roll back.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use exactly_once::condition::Expected;
use exactly_once::error::DatabaseError;
use exactly_once::group_commit::Batches;
use exactly_once::ports::{
    Attempt, Condition, ConditionalInsertion, ConditionalResources, Feed, FeedRows, Histories, Insertion, NewResource,
    Outlook, Page, PageRequest, Probe, Probes, ResourceLists, Resources, ResourcesByKey, StoredResource, Writers,
};
use exactly_once::{Collection, Customer, InHistory, KeyScope, KnownHistory, ResourceId};

use crate::instance::{Instance, Request, Table};
use crate::platform::{Place, Platform, StatementError};
use crate::sql::{
    Row, Statement, Statements, Unreadable, attempts, conditional_insertion, feed_rows, found, found_in_history,
    history, insertion, outlook, page,
};
use crate::{postgres, sqlite};

/// The batch window: a few round trips to Redis, because a leader waits for requests that wait for Redis; and about the
/// time that SQLite takes to write a batch.
pub const BATCH_WINDOW: Duration = Duration::from_millis(2);

/// How often a statement is tried that other transactions make fail.
const STATEMENT_TRIES: u32 = 8;

/// After how many time-outs in a row connections are tested.
const TIME_OUTS_BEFORE_TESTS: u32 = 2;

/// How many connections a statement tests at most. After that it is sent untested: the server may be slow.
const CONNECTIONS_TESTED: u32 = 4;

/// The pause between two tries of SQLite.
const LOCKED_PAUSE: Duration = Duration::from_millis(20);

/// How many statements find out at the same time whether Postgres is ready. One alone would succeed behind a pooler
/// that does not keep prepared statements, and a proxy that spreads statements over servers shows one to each.
const PROBES_AT_ONCE: usize = 8;

/// Where the database is, and what a request may use of it.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseSettings<'s> {
    /// Where it is.
    pub place: Place<'s>,
    /// How long a request may wait for it in all.
    pub timeout: Duration,
    /// How long a statement may wait for other transactions.
    pub lock_timeout: Duration,
}

/// Why a statement has returned no rows. It is logged when it is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Another transaction was in the way.
    Transient,
    /// The database rejects the statement, and would reject it again.
    Refused,
    /// It cannot hold a value of the statement.
    ValueRejected,
    /// Another database has the customer.
    Elsewhere,
    /// The server takes no writes any more: most likely another one has taken over. The connection was ended, and
    /// another one may lead to that server.
    TakesNoWrites,
    /// The database serves no request.
    Outage,
}

impl Failure {
    fn is_outage(self) -> bool {
        matches!(self, Self::Outage | Self::TakesNoWrites)
    }
}

/// Whether the instance keeps the connection of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// The host has a pool, which gets it back.
    No,
    /// For the next batch.
    ForATime,
    /// SQLite's is the instance's own.
    Always,
}

/// What a statement has returned.
struct Sent {
    count: usize,
    /// None where they were only counted.
    rows: Vec<Row>,
}

/// The database, as one request uses it.
pub struct Database<'r, P: Platform> {
    instance: &'r Instance<P>,
    request: &'r Request<P>,
    settings: DatabaseSettings<'r>,
    table: Rc<Table<P>>,
}

impl<'r, P: Platform> Database<'r, P> {
    /// For a request of an instance, about resources of a collection.
    pub fn new(
        instance: &'r Instance<P>,
        request: &'r Request<P>,
        settings: DatabaseSettings<'r>,
        collection: &Collection,
    ) -> Self {
        Self { table: instance.table(collection, settings.place), instance, request, settings }
    }

    fn platform(&self) -> &'r P {
        self.request.platform()
    }

    fn statements(&self) -> &Statements {
        &self.table.statements
    }

    /// What is left of the request's time.
    fn rest(&self) -> Duration {
        self.request.database_budget.rest(self.settings.timeout)
    }

    /// The shortest time in which a statement is worth sending.
    fn useful_time(&self) -> Duration {
        self.settings.timeout / 10
    }

    /// The future's output, or `None` when that time, or the request's, is over.
    async fn within<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let (timer, budget) = (self.request.timer(), &self.request.database_budget);
        timer.within(budget, limit.min(self.rest()), future).await
    }

    /// The rows of a statement. One that another transaction has made fail is repeated: it is one transaction, and has
    /// changed nothing.
    ///
    /// # Errors
    /// The database does not respond in time, or rejects the statement; the log says why.
    pub async fn rows(&self, statement: Statement<'_>) -> Result<Vec<Row>, DatabaseError> {
        self.rows_in_epoch(statement, None).await
    }

    /// The same. The rows must name an epoch in this column, if it is given: the history, or the feed's numbering. The
    /// first statement in a new incarnation of the server names none, and changes nothing: it is repeated after drawing
    /// the epochs.
    async fn rows_in_epoch(&self, statement: Statement<'_>, epoch: Option<&str>) -> Result<Vec<Row>, DatabaseError> {
        let _wait = self.request.waits_for_database();
        let started = self.platform().now();
        let mut sent = started;
        let draw = self.statements().draw_epochs();
        let (mut draws, mut drawn, mut tries) = (false, false, 0);
        loop {
            tries += 1;
            let work = if draws { &draw } else { &statement };
            match self.rows_once(work, sent).await {
                Ok(rows) => {
                    let has_epoch = |epoch| rows.first().is_none_or(|row| row.bytes(epoch).is_some());
                    if !draws && (drawn || epoch.is_none_or(has_epoch)) {
                        return Ok(rows);
                    }
                    drawn = draws;
                    draws = !draws;
                }
                Err(Failure::Transient | Failure::TakesNoWrites) if self.may_retry(tries, started).await => {}
                Err(Failure::ValueRejected) => return Err(DatabaseError::ValueRejected),
                Err(Failure::Elsewhere) => return Err(DatabaseError::Elsewhere),
                Err(_) => return Err(DatabaseError::Unavailable),
            }
            sent = self.platform().now();
        }
    }

    async fn rows_once(&self, statement: &Statement<'_>, sent: Duration) -> Result<Vec<Row>, Failure> {
        let keep = match self.settings.place {
            Place::Postgres { .. } => Keep::No,
            Place::Sqlite => Keep::Always,
        };
        let answer = match self.rest() < self.useful_time() {
            // The statement would end after the request.
            true => None,
            false => {
                self.request.count_trip();
                self.within(self.settings.timeout, self.send(statement, keep, false)).await
            }
        };
        let failure = match answer {
            Some(Ok(Sent { rows, .. })) => {
                self.succeeded();
                if let Some(history) = rows.first().and_then(history) {
                    self.instance.history.borrow_mut().heard(history, sent);
                }
                return Ok(rows);
            }
            Some(Err(error)) => self.failed(&error),
            None => {
                let time_outs = &self.instance.time_outs;
                time_outs.set(time_outs.get().saturating_add(1));
                self.outage("no answer in time")
            }
        };
        if failure.is_outage() {
            let now = self.platform().now();
            self.instance.history.borrow_mut().failed(sent, now);
        }
        Err(failure)
    }

    /// Sends a statement. A connection that fails is dropped: the next request finds out whether the database is there.
    async fn send(&self, statement: &Statement<'_>, keep: Keep, only_count: bool) -> Result<Sent, StatementError> {
        let (platform, kept) = (self.platform(), &self.instance.kept);
        let place = self.settings.place;
        let connection = match kept.take_if(keep != Keep::No) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let sent = match only_count {
            true => platform.count(&connection, statement).await.map(|count| Sent { count, rows: Vec::new() }),
            false => platform.rows(&connection, statement).await.map(|rows| Sent { count: rows.len(), rows }),
        };
        if let Err(error) = &sent
            && place != Place::Sqlite
            && postgres::failure(error) == Failure::TakesNoWrites
        {
            // Otherwise the host's pool returns this connection to requests for as long as the old primary lives.
            let end = Statement::plain(postgres::END_CONNECTION);
            let _ = platform.rows(&connection, &end).await;
        }
        match (&sent, keep) {
            (_, Keep::No) => {}
            (Ok(_), Keep::ForATime) => kept.put_for_a_time(platform, connection),
            (Err(_), Keep::ForATime) => {}
            (Err(error), Keep::Always) if !sqlite::is_locked(error) => {}
            (_, Keep::Always) => kept.put(connection),
        }
        sent
    }

    /// A connection. After two time-outs in a row, its server must respond first: each dead connection of the host's
    /// pool would cost a request its whole time.
    async fn connect(&self) -> Result<P::Connection, StatementError> {
        if self.settings.place == Place::Sqlite {
            return self.open(&sqlite::setup(&self.table.collection)).await;
        }
        let mut tests = CONNECTIONS_TESTED;
        loop {
            let is_suspicious = tests > 0 && self.instance.time_outs.get() >= TIME_OUTS_BEFORE_TESTS;
            let first: &[&str] = if is_suspicious { &[postgres::HISTORY] } else { &[] };
            let mut opening = pin!(self.open(first));
            if !is_suspicious {
                return opening.await;
            }
            if let Some(tested) = self.request.timer().within_time(self.useful_time(), opening.as_mut()).await {
                return tested;
            }
            tests -= 1;
        }
    }

    /// A connection on which these statements have succeeded.
    async fn open(&self, first: &[impl AsRef<str>]) -> Result<P::Connection, StatementError> {
        let platform = self.platform();
        let connection = platform.connect(self.settings.place).await?;
        for sql in first {
            sqlite::check_mode(&platform.rows(&connection, &Statement::plain(sql.as_ref())).await?)?;
        }
        Ok(connection)
    }

    /// Inserts a batch over the connection that the instance keeps.
    async fn insert_batch(&self, batch: &[&NewResource]) -> Result<Vec<Attempt>, StatementError> {
        let (statement, keep, only_count) = match (self.settings.place, batch) {
            (Place::Sqlite, _) => (self.statements().insert_all(batch), Keep::Always, false),
            (_, [new]) => (self.statements().insert_new(new), Keep::ForATime, true),
            _ => (self.statements().insert_all(batch), Keep::ForATime, false),
        };
        let sent = self.send(&statement, keep, only_count).await?;
        Ok(match only_count {
            true if sent.count == postgres::ROWS_OF_ONE => vec![Attempt::Inserted],
            _ => attempts(batch, &sent.rows),
        })
    }

    /// Whether to repeat a statement that failed because of another transaction; SQLite's after a pause. Postgres has
    /// waited for the lock as long as a statement may. SQLite gives up soon, so that the instance's other requests
    /// continue.
    async fn may_retry(&self, tries: u32, started: Duration) -> bool {
        match self.settings.place {
            // Another try that waits for a lock could last for longer than the request.
            Place::Postgres { .. } => tries < STATEMENT_TRIES && self.rest() > self.settings.lock_timeout,
            Place::Sqlite => {
                self.platform().sleep(LOCKED_PAUSE).await;
                let has_time = self.platform().now() < started + self.settings.timeout;
                if !has_time {
                    self.outage("the file was locked for all of the time");
                }
                has_time
            }
        }
    }

    fn store(&self) -> &'static str {
        match self.settings.place {
            Place::Postgres { .. } => "postgres",
            Place::Sqlite => "sqlite",
        }
    }

    fn succeeded(&self) {
        self.instance.time_outs.set(0);
        let outage = &self.instance.database_outage;
        outage.succeeded(self.platform(), self.store());
    }

    /// The database does not respond, or cannot write.
    fn outage(&self, why: &str) -> Failure {
        let consequence = "requests are answered 503";
        let outage = &self.instance.database_outage;
        outage.failed(self.platform(), self.store(), why, consequence);
        Failure::Outage
    }

    fn failed(&self, error: &StatementError) -> Failure {
        let failure = match self.settings.place {
            Place::Postgres { .. } => postgres::failure(error),
            Place::Sqlite => sqlite::failure(error),
        };
        match &error.sqlstate {
            _ if failure.is_outage() => {
                self.outage(&postgres::describe(error));
                failure
            }
            // A server that rejects a statement is up. It rejects the next one as well, so that is logged once.
            Some(code) => {
                let line = format!("postgres: {}", postgres::describe(error));
                let kind = format!("postgres {code}");
                self.instance.said.once(self.platform(), kind, &line);
                failure
            }
            None => failure,
        }
    }

    fn unreadable(&self, unreadable: Unreadable) -> DatabaseError {
        self.platform().write_line(format!("database: {unreadable}"));
        DatabaseError::Unavailable
    }

    /// Why SQLite has inserted nothing on a condition. The state is read first: if the scope has no resource after
    /// that, it had none before.
    async fn refusal(
        &self,
        scope: &KeyScope,
        expected: &Expected,
    ) -> Result<InHistory<ConditionalInsertion>, DatabaseError> {
        let page = self.page(&scope.customer, PageRequest::newest(0)).await?;
        let state = page.ok_or(DatabaseError::Unavailable)?.state;
        let found = self.find_by_key(scope).await?;
        Ok(found.map(|found| match found {
            Some(stored) => ConditionalInsertion::Existing(stored),
            None if expected.is_met_by(&state) => ConditionalInsertion::Conflict,
            None => ConditionalInsertion::Stale(state),
        }))
    }
}

impl<P: Platform> Histories for Database<'_, P> {
    fn known_history(&self) -> KnownHistory {
        self.instance.known_history(self.platform())
    }

    async fn ask_history(&self) -> KnownHistory {
        let joined = {
            let _wait = self.request.waits_for_database();
            self.within(self.settings.timeout, self.instance.asking.join()).await
        };
        if let Some(Some(_flight)) = joined {
            // The instance learns the history from the rows, and from a failure that there is none.
            let _ = self.rows_in_epoch(self.statements().history(), Some("history")).await;
        }
        self.known_history()
    }
}

impl<P: Platform> Resources for Database<'_, P> {
    fn announce_insertion(&self) {
        self.request.ticket.set(Some(self.table.group.ticket()));
    }

    async fn insert_new(&self, new: &NewResource) -> Attempt {
        drop(self.request.ticket.take());
        let _wait = self.request.waits_for_database();
        let insertion = self.table.group.insert(new, self);
        // Waits for all of the request's time: under overload, one statement per request would multiply the load by the
        // batch's size. A batch that meets a locked row ends soon.
        let attempt = self.within(self.settings.timeout, insertion).await;
        attempt.unwrap_or(Attempt::Undecided)
    }

    async fn insert_unless_exists(&self, new: &NewResource) -> Result<InHistory<Insertion>, DatabaseError> {
        drop(self.request.ticket.take());
        // SQLite's insertion does not return the row that it conflicts with. Most likely there is one, because
        // `insert_new` did not insert the resource: so this looks for it first.
        let found = match self.settings.place {
            Place::Postgres { .. } => None,
            Place::Sqlite => Some(self.find_by_key(&new.scope).await?),
        };
        if let Some(InHistory { history, value: Some(stored) }) = found {
            let value = Insertion::Existing(stored);
            return Ok(InHistory { history, value });
        }
        let statement = self.statements().insert(new, self.settings.lock_timeout);
        let rows = self.rows_in_epoch(statement, Some("history")).await?;
        if let (true, Some(found)) = (rows.is_empty(), found) {
            return Ok(found.map(|_| Insertion::Conflict));
        }
        insertion(rows.first()).map_err(|e| self.unreadable(e))
    }
}

impl<P: Platform> Batches for Database<'_, P> {
    async fn insert_all(&self, batch: &[&NewResource]) -> Result<Vec<Attempt>, DatabaseError> {
        self.request.count_trip();
        match self.insert_batch(batch).await {
            Ok(attempts) => {
                self.succeeded();
                Ok(attempts)
            }
            Err(error) => {
                self.failed(&error);
                Err(DatabaseError::Unavailable)
            }
        }
    }

    async fn batch_window(&self) {
        self.platform().sleep(BATCH_WINDOW).await;
    }
}

impl<P: Platform> ConditionalResources for Database<'_, P> {
    async fn insert_based_on(
        &self,
        new: &NewResource,
        expected: &Expected,
    ) -> Result<InHistory<ConditionalInsertion>, DatabaseError> {
        let lock_timeout = self.settings.lock_timeout;
        let statement = self.statements().insert_based_on(new, expected, lock_timeout);
        let rows = self.rows_in_epoch(statement, Some("history")).await?;
        if rows.is_empty() {
            return self.refusal(&new.scope, expected).await;
        }
        conditional_insertion(rows.first(), expected).map_err(|e| self.unreadable(e))
    }
}

impl<P: Platform> ResourcesByKey for Database<'_, P> {
    async fn find_by_key(&self, scope: &KeyScope) -> Result<InHistory<Option<StoredResource>>, DatabaseError> {
        let rows = self.rows_in_epoch(self.statements().find_by_key(scope), Some("history")).await?;
        found_in_history(rows.first()).map_err(|e| self.unreadable(e))
    }
}

impl<P: Platform> ResourceLists for Database<'_, P> {
    async fn find(&self, customer: &Customer, id: ResourceId) -> Result<Option<StoredResource>, DatabaseError> {
        let rows = self.rows_in_epoch(self.statements().find(customer, id), None).await?;
        found(rows.first()).map_err(|e| self.unreadable(e))
    }

    async fn page(&self, customer: &Customer, request: PageRequest) -> Result<Option<Page>, DatabaseError> {
        let statement = self.statements().page(customer, request);
        page(&self.rows_in_epoch(statement, None).await?, request.limit).map_err(|e| self.unreadable(e))
    }
}

impl<P: Platform> Feed for Database<'_, P> {
    async fn look(&self, after: i64, limit: usize, among: Option<&Writers>) -> Result<Outlook, DatabaseError> {
        let statement = self.statements().look(after, limit, among);
        let rows = self.rows_in_epoch(statement, Some("here")).await?;
        outlook(rows.first()).map_err(|e| self.unreadable(e))
    }

    async fn read(&self, after: i64, last: i64, limit: usize) -> Result<FeedRows, DatabaseError> {
        let statement = self.statements().read(after, last, limit);
        let rows = self.rows_in_epoch(statement, Some("here")).await?;
        feed_rows(&rows).map_err(|e| self.unreadable(e))
    }
}

impl<P: Platform> Database<'_, P> {
    async fn probe_once(&self) -> Condition {
        let probed = self.rows_in_epoch(self.statements().probe(), Some("history")).await;
        match probed.as_deref().map(<[Row]>::first) {
            Ok(row) => match row.and_then(|row| row.text("fault")) {
                Some(fault) => {
                    let line = format!("postgres: {fault}");
                    self.instance.said.once(self.platform(), line.clone(), &line);
                    Condition::Unfit
                }
                None => Condition::Up,
            },
            Err(_) if self.instance.database_outage.is_on() => Condition::Unreachable,
            Err(_) => Condition::Unfit,
        }
    }
}

impl<P: Platform> Probes for Database<'_, P> {
    async fn probe(&self) -> Probe {
        let start = self.platform().now();
        let at_once = if self.settings.place == Place::Sqlite { 1 } else { PROBES_AT_ONCE };
        let mut probes: Vec<_> = (0..at_once).map(|_| Box::pin(self.probe_once())).collect();
        let mut condition = Condition::Up;
        poll_fn(|cx| {
            probes.retain_mut(|probe| match probe.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(Condition::Up) => false,
                Poll::Ready(other) => {
                    condition = other;
                    false
                }
            });
            if probes.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        Probe::since(start, self.platform().now(), condition)
    }
}

#[cfg(test)]
mod tests;
