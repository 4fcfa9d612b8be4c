//! The embedded store's statements compared with the simulated store, call by call, as the component sends them.

use std::time::Duration;

use exactly_once::condition::Expected;
use exactly_once::error::DatabaseUnavailable;
use exactly_once::feed::{Cursor, FeedError};
use exactly_once::ports::{
    ConditionalInsertion, Feed, FeedRows, Insertion, List, Outlook, Page, Writers,
};
use exactly_once::{KeyScope, ListState};
use exactly_once_stores::postgres::{
    Parameter, Row, Statement, Statements, attempts, conditional_insertion, feed_rows, found,
    history, insertion, outlook, page,
};
use exactly_once_stores::sqlite::{setup, statements};
use orders::ORDERS;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rusqlite::types::Value;
use simulation::world::{Answer, Call, World};

use crate::feed::{orders, page_of};
use crate::native::REFUNDS;
use crate::reading::order_of;
use crate::{
    CALLS, SEQUENCES, Seen, batch, collection, compare_conditional, conditional_calls, new_resource,
};

const TIMEOUT: Duration = Duration::from_secs(2);

/// A row of SQLite's.
struct SqliteRow(Vec<(String, Value)>);

impl SqliteRow {
    fn get(&self, column: &str) -> Option<&Value> {
        let (_, value) = self.0.iter().find(|(name, _)| name == column)?;
        Some(value)
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

/// Two collections in one database. In memory: one connection needs no file.
struct Embedded {
    connection: rusqlite::Connection,
    orders: Statements,
    refunds: Statements,
}

impl Embedded {
    fn fresh() -> Self {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let embedded = Self {
            connection,
            orders: statements(&ORDERS.collection),
            refunds: statements(&REFUNDS),
        };
        for collection in [ORDERS.collection, REFUNDS, REFUNDS] {
            for sql in setup(&collection) {
                let parameters = Vec::new();
                embedded.rows(Statement {
                    sql: &sql,
                    parameters,
                });
            }
        }
        embedded
    }

    fn rows(&self, Statement { sql, parameters }: Statement<'_>) -> Vec<SqliteRow> {
        let mut statement = self.connection.prepare_cached(sql).unwrap();
        let names: Vec<String> = statement
            .column_names()
            .iter()
            .map(ToString::to_string)
            .collect();
        let parameters = parameters.into_iter().map(|parameter| match parameter {
            Parameter::Text(text) | Parameter::NullableText(Some(text)) => Value::Text(text),
            Parameter::NullableText(None) => Value::Null,
            Parameter::Bytes(bytes) => Value::Blob(bytes),
            Parameter::Int64(number) => Value::Integer(number),
        });
        let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| {
            let value = |(index, name): (usize, &String)| Ok((name.clone(), row.get(index)?));
            names
                .iter()
                .enumerate()
                .map(value)
                .collect::<rusqlite::Result<_>>()
                .map(SqliteRow)
        });
        rows.unwrap().collect::<rusqlite::Result<_>>().unwrap()
    }

    fn statements(&self, collection: &str) -> &Statements {
        match collection {
            "orders" => &self.orders,
            _ => &self.refunds,
        }
    }

    fn find_by_key(&self, scope: &KeyScope) -> Option<exactly_once::ports::StoredResource> {
        let statement = self.statements(scope.collection).find_by_key(scope);
        found(self.rows(statement).first()).unwrap()
    }

    fn page(
        &self,
        list: &List,
        after: Option<exactly_once::ResourceId>,
        limit: usize,
    ) -> Option<Page> {
        let statement = self
            .statements(list.collection)
            .page(&list.customer, after, limit);
        page(&self.rows(statement), limit).unwrap()
    }

    fn state(&self, list: &List) -> ListState {
        self.page(list, None, 0).unwrap().state
    }

    /// Sends what the component sends for a call, and reads the answer as it does.
    fn execute(&self, call: &Call) -> Answer {
        match call {
            Call::Insert(new) => Answer::Postgres(match self.find_by_key(&new.scope) {
                Some(stored) => Insertion::Existing(stored),
                None => {
                    let statement = self.statements(new.scope.collection).insert(new, TIMEOUT);
                    let rows = self.rows(statement);
                    let row = rows.first();
                    row.map_or(Insertion::Conflict, |_| insertion(row).unwrap().value)
                }
            }),
            Call::InsertAll(batch) => {
                let batch: Vec<_> = batch.iter().collect();
                let statements = self.statements(batch[0].scope.collection);
                let rows = self.rows(statements.insert_all(&batch));
                if let [new] = batch[..] {
                    // The statement for one must find what the first one left.
                    assert!(self.rows(statements.insert_new(new)).is_empty());
                }
                Answer::Attempts(attempts(&batch, &rows))
            }
            Call::Find(scope) => Answer::Found(self.find_by_key(scope)),
            Call::AskHistory => {
                let rows = self.rows(self.orders.history());
                rows.first().and_then(history).expect("a history");
                Answer::History
            }
            Call::InsertBasedOn(new, expected) => {
                let statements = self.statements(new.scope.collection);
                let rows = self.rows(statements.insert_based_on(new, expected, TIMEOUT));
                if let row @ Some(_) = rows.first() {
                    let inserted = conditional_insertion(row, expected).unwrap();
                    return Answer::Conditional(inserted.value);
                }
                let state = self.state(&List::from(&new.scope));
                Answer::Conditional(match self.find_by_key(&new.scope) {
                    Some(stored) => ConditionalInsertion::Existing(stored),
                    None if expected.is_met_by(&state) => ConditionalInsertion::Conflict,
                    None => ConditionalInsertion::Stale(state),
                })
            }
            _ => panic!("the component does not send this to a database"),
        }
    }
}

#[test]
fn the_embedded_store_answers_as_the_simulated_one_does() {
    let mut seen = Seen::default();
    for seed in 0..SEQUENCES {
        let mut rng = StdRng::seed_from_u64(seed);
        let (store, mut world) = (Embedded::fresh(), World::default());
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
    async fn look(
        &self,
        after: i64,
        limit: usize,
        among: Option<&Writers>,
    ) -> Result<Outlook, DatabaseUnavailable> {
        let rows = self.rows(self.orders.look(after, limit, among));
        Ok(outlook(rows.first()).unwrap())
    }

    async fn read(
        &self,
        after: i64,
        last: i64,
        limit: usize,
    ) -> Result<FeedRows, DatabaseUnavailable> {
        let rows = self.rows(self.orders.read(after, last, limit));
        Ok(feed_rows(&rows).unwrap())
    }
}

#[tokio::test]
async fn the_feed_is_in_order_and_a_cursor_without_its_order_is_not_valid() {
    let store = Embedded::fresh();
    let page = async |after: Option<Cursor>| page_of(&store, after).await;
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
    store
        .connection
        .execute("DELETE FROM orders WHERE seq = 4", [])
        .unwrap();
    let gone = page(Some(second.next)).await;
    assert_eq!(gone, Err(FeedError::AnotherHistory));
    insert(7);
    let reused = page(Some(second.next)).await;
    assert_eq!(reused, Err(FeedError::AnotherHistory));
    assert_eq!(orders(&page(Some(first.next)).await.unwrap()), [7]);
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
