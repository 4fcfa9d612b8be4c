//! Cells: a table that is fenced refuses the new rows of other slots, whatever inserts them and whenever the slots were
//! given up; and a move of slots that is killed anywhere leaves each slot to one database at most, and loses no row.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use exactly_once::condition::Expected;
use exactly_once::error::DatabaseError::{Elsewhere, Unavailable};
use exactly_once::group_commit::Batches;
use exactly_once::ports::{
    Attempt, ConditionalResources, Insertion, NewResource, PageRequest, ResourceLists, Resources, ResourcesByKey,
};
use fixtures::connect;
use migrator::move_slots;
use orders::ORDERS;

use crate::native::Stores;
use crate::reading::{insert, order_of};

/// The slots of these customers, by `printf %s ann | sha256sum`: 4998… and 6725….
const ANN: &str = "{[294,295)}";
const BEN: &str = "{[412,413)}";

/// A database whose table of orders has these slots.
async fn cell(slots: &str) -> Stores {
    let stores = Stores::fresh().await;
    stores.run_sql(&format!("SELECT own_slots('orders', '{slots}')")).await;
    stores
}

/// Creates an order as a request does that is no first attempt.
async fn create(stores: &Stores, new: &NewResource) -> Result<Insertion, exactly_once::error::DatabaseError> {
    stores.call(&ORDERS.collection, async |it| it.insert_unless_exists(new).await.map(|found| found.value)).await
}

#[tokio::test]
async fn a_fenced_table_has_no_new_row_of_another_slot_and_hides_no_old_one() {
    for partitions in [0, 3] {
        let stores = Stores::fresh().await;
        let table = format!("DROP TABLE orders; SELECT create_resource_table('orders', 'order', {partitions})");
        stores.run_sql(&table).await;
        let (old, new, other) = (order_of("ann", 1), order_of("ann", 2), order_of("ben", 3));
        insert(&stores, &old).await;
        stores.run_sql(&format!("SELECT own_slots('orders', '{{[0,1024)}}'::int4multirange - '{ANN}')")).await;
        let refused = async |it: &exactly_once_stores::Database<'_, native_stores::Native>| {
            assert_eq!(it.insert_unless_exists(&new).await, Err(Elsewhere));
            for expected in [Expected::Any, Expected::OneOf(Vec::new())] {
                assert_eq!(it.insert_based_on(&new, &expected).await, Err(Elsewhere));
            }
            assert_eq!(it.insert_new(&new).await, Attempt::Undecided);
            // They share a statement, and each gets one of its own then.
            assert_eq!(it.insert_all(&[&new, &other]).await, Err(Unavailable));
            assert_eq!(it.page(&new.scope.customer, PageRequest::newest(1)).await, Err(Elsewhere));
            assert_eq!(it.find(&new.scope.customer, new.id).await, Err(Elsewhere));
            assert_eq!(it.find_by_key(&new.scope).await, Err(Elsewhere));
            // Rows never change.
            assert_eq!(it.find(&old.scope.customer, old.id).await.map(|row| row.unwrap().id), Ok(old.id));
            assert_eq!(it.find_by_key(&old.scope).await.map(|row| row.value.unwrap().id), Ok(old.id));
        };
        stores.call(&ORDERS.collection, refused).await;
        assert!(matches!(create(&stores, &old).await, Ok(Insertion::Existing(_))));
        insert(&stores, &other).await;
        assert_eq!(stores.number("SELECT count(*) FROM orders").await, 2);
    }
}

/// The slots are given up before, while and after another transaction inserts.
#[tokio::test]
async fn slots_are_given_up_between_insertions_in_every_isolation_level() {
    for level in ["read committed", "repeatable read", "serializable"] {
        let stores = cell("{[0,1024)}").await;
        let [inserter, giver] = [stores.second_connection().await, stores.second_connection().await];
        inserter.run_sql(&format!("SET default_transaction_isolation = '{level}'")).await;
        let give = format!("SELECT give_slots('orders', '{ANN}', 'another')");

        inserter.run_sql("BEGIN").await;
        insert(&inserter, &order_of("ann", 1)).await;
        let client = connect(&stores.database_url).await.unwrap();
        let error = client.batch_execute(&give).await.unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("55P03"), "it waits, and for a short time: {error}");
        inserter.run_sql("COMMIT").await;

        giver.run_sql("BEGIN").await;
        giver.run_sql(&give).await;
        let new = order_of("ann", 2);
        let end = async {
            stores.wait_for_lock_waiter().await;
            giver.run_sql("COMMIT").await;
        };
        let (created, ()) = tokio::join!(create(&inserter, &new), end);
        assert_eq!(created, Err(Elsewhere), "{level}");
        assert_eq!(stores.number("SELECT count(*) FROM orders").await, 1);
        insert(&inserter, &order_of("ben", 3)).await;
    }
}

