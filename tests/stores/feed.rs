//! The feed's statements on real databases, with each fault at its exact place: what commits late is not skipped, and
//! each step of [`exactly_once::feed`] is needed.

use std::cell::Cell;
use std::time::{Duration, Instant};

use exactly_once::error::DatabaseError;
use exactly_once::feed::{Cursor, FeedError, FeedPage, FeedRequest, next_page};
use exactly_once::ports::{Clock, Feed, FeedRows, List, Outlook, PageRequest, Writers};
use exactly_once_stores::sql;

use crate::Real;
use crate::native::Stores;
use crate::reading::{insert, order_of};

/// How long a page waits for writers here.
const PATIENCE: Duration = Duration::from_millis(300);

/// The clock of the machine.
struct Machine(Instant);

impl Clock for Machine {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

fn request(after: Option<Cursor>) -> FeedRequest {
    FeedRequest { after, limit: 3, wait: Duration::ZERO }
}

/// A database that is looked at through one connection and read through another.
struct Two<'s, R> {
    look: &'s R,
    read: &'s R,
}

impl<R: Real> Feed for Two<'_, R> {
    async fn look(&self, after: i64, limit: usize, among: Option<&Writers>) -> Result<Outlook, DatabaseError> {
        Ok(self.look.look(after, limit, among).await)
    }

    async fn read(&self, after: i64, last: i64, limit: usize) -> Result<FeedRows, DatabaseError> {
        Ok(self.read.read(after, last, limit).await)
    }
}

async fn page_of(database: &impl Feed, after: Option<Cursor>) -> Result<FeedPage, FeedError> {
    next_page(database, &Machine(Instant::now()), &request(after), PATIENCE).await
}

/// The next page of a database.
pub async fn page(store: &impl Real, after: Option<Cursor>) -> Result<FeedPage, FeedError> {
    page_of(&Two { look: store, read: store }, after).await
}

/// The orders of a page, by the milliseconds in their ids.
pub fn orders(page: &FeedPage) -> Vec<u128> {
    let last = |entry: &exactly_once::ports::FeedEntry| u128::from_be_bytes(*entry.id.as_bytes()) & 0xffff;
    page.entries.iter().map(last).collect()
}

/// An order of a transaction that stays open.
async fn begin(stores: &Stores, millisecond: u128) -> Stores {
    let open = stores.second_connection().await;
    open.run_sql("BEGIN").await;
    insert(&open, &order_of("c", millisecond)).await;
    open
}

/// In a subtransaction, beside a stronger lock, at another level, by another role, and into a partition by its name.
#[tokio::test]
async fn every_way_to_write_is_waited_for() {
    for (begin, end, shown) in [
        ("BEGIN;", "ROLLBACK", &[6][..]),
        ("BEGIN; SAVEPOINT s;", "COMMIT", &[5, 6]),
        ("SET default_transaction_isolation = 'serializable'; BEGIN;", "COMMIT", &[5, 6]),
        ("CREATE ROLE {} ; GRANT SELECT, INSERT ON orders TO {}; BEGIN; SET LOCAL ROLE {};", "COMMIT", &[5, 6]),
    ] {
        let stores = Stores::fresh().await;
        let role = format!("feed_{}", uuid::Uuid::new_v4().simple());
        let open = stores.second_connection().await;
        open.run_sql(&begin.replace("{}", &role)).await;
        insert(&open, &order_of("c", 5)).await;
        insert(&stores, &order_of("d", 6)).await;
        if begin.contains("SAVEPOINT") {
            open.run_sql("RELEASE s; LOCK TABLE orders IN SHARE ROW EXCLUSIVE MODE").await;
        }
        assert_eq!(orders(&page(&stores, None).await.unwrap()), [], "{begin}");
        open.run_sql(end).await;
        assert_eq!(orders(&page(&stores, None).await.unwrap()), shown);
        if begin.contains("ROLE") {
            stores.run_sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
        }
    }
    let stores = Stores::fresh().await;
    stores.run_sql("DROP TABLE orders; SELECT create_resource_table('orders', 'order', 3)").await;
    let open = stores.second_connection().await;
    let of_c = "SELECT right(tableoid::regclass::text, 1)::bigint FROM orders";
    insert(&stores, &order_of("c", 5)).await;
    let number = stores.number(of_c).await;
    open.run_sql(&format!(
        "BEGIN; INSERT INTO orders_{number} (order_id, customer_id, idempotency_key, fingerprint, created_at, \
         document) \
         SELECT '01970000-0000-7000-8000-000000000006', 'c', 'k', '', now(), document FROM orders"
    ))
    .await;
    insert(&stores, &order_of("d", 7)).await;
    assert_eq!(orders(&page(&stores, None).await.unwrap()), []);
    open.run_sql("COMMIT").await;
    assert_eq!(orders(&page(&stores, None).await.unwrap()), [5, 6, 7]);
}

/// The order commits between the snapshot of a look and its look at the writers: it is in neither.
#[tokio::test]
async fn an_order_that_commits_between_a_snapshot_and_the_look_at_the_writers_is_read() {
    for is_later in [true, false] {
        let stores = Stores::fresh().await;
        let open = begin(&stores, 5).await;
        insert(&stores, &order_of("c", 6)).await;
        let look = stores.second_connection().await;
        // The statements of this transaction have the snapshot of the first one.
        look.run_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM orders").await;
        open.run_sql("COMMIT").await;
        let two = Two { look: &look, read: if is_later { &stores } else { &look } };
        // Read in the snapshot of the look, the order would be skipped.
        let expected: &[_] = if is_later { &[5, 6] } else { &[6] };
        assert_eq!(orders(&page_of(&two, None).await.unwrap()), expected);
    }
}

