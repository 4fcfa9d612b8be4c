//! The feed of events over HTTP: its token, its pages, its cursors, and how long it waits.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, Service, Setup, an_order, an_order_of, insert_and_stay, new_key, service};

const EVENTS: &str = "/api/v1/events";
const TOKEN: &str = "an-operator's-token-of-32-characters";

fn with_feed() -> Setup {
    service().variable("events_token", TOKEN)
}

async fn read(service: &Service, path: &str) -> Answer {
    let token = format!("Bearer {TOKEN}");
    let fields = [("authorization", token.as_str())];
    service.request(Method::GET, path, &fields, "").await
}

/// The target of the link with this relation.
fn link(answer: &Answer, relation: &str) -> String {
    let fields = answer.fields.get_all("link").iter();
    let links = fields.flat_map(|field| field.to_str().unwrap().split(", "));
    let relation = format!(">; rel=\"{relation}\"");
    let mut targets = links.filter_map(|link| link.strip_prefix('<')?.strip_suffix(&relation));
    targets.next().expect("a link").to_owned()
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
    let created = service.order(&new_key(), &an_order_of(quantity)).await;
    assert_eq!(created.status, 201);
    created.json()["orderId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn without_a_token_the_feed_is_off() {
    applies_to!(Servers, Partitions, Embedded);
    let service = service().start().await;
    let off = read(&service, EVENTS).await;
    off.assert_problem(404, "feed-off");
    assert!(off.body.contains("events_token"), "{off:?}");
}

#[tokio::test]
async fn only_the_operators_token_opens_the_feed_and_it_opens_nothing_else() {
    applies_to!(Servers, Partitions, Embedded);
    let setup = with_feed().variable("identity", "jwt");
    let keys = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let service = setup.variable("jwt_keys", keys).start().await;
    let get = async |path: String, value: String| {
        let fields = [("authorization", value.as_str())];
        service.request(Method::GET, &path, &fields, "").await
    };
    let none = service.get(EVENTS).await;
    none.assert_problem(401, "unauthenticated");
    assert_eq!(none.field("www-authenticate"), Some("Bearer"));
    // Judged before the query: it tells nothing.
    let wrong = get(format!("{EVENTS}?limit=x"), "Bearer wrong".into()).await;
    wrong.assert_problem(401, "invalid-token");
    let other = get(EVENTS.into(), format!("Basic {TOKEN}")).await;
    other.assert_problem(401, "unauthenticated");
    assert_eq!(read(&service, EVENTS).await.status, 200);

    read(&service, "/api/v1/orders").await.assert_problem(401, "invalid-token");
    let posted = service.request(Method::POST, EVENTS, &[], "").await;
    posted.assert_problem(405, "method-not-allowed");
    assert_eq!(posted.field("allow"), Some("GET, HEAD"));
    if !service.is_embedded() {
        assert!(!service.logs().contains(TOKEN));
    }
}

#[tokio::test]
async fn pages_have_every_order_once_in_its_order() {
    applies_to!(Servers, Partitions, Embedded);
    let service = with_feed().start().await;
    let empty = read(&service, EVENTS).await;
    assert!(ids(&empty).is_empty());
    let start = link(&empty, "next");
    let again = read(&service, &start).await;
    assert_eq!(link(&again, "next"), start);

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
        next = link(&page, "next");
        assert!(next.contains("limit=2&"), "{next}");
    }
    assert_eq!(delivered, created);

    let all = read(&service, EVENTS).await;
    assert_eq!(ids(&all), created);
    let media_type = "application/cloudevents-batch+json";
    assert_eq!(all.field("content-type"), Some(media_type));
    assert_eq!(all.field("cache-control"), Some("no-store"));
    let shown = service.get(&format!("/api/v1/orders/{}", created[0])).await;
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
}

#[tokio::test]
async fn a_query_that_is_not_valid_is_refused() {
    applies_to!(Servers, Partitions, Embedded);
    let service = with_feed().start().await;
    let cursor = "0123456789abcdef0000000000000007";
    for query in [
        "limit=0".to_owned(),
        "limit=1001".to_owned(),
        "wait=21".to_owned(),
        "after=".to_owned(),
        format!("after={cursor}0"),
        format!("after={cursor}&after={cursor}"),
        format!("cursor={cursor}"),
    ] {
        let refused = read(&service, &format!("{EVENTS}?{query}")).await;
        refused.assert_problem(400, "invalid-query");
    }
    // Well-formed, and of no history of this database.
    let foreign = read(&service, &format!("{EVENTS}?after={cursor}&wait=20")).await;
    foreign.assert_problem(410, "cursor-of-another-history");
    assert_eq!(link(&foreign, "first"), EVENTS);
    assert!(ids(&read(&service, &link(&foreign, "first")).await).is_empty());
}

#[tokio::test]
async fn an_empty_page_is_answered_after_the_wait_or_when_an_order_comes() {
    applies_to!(Servers, Partitions, Embedded);
    let service = with_feed().start().await;
    let next = link(&read(&service, EVENTS).await, "next").replace("wait=0", "wait=2");
    let start = Instant::now();
    let empty = read(&service, &next).await;
    assert!(ids(&empty).is_empty());
    assert_eq!(link(&empty, "next"), next);
    assert!(start.elapsed() >= Duration::from_secs(2));

    let start = Instant::now();
    let long = next.replace("wait=2", "wait=20");
    let creating = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
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
    let next = link(&read(&service, EVENTS).await, "next");
    assert!(ids(&read(&service, &next).await).is_empty());
    let committing = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
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
    let setup = with_feed().own_postgres();
    let mut service = setup.variable("database_timeout_ms", 1000).start().await;
    let first = order(&service, 1).await;
    let page = read(&service, EVENTS).await;
    assert_eq!(ids(&page), [first]);
    let next = link(&page, "next");
    service.postgres().stop().unwrap();
    let unavailable = read(&service, &next.replace("wait=0", "wait=20")).await;
    unavailable.assert_problem(503, "unavailable");
    service.postgres().restart().unwrap();
    let second = order(&service, 2).await;
    assert_eq!(ids(&read(&service, &next).await), [second]);
}

#[tokio::test]
async fn an_order_of_a_named_customer_has_the_name_as_its_partition_key() {
    applies_to!(Servers, Partitions, Embedded);
    let service = with_feed().variable("identity", "header").start().await;
    let name = "a \"name\"";
    let fields = [("idempotency-key", "k"), ("x-user-id", name)];
    let created = service.try_order_with(0, &fields, &an_order()).await;
    assert_eq!(created.unwrap().status, 201);
    let page = read(&service, EVENTS).await;
    assert_eq!(page.json()[0]["partitionkey"], name);
}
