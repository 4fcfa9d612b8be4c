//! Real stores with two collections, over native connections, for the commands and statements of `stores`.

use std::rc::Rc;
use std::time::Duration;

use exactly_once::error::DatabaseError;
use exactly_once::group_commit::Batches;
use exactly_once::ports::{
    Attempt, ConditionalResources, Feed, FeedRows, Histories, List, Outlook, Page, ResourceLists, Resources,
    ResourcesByKey, StoredResource, Writers,
};
use exactly_once::{Collection, Customer, KeyScope, KnownHistory, ResourceId};
use exactly_once_stores::platform::{Place, Platform};
use exactly_once_stores::postgres::statements;
use exactly_once_stores::redis::locks::Locking;
use exactly_once_stores::redis::{Command, Records, Reply};
use exactly_once_stores::sql::{Row, Statement, Statements, feed_rows, found, outlook, page};
use exactly_once_stores::{Database, DatabaseSettings, Instance, Request};
use fixtures::Shared;
use native_stores::{Native, OneshotSignals, Postgres};
use orders::ORDERS;
use redis::aio::MultiplexedConnection;
use simulation::world::{Answer, Call};
use tokio::task::LocalSet;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// How long an insertion may wait for another transaction.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// A second collection, to be told apart from the first.
pub const REFUNDS: Collection = Collection { name: "refunds", one: "refund", path: "/api/v1/refunds" };

/// A key prefix and a database of its own.
pub struct Stores {
    redis: MultiplexedConnection,
    prefix: String,
    postgres: Rc<Client>,
    platform: Native,
    instance: Instance<Native>,
    database_url: String,
    orders: Statements,
    refunds: Statements,
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Stores {
    /// Empty ones with both collections.
    pub async fn fresh() -> Self {
        let shared = Shared::told().unwrap();
        let name = Uuid::new_v4().simple().to_string();
        let database_url = shared.create_database(&name).await.unwrap();
        let stores = Self::at(shared, name, database_url).await;
        stores.run_sql("SELECT create_resource_table('refunds', 'refund')").await;
        stores
    }

    /// Empty ones in a database of a server of the test's own, without a second collection.
    pub async fn on(database_url: &str) -> Self {
        let shared = Shared::told().unwrap();
        migrator::migrate(database_url).await.unwrap();
        let name = Uuid::new_v4().simple().to_string();
        Self::at(shared, name, database_url.to_owned()).await
    }

    async fn at(shared: Shared, name: String, database_url: String) -> Self {
        let redis = redis::Client::open(shared.redis_url).unwrap();
        let redis = redis.get_multiplexed_async_connection().await.unwrap();
        Self::over(redis, format!("{name}:"), database_url).await
    }

    async fn over(redis: MultiplexedConnection, prefix: String, database_url: String) -> Self {
        let postgres = Rc::new(connect(&database_url).await);
        // The statements of one's own, below, do not go through the composition, which draws them.
        postgres.batch_execute("SELECT draw_missing_epochs()").await.unwrap();
        Self {
            redis,
            prefix,
            platform: Native::new(Postgres::One(postgres.clone())),
            instance: Instance::new(OneshotSignals),
            postgres,
            database_url,
            orders: statements(&ORDERS.collection),
            refunds: statements(&REFUNDS),
        }
    }

    /// The same stores over another connection.
    pub async fn second_connection(&self) -> Self {
        let (redis, prefix) = (self.redis.clone(), self.prefix.clone());
        Self::over(redis, prefix, self.database_url.clone()).await
    }

    fn records(&self) -> Records<'_> {
        Records { prefix: &self.prefix, ttl: Duration::from_secs(60) }
    }