/// A clock whose first sleep is a transaction's chance to be prepared.
struct Preparing<'s> {
    machine: Machine,
    open: &'s Stores,
    done: Cell<bool>,
}

impl Clock for Preparing<'_> {
    fn now(&self) -> Duration {
        self.machine.now()
    }

    async fn sleep(&self, time: Duration) {
        if !self.done.replace(true) {
            self.open.run_sql("PREPARE TRANSACTION 'late'").await;
        }
        self.machine.sleep(time).await;
    }
}

#[tokio::test]
async fn an_order_of_a_transaction_that_is_prepared_meanwhile_is_waited_for() {
    let programs = devstack::Programs::find_or_install(false).unwrap();
    let folder = fixtures::Shared::told().unwrap().folder.join("feed-prepared");
    let mut postgres = devstack::Postgres::start(&programs, &folder).unwrap();
    let stores = Stores::on(&postgres.url("postgres")).await;
    stores.run_sql("ALTER SYSTEM SET max_prepared_transactions = 2").await;
    postgres.restart().unwrap();
    let stores = stores.second_connection().await;

    let open = begin(&stores, 5).await;
    insert(&stores, &order_of("c", 6)).await;
    let clock = Preparing { machine: Machine(Instant::now()), open: &open, done: Cell::new(false) };
    let nothing = next_page(&Two { look: &stores, read: &stores }, &clock, &request(None), PATIENCE).await;
    assert!(clock.done.get());
    assert_eq!(orders(&nothing.unwrap()), []);
    // One that is prepared already.
    assert_eq!(orders(&page(&stores, None).await.unwrap()), []);
    stores.run_sql("COMMIT PREPARED 'late'").await;
    assert_eq!(orders(&page(&stores, None).await.unwrap()), [5, 6]);
    postgres.stop().unwrap();
    devstack::Postgres::remove(&folder).unwrap();
}

#[tokio::test]
async fn a_cursor_is_valid_as_long_as_numbers_mean_the_same() {
    let stores = Stores::fresh().await;
    insert(&stores, &order_of("c", 1)).await;
    let mut after = page(&stores, None).await.unwrap().next;
    for (sql, error) in [
        ("DELETE FROM orders", None),
        ("DELETE FROM refunds", None),
        ("SELECT forget_records()", Some(FeedError::AnotherHistory)),
        ("TRUNCATE orders", Some(FeedError::AnotherHistory)),
        ("DROP TABLE orders; SELECT create_resource_table('orders', 'order')", Some(FeedError::AnotherHistory)),
    ] {
        stores.run_sql(sql).await;
        assert_eq!(page(&stores, Some(after)).await.err(), error, "{sql}");
        insert(&stores, &order_of("c", 2)).await;
        after = page(&stores, None).await.unwrap().next;
        stores.run_sql("DELETE FROM orders").await;
    }
    // Another table's cursor.
    let other = sql::outlook(stores.rows(stores.statements("refunds").look(0, 1, None)).await.first()).unwrap().mark;
    assert_ne!(after.mark, other);
}

#[tokio::test]
async fn long_documents_make_short_pages() {
    let stores = Stores::fresh().await;
    for millisecond in 1..=3 {
        insert(&stores, &order_of("c", millisecond)).await;
    }
    stores.run_sql("UPDATE orders SET document = json_build_object('note', repeat('x', 600000))").await;
    let first = page(&stores, None).await.unwrap();
    let next = page(&stores, Some(first.next)).await.unwrap();
    assert_eq!((orders(&first), orders(&next)), (vec![1, 2], vec![3]));
    assert_short_list(&stores).await;
}

/// Asserts that a customer's list of the orders 1 to 3, which are long, has two in a page of three, newest first.
pub async fn assert_short_list(store: &impl Real) {
    let (list, id) = (List::from(&order_of("c", 1).scope), |millisecond| order_of("c", millisecond).id);
    for (after, expected, more) in [(None, &[3, 2][..], true), (Some(2), &[1], false)] {
        let page = store.page(&list, PageRequest { after: after.map(id), ..PageRequest::newest(3) }).await.unwrap();
        assert!(page.resources.iter().map(|stored| stored.id).eq(expected.iter().copied().map(id)), "{page:?}");
        assert_eq!(page.more, more);
    }
}

#[tokio::test]
async fn pages_are_read_along_an_index() {
    for partitions in [0, 3] {
        let stores = Stores::fresh().await;
        let table = format!("DROP TABLE orders; SELECT create_resource_table('orders', 'order', {partitions})");
        stores.run_sql(&table).await;
        let rows = "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, created_at, document) \
                    SELECT gen_random_uuid(), 'c' || n % 100, n::text, '', now(), '{}' \
                    FROM generate_series(1, 20000) n";
        stores.run_sql(rows).await;
        stores.run_sql("VACUUM ANALYZE orders").await;
        let statements = stores.statements("orders");
        for after in [0, 10_000, 19_990] {
            for statement in [statements.look(after, 100, None), statements.read(after, after + 100, 100)] {
                let read = stores.entries_read(statement).await;
                assert!((10..=500).contains(&read), "{read}");
            }
        }
    }
}
