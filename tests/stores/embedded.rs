//! The embedded store's statements compared with the simulated store, call by call, as the component sends them.

use std::rc::Rc;
use std::time::Duration;

use exactly_once::ListState;
use exactly_once::condition::Expected;
use exactly_once::error::DatabaseError;
use exactly_once::feed::{Cursor, FeedError};
use exactly_once::ports::{Clock, Feed, FeedRows, Insertion, List, Outlook, Page, Writers};
use exactly_once_stores::platform::{CommandError, Place, Platform, SendCommand, SendStatement, StatementError};
use exactly_once_stores::redis::{Command, Reply};
use exactly_once_stores::sql::{Parameter, Row, Statement, Statements, Value, feed_rows, outlook, page};
use exactly_once_stores::sqlite::{LOG_MODE, setup, statements};
use exactly_once_stores::{Database, Instance, Request};
use futures::executor::block_on;
use native_stores::OneshotSignals;
use orders::ORDERS;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rusqlite::Error;
use rusqlite::types::Value as SqliteValue;
use simulation::world::{Answer, Call, World};

use crate::feed::{orders, page_of};
use crate::native::{REFUNDS, execute_over, settings};
use crate::reading::order_of;
use crate::{CALLS, SEQUENCES, Seen, batch, collection, compare_conditional, conditional_calls, new_resource};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Two collections in one database. In memory: one connection needs no file.
struct Embedded {
    connection: rusqlite::Connection,
    orders: Statements,
    refunds: Statements,
}

impl Embedded {
    fn fresh() -> Self {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let embedded = Self { connection, orders: statements(&ORDERS.collection), refunds: statements(&REFUNDS) };
        for collection in [ORDERS.collection, REFUNDS, REFUNDS] {
            for sql in setup(&collection) {
                embedded.rows(Statement::plain(&sql));
            }
        }
        embedded
    }

    fn rows(&self, statement: Statement<'_>) -> Vec<Row> {
        self.try_rows(&statement).unwrap()
    }

    fn try_rows(&self, Statement { sql, parameters }: &Statement<'_>) -> Result<Vec<Row>, Error> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let names = statement.column_names();
        let names: Rc<[String]> = names.into_iter().map(str::to_owned).collect();
        let parameters = parameters.iter().map(|parameter| match parameter {
            Parameter::Text(text) | Parameter::NullableText(Some(text)) => SqliteValue::Text(text.clone()),
            Parameter::NullableText(None) => SqliteValue::Null,
            Parameter::Bytes(bytes) => SqliteValue::Blob(bytes.clone()),
            Parameter::Int64(number) => SqliteValue::Integer(*number),
        });
        let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| {
            let value = |index| {
                Ok(match row.get(index)? {
                    SqliteValue::Integer(number) => Value::Int64(number),
                    SqliteValue::Text(text) => Value::Text(text),
                    SqliteValue::Blob(bytes) => Value::Bytes(bytes),
                    SqliteValue::Real(_) | SqliteValue::Null => Value::Other,
                })
            };
            let values: rusqlite::Result<_> = (0..names.len()).map(value).collect();
            Ok(Row::new(names.clone(), values?))
        });
        rows?.collect()
    }

    fn statements(&self, collection: &str) -> &Statements {
        match collection {
            "orders" => &self.orders,
            _ => &self.refunds,
        }
    }

    fn page(&self, list: &List, after: Option<exactly_once::ResourceId>, limit: usize) -> Option<Page> {
        let statement = self.statements(list.collection).page(&list.customer, after, limit);
        page(&self.rows(statement), limit).unwrap()
    }

    fn state(&self, list: &List) -> ListState {
        self.page(list, None, 0).unwrap().state
    }

    /// Makes a call as the component makes it.
    fn execute(self: &Rc<Self>, call: &Call) -> Answer {
        let host = Host(self.clone());
        let instance = Instance::new(OneshotSignals);
        let request = Request::new(host, false);
        let collection = match call.scope() {
            Some(scope) if scope.collection == REFUNDS.name => REFUNDS,
            _ => ORDERS.collection,
        };
        let settings = settings(Place::Sqlite);
        let database = Database::new(&instance, &request, settings, &collection);
        block_on(execute_over(&database, call))
    }
}

/// A host whose SQLite this is.
#[derive(Clone)]
struct Host(Rc<Embedded>);

impl Clock for Host {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    /// Nothing else is under way.
    async fn sleep(&self, _: Duration) {}
}

impl Platform for Host {
    type Signals = OneshotSignals;

    fn spawn(&self, _: impl Future<Output = ()> + 'static) {
        panic!("a connection to SQLite is kept for ever");
    }

    fn write_line(&self, line: String) {
        panic!("{line}");
    }
}

impl SendStatement for Host {
    type Connection = ();

    async fn connect(&self, _: Place<'_>) -> Result<(), StatementError> {
        Ok(())
    }

    async fn rows(&self, (): &(), statement: &Statement<'_>) -> Result<Vec<Row>, StatementError> {
        if statement.sql.starts_with("PRAGMA journal_mode") {
            // What a file has.
            let mode = Value::Text(LOG_MODE.to_owned());
            return Ok(vec![Row::new(["journal_mode".to_owned()].into(), vec![mode])]);
        }
        self.0.try_rows(statement).map_err(|error| StatementError { sqlstate: None, text: error.to_string() })
    }
}

impl SendCommand for Host {
    type Link = ();

    async fn dial(&self, _: &str) -> Result<(), CommandError> {
        panic!("there is no Redis");
    }

    async fn send(&self, (): &(), _: &Command) -> Result<Reply, CommandError> {
        panic!("there is no Redis");
    }
}

