//! The feed's statements on real databases, with each fault at its exact place: what commits late is not skipped, and
//! each step of [`exactly_once::feed`] is needed.

use std::cell::Cell;
use std::time::{Duration, Instant};

use exactly_once::error::DatabaseError;
use exactly_once::feed::{Cursor, FeedError, FeedPage, FeedRequest, next_page};
use exactly_once::ports::{Clock, Feed, FeedRows, NewResource, Outlook, Writers};
use simulation::world::Call;

use crate::native::{Stores, orders_of};
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

/// The next page of a database.
pub async fn page_of(database: &impl Feed, after: Option<Cursor>) -> Result<FeedPage, FeedError> {
    next_page(database, &Machine(Instant::now()), &request(after), PATIENCE).await
}

async fn page(stores: &Stores, after: Option<Cursor>) -> Result<FeedPage, FeedError> {
    page_of(stores, after).await
}

/// The orders of a page, by the milliseconds in their ids.
pub fn orders(page: &FeedPage) -> Vec<u128> {
    let last = |entry: &exactly_once::ports::FeedEntry| u128::from_be_bytes(*entry.id.as_bytes()) & 0xffff;
    page.entries.iter().map(last).collect()
}

fn call(millisecond: u128) -> (NewResource, Call) {
    let new = order_of("c", millisecond);
    let call = Call::Insert(Box::new(new.clone()));
    (new, call)
}

/// An order of a transaction that stays open.
async fn begin(stores: &Stores, millisecond: u128) -> Stores {
    let open = stores.second_connection().await;
    open.run_sql("BEGIN").await;
    insert(&open, &order_of("c", millisecond)).await;
    open
}

#[tokio::test]
async fn pages_are_in_order_and_the_last_one_is_empty() {
    let stores = Stores::fresh().await;
    let empty = page(&stores, None).await.unwrap();
    assert_eq!(orders(&empty), []);
    let mut after = Some(empty.next);
    for millisecond in [5, 1, 4, 2] {
        insert(&stores, &order_of("c", millisecond)).await;
    }
    for expected in [&[5, 1, 4][..], &[2], &[], &[]] {
        let next = page(&stores, after).await.unwrap();
        assert_eq!(orders(&next), expected);
        after = Some(next.next);
    }
    let first = page(&stores, None).await.unwrap();
    assert_eq!(orders(&first), [5, 1, 4]);
    let entry = &first.entries[0];
    let order = order_of("c", 5);
    assert_eq!((&*entry.customer, entry.id), ("c", order.id));
    assert_eq!(entry.document, order.document);
}

/// T1 draws the lower number and stays open; T2 commits.
#[tokio::test]
async fn nothing_is_shown_beyond_an_order_that_is_not_committed() {
    for end in ["COMMIT", "ROLLBACK"] {
        let stores = Stores::fresh().await;
        insert(&stores, &order_of("c", 4)).await;
        let after = page(&stores, None).await.unwrap().next;
        let open = begin(&stores, 5).await;
        insert(&stores, &order_of("c", 6)).await;

        let waited = Instant::now();
        let nothing = page(&stores, Some(after)).await.unwrap();
        assert!(waited.elapsed() >= PATIENCE);
        assert_eq!((orders(&nothing), nothing.next), (vec![], after));

        // It ends while a page waits for it.
        let ending = async {
            tokio::time::sleep(PATIENCE / 3).await;
            open.run_sql(end).await;
        };
        let (next, ()) = tokio::join!(page(&stores, Some(after)), ending);
        let expected = match end {
            "COMMIT" => vec![5, 6],
            _ => vec![6],
        };
        assert_eq!(orders(&next.unwrap()), expected);
    }
}

/// In a subtransaction, beside a stronger lock, at another level, by another role, and into a partition by its name.
#[tokio::test]
async fn every_way_to_write_is_waited_for() {
    let begins = [
        "BEGIN; SAVEPOINT s;",
        "SET default_transaction_isolation = 'serializable'; BEGIN;",
        "CREATE ROLE {} ; GRANT SELECT, INSERT ON orders TO {}; BEGIN; SET LOCAL ROLE {};",
    ];
    for begin in begins {
        let stores = Stores::fresh().await;
        let role = format!("feed_{}", uuid::Uuid::new_v4().simple());
        let open = stores.second_connection().await;
        open.run_sql(&begin.replace("{}", &role)).await;
        insert(&open, &order_of("c", 5)).await;
        insert(&stores, &order_of("d", 6)).await;
        if begin.contains("SAVEPOINT") {
            let stronger = "RELEASE s; LOCK TABLE orders IN SHARE ROW EXCLUSIVE MODE";
            open.run_sql(stronger).await;
        }
        assert_eq!(orders(&page(&stores, None).await.unwrap()), [], "{begin}");
        open.run_sql("COMMIT").await;
        assert_eq!(orders(&page(&stores, None).await.unwrap()), [5, 6]);
        if begin.contains("ROLE") {
            let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
            stores.run_sql(&drop).await;
        }
    }
    let stores = Stores::fresh().await;
    stores.run_sql("DROP TABLE orders; SELECT create_resource_table('orders', 'order', 3)").await;
    let open = stores.second_connection().await;
    let (new, _) = call(5);
    let of_c = "SELECT right(tableoid::regclass::text, 1)::bigint FROM orders";
    insert(&stores, &new).await;
    let number = stores.number(of_c).await;
    open.run_sql(&format!(
        "BEGIN; INSERT INTO orders_{number} (order_id, customer_id, idempotency_key, fingerprint, created_at, \
         document) \
         SELECT '01970000-0000-7000-8000-000000000006', 'c', 'k', '', now(), document FROM orders"
    ))
    .await;
    insert(&stores, &order_of("d", 7)).await;
    let first = page(&stores, None).await.unwrap();
    assert_eq!(orders(&first), []);
    open.run_sql("COMMIT").await;
    assert_eq!(orders(&page(&stores, None).await.unwrap()), [5, 6, 7]);
}

