//! Components of two releases on one expanded database, with and without each other's records in Redis.

use serde_json::Value;

use crate::support::Release::{Current, Previous};
use crate::support::{
    Answer, Release, Served, an_order, connect, new_name, number, previous_database, shared,
};

/// One release creates orders, the other one repeats and reads them.
async fn assert_understood(database_url: &str, first: Release, second: Release) {
    let redis_url = shared().redis_url;
    let prefix = format!("{}:", new_name());
    let creating = first.serve(&redis_url, database_url, &prefix);
    let mut created = Vec::new();
    for n in 0..3 {
        let (key, order) = (new_name(), an_order(&format!("\"{n}\" é😀\n")));
        let answer = match n {
            // The tag is the current one: no other client creates orders meanwhile.
            2 => {
                let tag = creating.tag().await;
                creating.order_if(Some(&tag), &key, &order).await
            }
            _ => creating.order(&key, &order).await,
        };
        answer.assert_created();
        created.push((key, order, answer));
    }

    let with_records = second.serve(&redis_url, database_url, &prefix);
    let without_records = second.serve(&redis_url, database_url, &format!("{}:", new_name()));
    for replaying in [&with_records, &without_records] {
        assert_eq!(replaying.tag().await, creating.tag().await);
        assert_eq!(replaying.get("").await.body, creating.get("").await.body);
        for (key, order, answer) in &created {
            replaying.order(key, order).await.assert_replay_of(answer);
            let other = replaying.order(key, &an_order("another")).await;
            assert_eq!(other.status, 422, "{other:?}");
            let id = answer.body["orderId"].as_str().unwrap();
            let read = replaying.get(id).await;
            assert_eq!((read.status, &read.body), (200, &answer.body));
        }
    }
    assert_orders(database_url, &created).await;
}

/// Asserts that every key has one order, complete for both releases.
async fn assert_orders(database_url: &str, created: &[(String, Value, Answer)]) {
    let database = connect(database_url).await;
    let complete = "SELECT count(*) FROM orders \
                    WHERE idempotency_key = $1 AND document::text = orders_document(currency, items, note)::text \
                    AND based_on IS NOT DISTINCT FROM follows AND total = $2";
    for (key, _, answer) in created {
        let total = answer.body["total"].as_i64().unwrap();
        let row = database.query_one(complete, &[key, &total]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 1, "{answer:?}");
    }
}

#[tokio::test]
async fn the_previous_release_goes_on_while_and_after_the_table_is_expanded() {
    let url = previous_database().await;
    let redis_url = shared().redis_url;
    let prefix = format!("{}:", new_name());
    let running = Previous.serve(&redis_url, &url, &prefix);
    let order = an_order("before");
    let before = running.order("before", &order).await;
    let tag = running.tag().await;
    let conditional = running
        .order_if(Some(&tag), "before-conditional", &order)
        .await;
    before.assert_created();
    conditional.assert_created();

    migrator::migrate(&url).await.unwrap();
    let without_records = Previous.serve(&redis_url, &url, &format!("{}:", new_name()));
    for served in [&running, &without_records] {
        served
            .order("before", &order)
            .await
            .assert_replay_of(&before);
        served
            .order("before-conditional", &order)
            .await
            .assert_replay_of(&conditional);
    }
    let stale = running.order_if(Some(&tag), "stale", &order).await;
    assert_eq!(stale.status, 412);
    let states = "SELECT count(*) FROM orders WHERE based_on = follows";
    assert_eq!(number(&connect(&url).await, states).await, 1);
    assert_understood(&url, Previous, Previous).await;
}

#[tokio::test]
async fn each_release_understands_the_other_ones_orders() {
    for (first, second) in [(Previous, Current), (Current, Previous)] {
        let url = previous_database().await;
        migrator::migrate(&url).await.unwrap();
        assert_understood(&url, first, second).await;
    }
}

/// Two releases are asked for the same key at once, and then on the same tag at once.
async fn race(database_url: &str, releases: [Release; 2]) {
    let redis_url = shared().redis_url;
    // Records of their own: the database alone decides.
    let [a, b]: [Served; 2] = releases
        .map(|release| release.serve(&redis_url, database_url, &format!("{}:", new_name())));
    for _ in 0..20 {
        let (key, order) = (new_name(), an_order("raced"));
        let (one, other) = tokio::join!(a.order(&key, &order), b.order(&key, &order));
        assert_eq!((one.status, other.status), (201, 201), "{one:?} {other:?}");
        assert_eq!(one.body, other.body);
        assert_ne!(one.replayed, other.replayed);

        let tag = a.tag().await;
        let keys = [new_name(), new_name()];
        let (one, other) = tokio::join!(
            a.order_if(Some(&tag), &keys[0], &order),
            b.order_if(Some(&tag), &keys[1], &order),
        );
        let mut statuses = [one.status, other.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 412], "{one:?} {other:?}");
    }
    let orders = "SELECT count(*) FROM orders";
    assert_eq!(number(&connect(database_url).await, orders).await, 40);
}

#[tokio::test]
async fn one_order_a_key_and_a_state_whichever_release_is_asked() {
    for releases in [[Previous, Previous], [Previous, Current]] {
        let url = previous_database().await;
        migrator::migrate(&url).await.unwrap();
        race(&url, releases).await;
    }
}
