//! Pages of orders, and the entity tags by which clients know that nothing has changed.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::support::{Answer, ORDERS, Service, an_order_of, insert_and_stay, new_key, service};

/// Creates so many orders; their ids, newest first.
async fn create(service: &Service, orders: u64) -> Vec<String> {
    let mut ids = Vec::new();
    for quantity in 1..=orders {
        ids.insert(0, service.order(&new_key(), &an_order_of(quantity)).created().await.order_id());
    }
    ids
}

fn ids(page: &Answer) -> Vec<String> {
    assert_eq!(page.status, 200, "{page:?}");
    let page = page.json();
    let orders = page["orders"].as_array().unwrap().iter();
    orders.map(|order| order["orderId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn links_begin_with_the_public_base_path() {
    applies_to!(Servers, Embedded);
    let service = service().variable("public_base_path", "/shop/eu").start().await;
    for _ in 0..2 {
        let created = service.new_order().await;
        let path = created.the("location").strip_prefix("/shop/eu").unwrap();
        assert_eq!(service.get(path).await.body, created.body);
    }
    let page = service.get("/api/v1/orders?limit=1").await;
    let next = page.json()["next"].as_str().unwrap().to_owned();
    assert_eq!(page.the("link"), format!("<{next}>; rel=\"next\""));
    let rest = service.get(next.strip_prefix("/shop/eu").unwrap()).await;
    assert_eq!(rest.json()["next"], Value::Null);
    let help = service.get("/api/v1/orders/x").await;
    let start = "</shop/eu/openapi.json>; rel=\"service-desc\", </shop/eu/reference/#";
    assert!(help.the("link").starts_with(start), "{help:?}");
}

#[tokio::test]
async fn pages_are_walked_from_the_newest_order_to_the_oldest() {
    applies_to!(Servers, Partitions, Distributed, Embedded);
    let service = service().start().await;
    let empty = service.get(ORDERS).await;
    let state = empty.the("etag").trim_matches('"');
    assert_eq!(empty.body, format!(r#"{{"orders":[],"state":"{state}","next":null}}"#));
    assert_eq!(empty.field("link"), None);

    let created = create(&service, 7).await;
    let all = service.get(ORDERS).await;
    assert_eq!(ids(&all), created);
    assert_eq!(all.the("content-type"), "application/json");
    assert_eq!(all.the("cache-control"), "private, no-cache, no-transform");
    let shown = service.get(&format!("{ORDERS}/{}", created[0])).await;
    assert_eq!(shown.json(), all.json()["orders"][0], "an order looks the same wherever it is");

    for limit in 1..=8 {
        let mut walked = Vec::new();
        let mut next = Some(format!("{ORDERS}?limit={limit}"));
        while let Some(path) = next {
            let page = service.get(&path).await;
            let found = ids(&page);
            assert!((1..=limit).contains(&found.len()), "no page is empty");
            walked.extend(found);
            next = page.json()["next"].as_str().map(ToOwned::to_owned);
            let link = next.as_ref().map(|next| format!("<{next}>; rel=\"next\""));
            assert_eq!(page.field("link"), link.as_deref());
        }
        assert_eq!(walked, created, "in pages of {limit}");
    }
    let refused = service.get(&format!("{ORDERS}?limit=101")).problem(400, "invalid-query").await;
    assert!(refused.body.contains("1 to 100"), "{refused:?}");

    // New orders do not move the pages that follow.
    let first = service.get(&format!("{ORDERS}?limit=3")).await.json();
    create(&service, 2).await;
    let second = service.get(first["next"].as_str().unwrap()).await;
    assert_eq!(ids(&second), created[3..6]);

    let head = service.request(Method::HEAD, ORDERS, &[], "").await;
    let get = service.get(ORDERS).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for name in ["content-length", "content-type", "etag"] {
        assert_eq!(head.field(name), get.field(name), "{name}");
    }
}

#[tokio::test]
async fn the_tag_of_the_list_changes_with_the_customers_orders_and_nothing_else() {
    applies_to!(Servers, Partitions, Distributed, Embedded);
    let service = service().variable("identity", "header").start().await;
    let tag = async |who: &str, query: &str| {
        let list = service.get(&format!("{ORDERS}{query}")).field("x-user-id", who).await;
        let tag = list.the("etag").to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"'), "strong: {tag}");
        tag
    };
    let order = |who: &str, key: &str| service.order(key, &an_order_of(1)).field("x-user-id", who);
    let mut seen = vec![tag("alice", "").await, tag("bob", "").await, tag("bo", "").await];
    for _ in 0..3 {
        let key = new_key();
        order("alice", &key).created().await;
        let now = tag("alice", "").await;
        assert!(!seen.contains(&now), "another state, another tag");
        assert_eq!(tag("alice", "?limit=1").await, now, "of the list, not of the page");
        order("alice", &key).expect(201).await;
        assert_eq!(tag("alice", "").await, now, "a replay changes nothing");
        assert_eq!(tag("bob", "").await, seen[1], "nor do other customers' orders");
        seen.push(now);
    }
}

#[tokio::test]
async fn a_list_can_begin_after_a_time() {
    applies_to!(Servers, Partitions, Distributed, Embedded);
    let service = service().start().await;
    let old = create(&service, 2).await;
    let newest = service.get(&format!("{ORDERS}/{}", old[0])).await.json()["createdAt"].as_str().unwrap().to_owned();
    tokio::time::sleep(Duration::from_millis(2)).await;
    let new = create(&service, 3).await;
    let page = service.get(&format!("{ORDERS}?limit=2&createdAfter={newest}")).await;
    assert_eq!(ids(&page), new[..2]);
    let rest = service.get(page.json()["next"].as_str().unwrap()).await;
    assert_eq!((ids(&rest), rest.json()["next"].clone()), (new[2..].to_vec(), Value::Null));
    assert_eq!(rest.the("etag"), service.get(ORDERS).await.the("etag"), "of the list, not of the page");
    assert!(ids(&service.get(&format!("{ORDERS}?createdAfter=2999-01-01T00:00:00Z")).await).is_empty());
    let all = service.get(&format!("{ORDERS}?createdAfter=1969-12-31T23:59:59%2B01:00")).await;
    assert_eq!(ids(&all), [new, old].concat());
    let refused = service.get(&format!("{ORDERS}?createdAfter=yesterday")).problem(400, "invalid-query").await;
    assert!(refused.body.contains("createdAfter must be a time"), "{refused:?}");
}

/// An insertion that drew its sequence number before another but commits after it.
#[tokio::test]
async fn an_order_that_appears_below_the_newest_changes_the_tag() {
    applies_to!(Servers, Partitions, Distributed);
    let service = service().start().await;
    create(&service, 300).await;
    let mut late = service.database().await.unwrap();
    let transaction = insert_and_stay(&mut late, "late", None).await;
    create(&service, 255).await;
    let before = service.get(&format!("{ORDERS}?limit=1")).await;
    transaction.commit().await.unwrap();
    let after = service.get(&format!("{ORDERS}?limit=1")).await;
    assert_eq!(before.json()["orders"], after.json()["orders"], "the newest order is the same");
    assert_ne!(before.field("etag"), after.field("etag"));
}

#[tokio::test]
async fn an_unchanged_representation_is_304() {
    applies_to!(Servers, Partitions, Distributed, Embedded);
    let service = service().start().await;
    let id = create(&service, 1).await.remove(0);
    for path in [ORDERS.to_owned(), format!("{ORDERS}/{id}")] {
        let full = service.get(&path).await;
        let tag = full.the("etag");
        assert_eq!(service.get(&path).await.field("etag"), Some(tag));
        for tags in ["*", &format!("\"x,y\", W/{tag}")] {
            for method in [Method::GET, Method::HEAD] {
                let same = service.request(method, &path, &[("if-none-match", tags)], "").expect(304).await;
                assert_eq!((same.the("etag"), &*same.body), (tag, ""), "{tags}");
                assert_eq!(same.field("cache-control"), full.field("cache-control"));
                let length = same.field("content-length");
                assert!(length.is_none() || length == full.field("content-length"));
            }
        }
        let changed = service.get(&path).field("if-none-match", tag.trim_matches('"')).expect(200).await;
        assert_eq!(changed.body, full.body);
    }
    let missing = format!("{ORDERS}/01970000-0000-7000-8000-000000000000");
    service.get(&missing).field("if-none-match", "*").problem(404, "order-not-found").await;
}
