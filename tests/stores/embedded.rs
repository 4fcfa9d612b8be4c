//! The embedded store's statements compared with the simulated store, call by call, as the component sends them.

use std::rc::Rc;
use std::time::Duration;

use exactly_once::condition::Expected;
use exactly_once::feed::{Cursor, FeedError};
use exactly_once::ports::{Clock, PageRequest};
use exactly_once_stores::platform::{CommandError, Place, Platform, SendCommand, SendStatement, StatementError};
use exactly_once_stores::redis::{Command, Reply};
use exactly_once_stores::sql::{Parameter, Row, Statement, Statements, Value};
use exactly_once_stores::sqlite::{LOG_MODE, setup, statements};
use exactly_once_stores::{Database, Instance, Request};
use native_stores::OneshotSignals;
use orders::ORDERS;
use rusqlite::Error;
use rusqlite::types::Value as SqliteValue;
use simulation::world::{Answer, Call};

use crate::feed::{assert_short_list, orders, page};
use crate::native::{REFUNDS, collection_of, execute_over, settings};
use crate::reading::{insert, order_of};
use crate::{OF_DATABASE, Real, compare};

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
                embedded.try_rows(&Statement::plain(&sql)).unwrap();
            }
        }
        embedded
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
}

impl Real for Rc<Embedded> {
    async fn execute(&self, call: &Call) -> Answer {
        let instance = Instance::new(OneshotSignals);
        let request = Request::new(&instance, Host(self.clone()), false);
        let collection = collection_of(call);
        execute_over(&Database::new(&instance, &request, settings(Place::Sqlite), &collection), call).await
    }

    fn statements(&self, collection: &str) -> &Statements {
        if collection == REFUNDS.name { &self.refunds } else { &self.orders }
    }

    async fn rows(&self, statement: Statement<'_>) -> Vec<Row> {
        self.try_rows(&statement).unwrap()
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

#[tokio::test]
async fn the_embedded_store_answers_as_the_simulated_one_does() {
    compare(async || Rc::new(Embedded::fresh()), OF_DATABASE).await.assert_none_was_rare(&["held lock"]);
}

#[tokio::test]
async fn a_cursor_of_the_feed_without_its_order_is_not_valid() {
    let store = Rc::new(Embedded::fresh());
    let page = async |after: Option<Cursor>| page(&store, after).await;
    for millisecond in [5, 1, 4, 2] {
        insert(&store, &order_of("c", millisecond)).await;
    }
    let first = page(None).await.unwrap();
    let second = page(Some(first.next)).await.unwrap();
    assert_eq!((orders(&first), orders(&second)), (vec![5, 1, 4], vec![2]));
    // The number of the newest order is drawn again after it was deleted.
    store.connection.execute("DELETE FROM orders WHERE seq = 4", []).unwrap();
    assert_eq!(page(Some(second.next)).await, Err(FeedError::AnotherHistory));
    insert(&store, &order_of("c", 7)).await;
    assert_eq!(page(Some(second.next)).await, Err(FeedError::AnotherHistory));
    assert_eq!(orders(&page(Some(first.next)).await.unwrap()), [7]);
}

#[tokio::test]
async fn long_documents_make_short_pages() {
    let store = Rc::new(Embedded::fresh());
    for millisecond in 1..=3 {
        insert(&store, &order_of("c", millisecond)).await;
    }
    let long = "UPDATE orders SET document = json_object('note', printf('%.600000c', 'x'))";
    store.connection.execute_batch(long).unwrap();
    assert_short_list(&store).await;
}

#[test]
fn no_statement_scans_the_table() {
    let store = Embedded::fresh();
    let new = order_of("c", 1);
    let (customer, orders) = (&new.scope.customer, &store.orders);
    for Statement { sql, parameters } in [
        orders.insert(&new, TIMEOUT),
        orders.insert_based_on(&new, &Expected::Any, TIMEOUT),
        orders.find(customer, new.id),
        orders.find_by_key(&new.scope),
        orders.page(customer, PageRequest::newest(20)),
        orders.page(customer, PageRequest { after: Some(new.id), ..PageRequest::newest(20) }),
        orders.look(7, 20, None),
        orders.read(7, 9, 20),
    ] {
        let sql = &format!("EXPLAIN QUERY PLAN {sql}");
        let plan = store.try_rows(&Statement { sql, parameters }).unwrap();
        for step in plan.iter().filter_map(|row| row.text("detail")) {
            assert!(!step.contains("SCAN orders"), "{step}: {sql}");
        }
    }
}
