//! Real stores with two collections, over native connections, for the commands and statements of `stores`.

use std::rc::Rc;
use std::time::Duration;

use exactly_once::group_commit::Batches;
use exactly_once::ports::{Attempt, ConditionalResources, Histories, Resources, ResourcesByKey};
use exactly_once::{Collection, KeyScope, KnownHistory};
use exactly_once_stores::platform::{Place, Platform};
use exactly_once_stores::postgres::statements;
use exactly_once_stores::redis::locks::Locking;
use exactly_once_stores::redis::{Command, Records};
use exactly_once_stores::sql::{Row, Statement, Statements};
use exactly_once_stores::{Database, DatabaseSettings, Instance, Request};
use fixtures::{Shared, connect, until};
use native_stores::{Native, OneshotSignals, Postgres};
use orders::ORDERS;
use redis::aio::MultiplexedConnection;
use simulation::world::{Answer, Call};
use tokio::task::LocalSet;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::Real;

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
    /// Where the database is.
    pub database_url: String,
    orders: Statements,
    refunds: Statements,
}

impl Stores {
    /// Empty ones with both collections.
    pub async fn fresh() -> Self {
        let name = Uuid::new_v4().simple().to_string();
        let stores = Self::on(&Shared::told().unwrap().create_database(&name).await.unwrap()).await;
        stores.run_sql("SELECT create_resource_table('refunds', 'refund')").await;
        stores
    }

    /// Those in a database, without a second collection.
    pub async fn on(database_url: &str) -> Self {
        migrator::migrate(database_url).await.unwrap();
        let redis = redis::Client::open(Shared::told().unwrap().redis_url).unwrap();
        let redis = redis.get_multiplexed_async_connection().await.unwrap();
        Self::over(redis, format!("{}:", Uuid::new_v4().simple()), database_url.to_owned()).await
    }

    async fn over(redis: MultiplexedConnection, prefix: String, database_url: String) -> Self {
        let postgres = Rc::new(connect(&database_url).await.unwrap());
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

    /// Calls the database as the component does.
    pub async fn call<T>(&self, of: &Collection, call: impl AsyncFnOnce(&Database<'_, Native>) -> T) -> T {
        let request = Request::new(&self.instance, self.platform.clone(), false);
        let settings = settings(Place::Postgres { url: "connected" });
        let database = Database::new(&self.instance, &request, settings, of);
        LocalSet::new().run_until(call(&database)).await
    }

    async fn send(&self, command: Command) -> Answer {
        Answer::Redis(native_stores::redis::send(&mut self.redis.clone(), &command).await.unwrap())
    }

    /// Runs any SQL.
    pub async fn run_sql(&self, sql: &str) {
        self.postgres.batch_execute(sql).await.unwrap();
    }

    /// The one number that a query returns.
    pub async fn number(&self, sql: &str) -> i64 {
        self.postgres.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// How many rows and entries of indexes of `orders` a statement reads.
    pub async fn entries_read(&self, statement: Statement<'_>) -> i64 {
        let sql = "WITH tables AS (SELECT relid FROM pg_partition_tree('orders') UNION SELECT 'orders'::regclass) \
                   SELECT sum(pg_stat_get_xact_tuples_returned(oid))::bigint FROM pg_class \
                   WHERE oid IN (SELECT relid FROM tables) \
                      OR oid IN (SELECT indexrelid FROM pg_index JOIN tables ON indrelid = relid)";
        self.run_sql("BEGIN").await;
        // What earlier transactions have read may not be reported yet.
        let before = self.number(sql).await;
        self.rows(statement).await;
        let read = self.number(sql).await - before;
        self.run_sql("ROLLBACK").await;
        read
    }

    /// Returns when another connection to this database waits for a lock.
    pub async fn wait_for_lock_waiter(&self) {
        let sql = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
        until("a statement waits for a lock", async || self.number(sql).await > 0).await;
    }
}

impl Real for Stores {
    async fn execute(&self, call: &Call) -> Answer {
        let (prefix, ttl) = (&*self.prefix, Duration::from_secs(60));
        let (records, locking) = (Records { prefix, ttl }, Locking { prefix, lease: ttl });
        match call {
            Call::Reserve(scope, record) => self.send(records.reserve(scope, record)).await,
            Call::Set(scope, record) => self.send(records.complete(scope, record)).await,
            Call::Withdraw(scope, record) => self.send(records.withdraw(scope, record)).await,
            Call::Acquire(scope) => self.send(locking.acquire(scope)).await,
            Call::Release(scope) => self.send(locking.release(scope)).await,
            call => self.call(&collection_of(call), async |database| execute_over(database, call).await).await,
        }
    }

    fn statements(&self, collection: &str) -> &Statements {
        if collection == REFUNDS.name { &self.refunds } else { &self.orders }
    }

    async fn rows(&self, Statement { sql, parameters }: Statement<'_>) -> Vec<Row> {
        native_stores::postgres::rows(&self.postgres, sql, parameters).await.unwrap()
    }

    async fn forget(&self, scope: Option<&KeyScope>) {
        let keys = match scope {
            Some(scope) => Records { prefix: &self.prefix, ttl: Duration::ZERO }.key(scope),
            None => format!("{}*", self.prefix),
        };
        let mut redis = self.redis.clone();
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg(keys).query_async(&mut redis).await.unwrap();
        for key in keys {
            let () = redis::cmd("DEL").arg(key).query_async(&mut redis).await.unwrap();
        }
    }
}

/// How long a request may wait for a database.
pub fn settings(place: Place<'_>) -> DatabaseSettings<'_> {
    DatabaseSettings { place, timeout: Duration::from_secs(60), lock_timeout: LOCK_TIMEOUT }
}

/// The collection that a call of the database is about.
pub fn collection_of(call: &Call) -> Collection {
    match call.scope() {
        Some(scope) if scope.collection == REFUNDS.name => REFUNDS,
        _ => ORDERS.collection,
    }
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
