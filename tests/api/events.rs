//! The feed of events over HTTP: its token, its pages, its cursors, and how long it waits.

use std::time::Duration;

use fixtures::client::Asked;
use reqwest::Method;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::{Answer, ORDERS, Service, Setup, an_order_of, insert_and_stay, new_key, service};
use crate::tokens::jwks;

const EVENTS: &str = "/api/v1/events";
const TOKEN: &str = "an-operator's-token-of-32-characters";

fn with_feed() -> Setup {
    service().variable("events_token", TOKEN)
}

fn read(service: &Service, path: &str) -> Asked {
    service.get(path).field("authorization", format!("Bearer {TOKEN}"))
}

/// The ids of a page's events.
fn ids(page: &Answer) -> Vec<String> {
    assert_eq!(page.status, 200, "{page:?}");
    let events = page.json();
    let id = |event: &serde_json::Value| event["id"].as_str().unwrap().to_owned();
    events.as_array().unwrap().iter().map(id).collect()
}

/// Creates an order and returns its id.
async fn order(service: &Service, quantity: u64) -> String {
    service.order(&new_key(), &an_order_of(quantity)).expect(201).await.order_id()
}

#[tokio::test]
async fn only_the_operators_token_opens_the_feed_and_it_opens_nothing_else() {
    applies_to!(Servers, Partitions, Embedded);
    let service = with_feed().variable("identity", "jwt").variable("jwt_keys", jwks()).start().await;
    let none = service.get(EVENTS).problem(401, "unauthenticated").await;
    assert_eq!(none.the("www-authenticate"), "Bearer");
    // Judged before the query: it tells nothing.
    let wrong = service.get(&format!("{EVENTS}?limit=x")).field("authorization", "Bearer wrong");
    wrong.problem(401, "invalid-token").await;
    let other = service.get(EVENTS).field("authorization", format!("Basic {TOKEN}"));
    other.problem(401, "unauthenticated").await;
    read(&service, EVENTS).expect(200).await;

    read(&service, ORDERS).problem(401, "invalid-token").await;
    let posted = service.request(Method::POST, EVENTS, &[], "").problem(405, "method-not-allowed").await;
    assert_eq!(posted.the("allow"), "GET, HEAD");
    assert!(service.is_embedded() || !service.logs().contains(TOKEN));
}

#[tokio::test]
async fn pages_have_every_order_once_in_its_order() {
    applies_to!(Servers, Partitions, Embedded);
    let service = with_feed().start().await;
    let empty = read(&service, EVENTS).await;
    assert!(ids(&empty).is_empty());
    let start = empty.link("next");
    assert_eq!(read(&service, &start).await.link("next"), start);

    let mut created = Vec::new();
    for quantity in 1..=5 {
        created.push(order(&service, quantity).await);
    }
    let mut next = format!("{start}&limit=2").replace("limit=100&", "");
    let mut delivered = Vec::new();
    for expected in [2, 2, 1, 0] {
        let page = read(&service, &next).await;
        assert_eq!(ids(&page).len(), expected);
        delivered.extend(ids(&page));
        next = page.link("next");
        assert!(next.contains("limit=2&"), "{next}");
    }
    assert_eq!(delivered, created);

    let all = read(&service, EVENTS).await;
    assert_eq!(ids(&all), created);
    assert_eq!(all.the("content-type"), "application/cloudevents-batch+json");
    assert_eq!(all.the("cache-control"), "no-store");
    let shown = service.get(&format!("{ORDERS}/{}", created[0])).await;
    assert_eq!(
        all.json()[0],
        json!({
            "specversion": "1.0",
            "type": "orders.order.created.v1",
            "source": "/api/v1/orders",
            "id": created[0],
            "time": shown.json()["createdAt"],
            "partitionkey": "anonymous",
            "datacontenttype": "application/json",
            "data": shown.json(),
        })
    );
    let cursor = "0123456789abcdef0000000000000007";
    read(&service, &format!("{EVENTS}?after={cursor}0")).problem(400, "invalid-query").await;
    // Well-formed, and of no history of this database.
    let foreign = read(&service, &format!("{EVENTS}?after={cursor}&wait=20"));
    assert_eq!(foreign.problem(410, "cursor-of-another-history").await.link("first"), EVENTS);
}

#[tokio::test]
async fn an_empty_page_is_answered_after_the_wait_or_when_an_order_comes() {
    applies_to!(Servers, Partitions, Embedded);
    let service = with_feed().start().await;
    let next = read(&service, EVENTS).await.link("next").replace("wait=0", "wait=2");
    let start = Instant::now();
    let empty = read(&service, &next).await;
    assert!(ids(&empty).is_empty());
    assert_eq!(empty.link("next"), next);
    assert!(start.elapsed() >= Duration::from_secs(2));

    let start = Instant::now();
    let long = next.replace("wait=2", "wait=20");
    let creating = async {
        sleep(Duration::from_secs(1)).await;
        order(&service, 1).await
    };
    let (page, id) = tokio::join!(read(&service, &long), creating);
    assert_eq!(ids(&page), [id]);
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn nothing_is_shown_beyond_an_order_that_is_not_committed() {
    applies_to!(Servers, Partitions);
    let service = with_feed().start().await;
    let mut database = service.database().await.unwrap();
    let open = insert_and_stay(&mut database, "late", None).await;
    let prompt = order(&service, 1).await;
    let next = read(&service, EVENTS).await.link("next");
    assert!(ids(&read(&service, &next).await).is_empty());
    let committing = async {
        sleep(Duration::from_millis(500)).await;
        open.commit().await.unwrap();
    };
    let (page, ()) = tokio::join!(read(&service, &next), committing);
    let delivered = ids(&page);
    assert_eq!(delivered.len(), 2);
    assert_eq!(delivered[1], prompt);
    // Written by somebody else, and not in the way.
    assert_eq!(page.json()[0]["data"]["status"], "unreadable");
}

#[tokio::test]
async fn postgres_that_stops_during_a_wait_ends_in_503_and_the_cursor_stays_valid() {
    applies_to!(Servers, Partitions);
    let mut service = with_feed().own_postgres().variable("database_timeout_ms", 1000).start().await;
    let first = order(&service, 1).await;
    let page = read(&service, EVENTS).await;
    assert_eq!(ids(&page), [first]);
    let next = page.link("next");
    service.postgres().stop().unwrap();
    read(&service, &next.replace("wait=0", "wait=20")).problem(503, "unavailable").await;
    service.postgres().restart().unwrap();
    let second = order(&service, 2).await;
    assert_eq!(ids(&read(&service, &next).await), [second]);
}