#[tokio::test]
async fn slots_are_given_to_one_database_and_taken_with_the_newest_ticket() {
    let stores = cell("{[0,1024)}").await;
    let client = connect(&stores.database_url).await.unwrap();
    let run =
        async |sql: &str| client.batch_execute(sql).await.map_err(|e| e.as_db_error().unwrap().message().to_owned());
    let give = |receiver: &str| format!("SELECT give_slots('orders', '{BEN}', '{receiver}')");
    for _ in 0..2 {
        run(&give("one")).await.unwrap();
    }
    assert!(run(&give("two")).await.unwrap_err().contains("neither here nor given up for two"));
    run(r#"SELECT take_slots('orders', '{"412": 2}')"#).await.unwrap();
    run(&give("two")).await.unwrap();
    // As of a program that has slept meanwhile.
    let late = run(r#"SELECT take_slots('orders', '{"412": 2}')"#).await;
    assert!(late.unwrap_err().contains("moved on since"));
    // It would read the slots as they were before the lock.
    assert!(run("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT lock_slots('orders')").await.is_err());
}

/// One number is drawn before another one and committed after it, between two batches of the first copy.
#[tokio::test]
async fn a_row_that_is_committed_late_keeps_its_place() {
    let [from, to] = [cell("{[0,1024)}").await, cell("{}").await];
    from.run_sql(
        "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, created_at, document) \
         SELECT gen_random_uuid(), 'ann', n::text, '', now(), '{}' FROM generate_series(1, 501) AS n",
    )
    .await;
    let (late, blocker) = (from.second_connection().await, to.second_connection().await);
    blocker.run_sql("BEGIN; LOCK TABLE orders IN SHARE MODE").await;
    let (source, target) = (from.database_url.clone(), to.database_url.clone());
    let moving = tokio::spawn(async move { move_slots(&source, &target, "orders", ANN).await });
    to.wait_for_lock_waiter().await;
    late.run_sql("BEGIN").await;
    insert(&late, &order_of("ann", 1)).await;
    insert(&from, &order_of("ann", 2)).await;
    blocker.run_sql("COMMIT").await;
    from.wait_for_lock_waiter().await;
    late.run_sql("COMMIT").await;
    assert_eq!(moving.await.unwrap().unwrap(), 503);
    let order = "SELECT hashtext(string_agg(order_id::text, ',' ORDER BY seq))::bigint FROM orders";
    assert_eq!(from.number(order).await, to.number(order).await);
}

#[tokio::test]
async fn a_key_with_another_order_in_the_new_database_and_a_table_without_a_fence_stop_a_move() {
    let [from, to] = [cell("{[0,1024)}").await, cell("{[0,1024)}").await];
    let (one, mut another) = (order_of("ann", 1), order_of("ann", 2));
    another.scope = one.scope.clone();
    insert(&from, &one).await;
    insert(&to, &another).await;
    let unfenced = Stores::fresh().await;
    for (target, why) in [(&to, "1 rows of orders from number 0 to 1 differ"), (&unfenced, "it is not fenced")] {
        let error = move_slots(&from.database_url, &target.database_url, "orders", ANN).await.unwrap_err();
        assert!(format!("{error:#}").contains(why), "{error:#}");
    }
    // Nothing was given up.
    insert(&from, &order_of("ann", 3)).await;
}

/// Polls a future so often, and then drops it unless it is ready.
async fn within_polls<T>(mut polls: u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if polls == 0 => Poll::Ready(None),
        Poll::Pending => {
            polls -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Orders are created while slots are moved back and forth; each move is killed at its next await.
#[tokio::test]
async fn a_move_that_is_killed_anywhere_and_run_again_loses_nothing_and_gives_no_slot_twice() {
    let [mut from, mut to] = [cell("{[0,1024)}").await, cell("{}").await];
    let mut created = Vec::new();
    for polls in 0.. {
        let (source, target) = (from.database_url.clone(), to.database_url.clone());
        let moving = async move { within_polls(polls, move_slots(&source, &target, "orders", ANN)).await };
        let moving = tokio::spawn(moving);
        // Few, so that the moves do not become longer.
        for _ in 0..8 {
            let new = order_of("ann", created.len() as u128 + 1);
            let answers = [create(&from, &new).await, create(&to, &new).await];
            let insertions = answers.iter().filter(|answer| **answer == Ok(Insertion::Inserted)).count();
            assert!(insertions <= 1, "{answers:?}");
            created.extend((insertions == 1).then_some(format!("'{}'", new.id)));
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        let moved = moving.await.unwrap().transpose().unwrap();
        move_slots(&from.database_url, &to.database_url, "orders", ANN).await.unwrap();
        // All are there, in the order of their creation.
        let kept = format!(
            "SELECT count(*) FROM (SELECT order_id, row_number() OVER (ORDER BY seq) AS number FROM orders) AS kept \
             JOIN unnest(ARRAY[{}]::uuid[]) WITH ORDINALITY AS created (order_id, number) USING (order_id, number)",
            created.join(",")
        );
        assert_eq!(to.number(&kept).await, created.len() as i64);
        if moved.is_some() {
            eprintln!("{} orders, killed {polls} times", created.len());
            return;
        }
        (from, to) = (to, from);
    }
}