/// A database that is looked at through one connection and read through another. `hidden`: its writers are not seen.
struct Two<'s> {
    look: &'s Stores,
    read: &'s Stores,
    hidden: bool,
}

impl Feed for Two<'_> {
    async fn look(&self, after: i64, limit: usize, among: Option<&Writers>) -> Result<Outlook, DatabaseError> {
        let mut outlook = Feed::look(self.look, after, limit, among).await?;
        if self.hidden {
            outlook.writers = Writers::default();
        }
        Ok(outlook)
    }

    async fn read(&self, after: i64, last: i64, limit: usize) -> Result<FeedRows, DatabaseError> {
        Feed::read(self.read, after, last, limit).await
    }
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
        let two = Two { look: &look, read: if is_later { &stores } else { &look }, hidden: false };
        let page = page_of(&two, None).await.unwrap();
        // Read in the snapshot of the look, the order would be skipped.
        let expected = if is_later { vec![5, 6] } else { vec![6] };
        assert_eq!(orders(&page), expected);
    }
}

/// Without step B an order is skipped: what the other tests demand is not there by chance.
#[tokio::test]
async fn without_waiting_for_the_writers_an_order_is_skipped() {
    let stores = Stores::fresh().await;
    let open = begin(&stores, 5).await;
    insert(&stores, &order_of("c", 6)).await;
    let two = Two { look: &stores, read: &stores, hidden: true };
    let first = page_of(&two, None).await.unwrap();
    assert_eq!(orders(&first), [6]);
    open.run_sql("COMMIT").await;
    let next = page_of(&two, Some(first.next)).await.unwrap();
    assert_eq!(orders(&next), []);
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
    let nothing = next_page(&stores, &clock, &request(None), PATIENCE).await;
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
    let valid = ["DELETE FROM orders", "DELETE FROM refunds"];
    let invalid = [
        "SELECT forget_records()",
        "TRUNCATE orders",
        "DROP TABLE orders; SELECT create_resource_table('orders', 'order')",
    ];
    for (sql, is_valid) in valid.map(|sql| (sql, true)).into_iter().chain(invalid.map(|sql| (sql, false))) {
        stores.run_sql(sql).await;
        let next = page(&stores, Some(after)).await;
        assert_eq!(next.is_ok(), is_valid, "{sql}");
        if let Err(error) = next {
            assert_eq!(error, FeedError::AnotherHistory);
        }
        insert(&stores, &order_of("c", 2)).await;
        let first = page(&stores, None).await.unwrap();
        after = first.next;
        stores.run_sql("DELETE FROM orders").await;
    }
    // Another table's cursor.
    let refunds = Cursor { mark: after.mark, ..after };
    let statement = stores.statements("refunds").look(0, 1, None);
    let other = stores.outlook(statement).await.mark;
    assert_ne!(refunds.mark, other);
}

#[tokio::test]
async fn long_documents_make_short_pages() {
    let stores = Stores::fresh().await;
    let list = orders_of(&order_of("c", 1).scope.customer);
    for millisecond in 1..=3 {
        insert(&stores, &order_of("c", millisecond)).await;
    }
    let long = "UPDATE orders SET document = json_build_object('note', repeat('x', 600000))";
    stores.run_sql(long).await;
    let first = page(&stores, None).await.unwrap();
    assert_eq!(orders(&first), [1, 2]);
    let next = page(&stores, Some(first.next)).await.unwrap();
    assert_eq!(orders(&next), [3]);
    // A customer's list as well, newest first.
    for (after, expected, more) in [(None, &[3, 2][..], true), (Some(2), &[1], false)] {
        let after = after.map(|millisecond| order_of("c", millisecond).id);
        let page = stores.page(&list, after, 3).await.unwrap();
        let ids: Vec<_> = page.resources.iter().map(|stored| stored.id).collect();
        let expected: Vec<_> = expected.iter().map(|millisecond| order_of("c", *millisecond).id).collect();
        assert_eq!((ids, page.more), (expected, more));
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
                let plan = stores.plan(statement).await;
                assert!(plan.contains("seq_idx") && !plan.contains("Seq Scan on orders"), "{plan}");
            }
        }
    }
}
