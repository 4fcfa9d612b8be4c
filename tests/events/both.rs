//! Both readers at once, the feed's and the log's, while 64 clients create 10,000 orders with rollbacks and late
//! commits, the log's reader dies several times, and the database fails over.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use devstack::{Postgres, Programs, process};

use crate::contract::assert_valid;
use crate::load::{CLIENTS, Count, assert_in_order, create_all, insert, reaches};
use crate::service::{Last, Service};
use crate::stream::{Database, Row, changes};

/// In the table at the end, at least.
const ORDERS: usize = 10_000;
/// Committed before the standby stops.
const BEFORE: usize = 7_000;
/// Committed between that and the failover, at least.
const MISSED: usize = 500;
/// Of each client after the failover; two thirds of them are committed, each with two orders on average.
const TRANSACTIONS_AFTER: u32 = 50;

/// Reads the log, and dies now and then, until the server is gone.
async fn read_log(url: String) -> Vec<Row> {
    let mut rows = Vec::new();
    for n in 1.. {
        match changes(&url, n % 5 > 0).await {
            Ok(more) => rows.extend(more),
            Err(_) => break,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    rows
}

fn ids(rows: &[Row]) -> HashSet<&str> {
    rows.iter().map(|row| &*row.order_id).collect()
}

/// The standby misses the last orders before the failover; new orders get their numbers.
#[tokio::test(flavor = "multi_thread")]
async fn both_readers_get_each_of_ten_thousand_orders_through_a_failover() {
    let Some(database) = Database::start(0).await else {
        return;
    };
    database.create_slot().await;
    let mut service = Service::on(database).await;
    let programs = Programs::find_or_install(false).unwrap();
    let port = service.database.postgres.port();
    let folder = service.database.folder().join("postgres-standby");
    let mut standby = Postgres::start_standby(&programs, &folder, process::local(port)).unwrap();
    let (url, count) = (service.database.url(), Count::default());

    let last = Arc::new(Last::default());
    let mut reader = service.reader();
    let reading_feed = tokio::spawn({
        let last = last.clone();
        async move {
            reader.until(&last).await;
            reader
        }
    });
    let reading_log = tokio::spawn(read_log(url.clone()));
    let creating = tokio::spawn(create_all(url.clone(), u32::MAX, count.clone()));
    reaches(&count, BEFORE).await;
    standby.stop().unwrap();
    reaches(&count, BEFORE + MISSED).await;
    service.database.postgres.kill().unwrap();
    let mut committed = creating.await.unwrap();
    let logged_before = reading_log.await.unwrap();
    standby.restart().unwrap();
    standby.promote().unwrap();
    standby.take_over(&service.database.postgres).unwrap();
    service.database.postgres = standby;

    let creating = tokio::spawn(create_all(url, TRANSACTIONS_AFTER, count));
    // The slot is gone with the server: a new one, then the table, then what is committed after the slot's creation.
    service.database.create_slot().await;
    let snapshot = service.database.snapshot().await;
    committed.extend(creating.await.unwrap());
    let database = service.database.connect().await;
    *last.lock().unwrap() = Some(insert(&database, "marker").await);
    let logged_after = service.database.changes(true).await;
    let reader = reading_feed.await.unwrap();

    let rows = database.query("SELECT order_id::text FROM orders ORDER BY seq", &[]);
    let rows = rows.await.unwrap();
    let stored: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert!(stored.len() >= ORDERS, "{}", stored.len());
    assert!(committed.len() >= ORDERS, "{}", committed.len());
    assert_eq!(reader.restarts, 1);
    assert!(reader.ids() == stored, "the feed is not the table");
    assert_in_order(reader.ids_and_customers(), &committed);

    let stored: HashSet<&str> = stored.into_iter().collect();
    let after = &ids(&snapshot) | &ids(&logged_after);
    let skipped = stored.difference(&after).count();
    assert_eq!(skipped, 0, "of {} orders", stored.len());
    assert_eq!(after, stored, "more than the table");
    let before = ids(&logged_before);
    assert!(before.len() < logged_before.len(), "nothing came again");
    // A client may not have heard of the commit of what was inserted last.
    let unknown = before.iter().filter(|id| !committed.contains_key(**id));
    assert!(unknown.count() <= 3 * (CLIENTS as usize + 1));
    // A snapshot is not in order.
    for rows in [&logged_before, &logged_after] {
        assert_in_order(rows.iter().map(|row| (&*row.order_id, &*row.customer_id)), &committed);
    }
    for event in logged_before.iter().step_by(100).map(Row::event) {
        assert_valid(&event);
        assert_eq!((&event["time"], &event["id"]), (&event["data"]["createdAt"], &event["data"]["orderId"]));
    }
    let lost = committed.keys().filter(|id| !stored.contains(&***id));
    assert!(lost.count() > 0, "the failover lost nothing");
}