    fn locking(&self) -> Locking<'_> {
        Locking { prefix: &self.prefix, lease: Duration::from_secs(60) }
    }

    /// The statements of a collection.
    pub fn statements(&self, collection: &str) -> &Statements {
        match collection {
            "orders" => &self.orders,
            "refunds" => &self.refunds,
            other => panic!("there is no collection {other}"),
        }
    }

    /// Sends what the component sends for a call, and reads the answer as it does.
    pub async fn execute(&self, call: &Call) -> Answer {
        match call {
            Call::Reserve(scope, record) => Answer::Redis(self.send(self.records().reserve(scope, record)).await),
            Call::Set(scope, record) => Answer::Redis(self.send(self.records().complete(scope, record)).await),
            Call::Withdraw(scope, record) => Answer::Redis(self.send(self.records().withdraw(scope, record)).await),
            Call::Acquire(scope) => Answer::Redis(self.send(self.locking().acquire(scope)).await),
            Call::Release(scope) => Answer::Redis(self.send(self.locking().release(scope)).await),
            call => {
                let request = Request::new(self.platform.clone(), false);
                let collection = match call.scope() {
                    Some(scope) if scope.collection == REFUNDS.name => REFUNDS,
                    _ => ORDERS.collection,
                };
                let place = Place::Postgres { url: "connected" };
                let settings = settings(place);
                let database = Database::new(&self.instance, &request, settings, &collection);
                LocalSet::new().run_until(execute_over(&database, call)).await
            }
        }
    }

    /// A resource of a list by its id.
    pub async fn find(&self, list: &List, id: ResourceId) -> Option<StoredResource> {
        let statements = self.statements(list.collection);
        let row = self.row(statements.find(&list.customer, id)).await;
        found(row.as_ref()).unwrap()
    }

    /// The resource of a scope.
    pub async fn find_by_key(&self, scope: &KeyScope) -> Option<StoredResource> {
        let statements = self.statements(scope.collection);
        let row = self.row(statements.find_by_key(scope)).await;
        found(row.as_ref()).unwrap()
    }

    /// A page of a list.
    pub async fn page(&self, list: &List, after: Option<ResourceId>, limit: usize) -> Option<Page> {
        let statements = self.statements(list.collection);
        let rows = self.rows(statements.page(&list.customer, after, limit)).await;
        page(&rows, limit).unwrap()
    }

    /// What follows a number, by a statement for it.
    pub async fn outlook(&self, look: Statement<'_>) -> Outlook {
        outlook(self.row(look).await.as_ref()).unwrap()
    }

    /// Removes everything under the test's prefix.
    pub async fn flush(&self) {
        let pattern = format!("{}*", self.prefix);
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg(pattern).query_async(&mut self.redis.clone()).await.unwrap();
        for key in keys {
            self.delete(&key).await;
        }
    }

    /// Removes a scope's record.
    pub async fn evict(&self, scope: &KeyScope) {
        let key = self.records().key(scope);
        self.delete(key.as_bytes()).await;
    }

    async fn delete(&self, key: &[u8]) {
        let () = redis::cmd("DEL").arg(key).query_async(&mut self.redis.clone()).await.unwrap();
    }

    async fn send(&self, command: Command) -> Reply {
        let mut redis = self.redis.clone();
        native_stores::redis::send(&mut redis, &command).await.unwrap()
    }

    async fn row(&self, statement: Statement<'_>) -> Option<Row> {
        let rows = self.rows(statement).await;
        assert!(rows.len() <= 1, "one statement, one row");
        rows.into_iter().next()
    }

    async fn rows(&self, statement: Statement<'_>) -> Vec<Row> {
        let Statement { sql, parameters } = statement;
        native_stores::postgres::rows(&self.postgres, sql, parameters).await.unwrap()
    }

    /// Runs any SQL.
    pub async fn run_sql(&self, sql: &str) {
        self.try_sql(sql).await.unwrap();
    }

    /// Runs any SQL, which may fail.
    pub async fn try_sql(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.postgres.batch_execute(sql).await
    }

    /// The one number that a query returns.
    pub async fn number(&self, sql: &str) -> i64 {
        self.postgres.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Postgres's plan for a statement with these parameters.
    pub async fn plan(&self, statement: Statement<'_>) -> String {
        let explain = format!("EXPLAIN {}", statement.sql);
        let explain = Statement { sql: &explain, ..statement };
        let rows = self.rows(explain).await;
        let line = |row: &Row| row.text("QUERY PLAN").unwrap();
        rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Returns when another connection to this database waits for a lock.
    pub async fn wait_for_lock_waiter(&self) {
        let sql = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while self.number(sql).await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The orders.
impl ResourceLists for Stores {
    async fn find(&self, customer: &Customer, id: ResourceId) -> Result<Option<StoredResource>, DatabaseError> {
        Ok(self.find(&orders_of(customer), id).await)
    }

    async fn page(
        &self,
        customer: &Customer,
        after: Option<ResourceId>,
        limit: usize,
    ) -> Result<Option<Page>, DatabaseError> {
        Ok(self.page(&orders_of(customer), after, limit).await)
    }
}

/// The orders.
impl Feed for Stores {
    async fn look(&self, after: i64, limit: usize, among: Option<&Writers>) -> Result<Outlook, DatabaseError> {
        Ok(self.outlook(self.orders.look(after, limit, among)).await)
    }

    async fn read(&self, after: i64, last: i64, limit: usize) -> Result<FeedRows, DatabaseError> {
        let rows = self.rows(self.orders.read(after, last, limit)).await;
        Ok(feed_rows(&rows).unwrap())
    }
}

/// How long a request may wait for a database.
pub fn settings(place: Place<'_>) -> DatabaseSettings<'_> {
    DatabaseSettings { place, timeout: Duration::from_secs(60), lock_timeout: LOCK_TIMEOUT }
}

/// Makes a call of the database as the component makes it.
pub async fn execute_over(database: &Database<'_, impl Platform>, call: &Call) -> Answer {
    match call {
        Call::Insert(new) => Answer::Postgres(database.insert_unless_exists(new).await.unwrap().value),
        Call::InsertAll(batch) => {
            let batch: Vec<_> = batch.iter().collect();
            let attempts = database.insert_all(&batch).await.unwrap();
            if let [new] = batch[..] {
                // The statement for one must find what the first one left.
                assert_eq!(database.insert_new(new).await, Attempt::Undecided);
            }
            Answer::Attempts(attempts)
        }
        Call::Find(scope) => Answer::Found(database.find_by_key(scope).await.unwrap().value),
        Call::AskHistory => {
            let known = database.ask_history().await;
            assert!(matches!(known, KnownHistory::Current(_)), "{known:?}");
            Answer::History
        }
        Call::InsertBasedOn(new, expected) => {
            let inserted = database.insert_based_on(new, expected).await;
            Answer::Conditional(inserted.unwrap().value)
        }
        _ => panic!("the component does not send this to a database"),
    }
}

/// The list of a customer's orders.
pub fn orders_of(customer: &Customer) -> List {
    List { collection: ORDERS.collection.name, customer: customer.clone() }
}