#[test]
fn the_embedded_store_answers_as_the_simulated_one_does() {
    let mut seen = Seen::default();
    for seed in 0..SEQUENCES {
        let mut rng = StdRng::seed_from_u64(seed);
        let (store, mut world) = (Rc::new(Embedded::fresh()), World::default());
        for number in 0..CALLS {
            let collection = collection(&mut rng);
            let new = new_resource(&mut rng, collection);
            let list = List::from(&new.scope);
            let call = match rng.random_range(0..10) {
                0..3 => Call::Insert(Box::new(new)),
                3 => Call::InsertAll(batch(&mut rng)),
                4 => Call::Find(new.scope),
                5 => {
                    let after = rng.random_bool(0.5).then_some(new.id);
                    let limit = rng.random_range(1..=2);
                    let read = |page: Page| (page.resources, page.more);
                    let simulated = world.tables.page(&list, after, limit).map(read);
                    let real = store.page(&list, after, limit).map(read);
                    assert_eq!(simulated, real, "{seed}.{number}");
                    seen.count(real.map_or("unknown cursor", |_| "page"));
                    continue;
                }
                _ => {
                    let states = [world.tables.list_state(&list), store.state(&list)];
                    let [simulated, real] = conditional_calls(&mut rng, &new, states);
                    let snapshot = world.tables.snapshot();
                    let answers = [world.execute(&simulated, snapshot), store.execute(&real)];
                    let states = (world.tables.list_state(&list), store.state(&list));
                    compare_conditional(answers, states, &mut seen);
                    continue;
                }
            };
            let snapshot = world.tables.snapshot();
            let simulated = world.execute(&call, snapshot);
            let real = store.execute(&call);
            assert_eq!(simulated, real, "sequence {seed}, call {number}: {call:?}");
            seen.count_insertions(&real);
        }
        let snapshot = world.tables.snapshot();
        let simulated = world.execute(&Call::AskHistory, snapshot);
        assert_eq!(simulated, store.execute(&Call::AskHistory));
    }
    seen.assert_none_was_rare(&["held lock"]);
}

/// One writer: an order that is not committed keeps others from drawing a number.
impl Feed for Embedded {
    async fn look(&self, after: i64, limit: usize, among: Option<&Writers>) -> Result<Outlook, DatabaseError> {
        let rows = self.rows(self.orders.look(after, limit, among));
        Ok(outlook(rows.first()).unwrap())
    }

    async fn read(&self, after: i64, last: i64, limit: usize) -> Result<FeedRows, DatabaseError> {
        let rows = self.rows(self.orders.read(after, last, limit));
        Ok(feed_rows(&rows).unwrap())
    }
}

#[tokio::test]
async fn the_feed_is_in_order_and_a_cursor_without_its_order_is_not_valid() {
    let store = Rc::new(Embedded::fresh());
    let page = async |after: Option<Cursor>| page_of(&*store, after).await;
    let insert = |millisecond| {
        let call = Call::Insert(Box::new(order_of("c", millisecond)));
        let inserted = store.execute(&call);
        assert_eq!(inserted, Answer::Postgres(Insertion::Inserted));
    };
    let start = page(None).await.unwrap();
    assert_eq!(orders(&start), []);
    for millisecond in [5, 1, 4, 2] {
        insert(millisecond);
    }
    let first = page(Some(start.next)).await.unwrap();
    assert_eq!(orders(&first), [5, 1, 4]);
    assert_eq!(first, page(None).await.unwrap());
    let second = page(Some(first.next)).await.unwrap();
    assert_eq!(orders(&second), [2]);
    let last = page(Some(second.next)).await.unwrap();
    assert_eq!((orders(&last), last.next), (vec![], second.next));

    // The number of the newest order is drawn again after it was deleted.
    store.connection.execute("DELETE FROM orders WHERE seq = 4", []).unwrap();
    let gone = page(Some(second.next)).await;
    assert_eq!(gone, Err(FeedError::AnotherHistory));
    insert(7);
    let reused = page(Some(second.next)).await;
    assert_eq!(reused, Err(FeedError::AnotherHistory));
    assert_eq!(orders(&page(Some(first.next)).await.unwrap()), [7]);
}

#[test]
fn long_documents_make_short_pages() {
    let store = Rc::new(Embedded::fresh());
    let orders = [1, 2, 3].map(|millisecond| order_of("c", millisecond));
    for order in &orders {
        store.execute(&Call::Insert(Box::new(order.clone())));
    }
    let long = "UPDATE orders SET document = json_object('note', printf('%.600000c', 'x'))";
    store.connection.execute_batch(long).unwrap();
    let list = List::from(&orders[0].scope);
    let first = store.page(&list, None, 3).unwrap();
    assert_eq!((first.resources.len(), first.more), (2, true));
    let next = store.page(&list, Some(orders[1].id), 3).unwrap();
    assert_eq!((next.resources.len(), next.more), (1, false));
}

#[test]
fn no_statement_scans_the_table() {
    let store = Embedded::fresh();
    let mut rng = StdRng::seed_from_u64(1);
    let new = new_resource(&mut rng, "orders");
    let (customer, orders) = (&new.scope.customer, &store.orders);
    for Statement { sql, parameters } in [
        orders.insert(&new, TIMEOUT),
        orders.insert_based_on(&new, &Expected::Any, TIMEOUT),
        orders.find(customer, new.id),
        orders.find_by_key(&new.scope),
        orders.page(customer, None, 20),
        orders.page(customer, Some(new.id), 20),
        orders.look(7, 20, None),
        orders.read(7, 9, 20),
    ] {
        let sql = &format!("EXPLAIN QUERY PLAN {sql}");
        let plan = store.rows(Statement { sql, parameters });
        for step in plan.iter().filter_map(|row| row.text("detail")) {
            assert!(!step.contains("SCAN orders"), "{step}: {sql}");
        }
    }
}
