//! Pages of orders, and the entity tags by which clients know that nothing has changed.

use reqwest::Method;
use serde_json::Value;

use crate::support::{Answer, Service, an_order_of, new_key, service};

const ORDERS: &str = "/api/v1/orders";

/// Creates so many orders; their ids, newest first.
async fn create(service: &Service, orders: u64) -> Vec<Value> {
    let mut ids = Vec::new();
    for quantity in 1..=orders {
        let created = service.order(&new_key(), &an_order_of(quantity)).await;
        ids.insert(0, created.assert_created().json()["orderId"].clone());
    }
    ids
}

fn ids(page: &Answer) -> Vec<Value> {
    assert_eq!(page.status, 200, "{page:?}");
    let page = page.json();
    let orders = page["orders"].as_array().unwrap().iter();
    orders.map(|order| order["orderId"].clone()).collect()
}

async fn conditional(service: &Service, path: &str, tags: &str) -> Answer {
    service.request(Method::GET, path, &[("if-none-match", tags)], "").await
}

#[tokio::test]
async fn links_begin_with_the_public_base_path() {
    applies_to!(Servers, Embedded);
    let service = service().variable("public_base_path", "/shop/eu").start().await;
    for _ in 0..2 {
        let created = service.order(&new_key(), &an_order_of(1)).await;
        let location = created.assert_created().field("location").unwrap();
        assert!(location.starts_with("/shop/eu/api/v1/orders/"), "{location}");
        let shown = service.get(&location.replace("/shop/eu", "")).await;
        assert_eq!(shown.body, created.body);
    }
    let page = service.get("/api/v1/orders?limit=1").await;
    let next = page.json()["next"].as_str().unwrap().to_owned();
    assert!(next.starts_with("/shop/eu/api/v1/orders?"), "{next}");
    assert_eq!(page.field("link"), Some(&*format!("<{next}>; rel=\"next\"")));
    let rest = service.get(&next.replace("/shop/eu", "")).await;
    assert_eq!(rest.json()["next"], Value::Null);
    let help = service.get("/api/v1/orders/x").await;
    let link = help.field("link").unwrap();
    assert!(link.starts_with("</shop/eu/openapi.json>; rel=\"service-desc\", </shop/eu/reference/#"), "{link}");
}

#[tokio::test]
async fn pages_are_walked_from_the_newest_order_to_the_oldest() {
    applies_to!(Servers, Partitions, Embedded);
    let service = service().start().await;
    let empty = service.get(ORDERS).await;
    let state = empty.field("etag").unwrap().trim_matches('"');
    assert_eq!(empty.body, format!(r#"{{"orders":[],"state":"{state}","next":null}}"#));
    assert_eq!(empty.field("link"), None);

    let created = create(&service, 7).await;
    let all = service.get(ORDERS).await;
    assert_eq!(ids(&all), created);
    assert_eq!(all.field("content-type"), Some("application/json"));
    assert_eq!(all.field("cache-control"), Some("private, no-cache, no-transform"));
    let first = &all.json()["orders"][0];
    let shown = service.get(&format!("{ORDERS}/{}", first["orderId"].as_str().unwrap())).await;
    assert_eq!(shown.json(), *first, "an order looks the same wherever it is");

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
async fn the_default_and_the_maximum_page_size() {
    applies_to!(Servers, Partitions, Embedded);
    let service = service().start().await;
    create(&service, 101).await;
    assert_eq!(ids(&service.get(ORDERS).await).len(), 20);
    let longest = service.get(&format!("{ORDERS}?limit=100")).await;
    assert_eq!(ids(&longest).len(), 100);
    let rest = service.get(longest.json()["next"].as_str().unwrap()).await;
    assert_eq!((ids(&rest).len(), &rest.json()["next"]), (1, &Value::Null));
}

#[tokio::test]
async fn an_invalid_query_is_refused_with_the_valid_values() {
    applies_to!(Servers, Partitions, Embedded);
    let service = service().start().await;
    let other = "0197000000007000800000000000000a";
    for (query, hint) in [
        ("limit=0", "1 to 100"),
        ("limit=101", "1 to 100"),
        ("limit=ten", "1 to 100"),
        ("limit=", "1 to 100"),
        ("limit=1&limit=1", "once"),
        ("cursor=", "next"),
        ("cursor=%00", "next"),
        ("cursor=01970000-0000-7000-8000-00000000000a", "next"),
        (&format!("cursor={other}"), "next"),
        ("page=2", "limit and cursor"),
        ("limit=1&sort=asc", "limit and cursor"),
    ] {
        let refused = service.get(&format!("{ORDERS}?{query}")).await;
        refused.assert_problem(400, "invalid-query");
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(hint), "{query}: {detail}");
    }
    assert_eq!(service.get(&format!("{ORDERS}?")).await.status, 200);
}

#[tokio::test]
async fn the_tag_of_the_list_changes_with_the_customers_orders_and_nothing_else() {
    applies_to!(Servers, Partitions, Embedded);
    let setup = service().variable("identity", "header");
    let service = setup.start().await;
    let tag = async |who: &str, query: &str| {
        let fields = [("x-user-id", who)];
        let list = service.request(Method::GET, &format!("{ORDERS}{query}"), &fields, "").await;
        let tag = list.field("etag").unwrap().to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"'), "strong: {tag}");
        tag
    };
    let order = async |who: &str, key: &str| {
        let fields = [("x-user-id", who), ("idempotency-key", key), ("content-type", "application/json")];
        let body = an_order_of(1).to_string();
        service.request(Method::POST, ORDERS, &fields, body).await
    };
    let mut seen = vec![tag("alice", "").await, tag("bob", "").await, tag("bo", "").await];
    for _ in 0..3 {
        let key = new_key();
        order("alice", &key).await.assert_created();
        let now = tag("alice", "").await;
        assert!(!seen.contains(&now), "another state, another tag");
        assert_eq!(tag("alice", "?limit=1").await, now, "of the list, not of the page");
        assert_eq!(order("alice", &key).await.status, 201);
        assert_eq!(tag("alice", "").await, now, "a replay changes nothing");
        assert_eq!(tag("bob", "").await, seen[1], "nor do other customers' orders");
        seen.push(now);
    }
}

/// An insertion that drew its sequence number before another but commits after it.
#[tokio::test]
async fn an_order_that_appears_below_the_newest_changes_the_tag() {
    applies_to!(Servers, Partitions);
    let service = service().start().await;
    create(&service, 300).await;
    let mut late = service.database().await.unwrap();
    let transaction = late.transaction().await.unwrap();
    let insert = "INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint, document, \
                                      created_at) \
                  SELECT $1, customer_id, 'late', fingerprint, document, created_at \
                  FROM orders LIMIT 1 RETURNING seq";
    let id = uuid::Uuid::new_v4();
    transaction.query_one(insert, &[&id]).await.unwrap();
    create(&service, 255).await;
    let before = service.get(&format!("{ORDERS}?limit=1")).await;
    transaction.commit().await.unwrap();
    let after = service.get(&format!("{ORDERS}?limit=1")).await;
    assert_eq!(before.json()["orders"], after.json()["orders"], "the newest order is the same");
    assert_ne!(before.field("etag"), after.field("etag"));
}

#[tokio::test]
async fn an_unchanged_representation_is_304() {
    applies_to!(Servers, Partitions, Embedded);
    let service = service().start().await;
    let id = create(&service, 1).await[0].as_str().unwrap().to_owned();
    for path in [ORDERS.to_owned(), format!("{ORDERS}/{id}")] {
        let full = service.get(&path).await;
        let tag = full.field("etag").unwrap();
        assert_eq!(service.get(&path).await.field("etag"), Some(tag));
        for tags in [tag, "*", &format!("W/{tag}"), &format!("\"x,y\", {tag}")] {
            for method in [Method::GET, Method::HEAD] {
                let fields = [("if-none-match", tags)];
                let same = service.request(method, &path, &fields, "").await;
                assert_eq!((same.status, same.body.as_str()), (304, ""), "{tags}");
                assert_eq!(same.field("etag"), Some(tag));
                assert_eq!(same.field("cache-control"), full.field("cache-control"));
                let length = same.field("content-length");
                assert!(length.is_none() || length == full.field("content-length"));
            }
        }
        for tags in ["\"x\"", "", tag.trim_matches('"')] {
            let changed = conditional(&service, &path, tags).await;
            assert_eq!((changed.status, &changed.body), (200, &full.body), "{tags}");
        }
    }
    let missing = format!("{ORDERS}/01970000-0000-7000-8000-000000000000");
    conditional(&service, &missing, "*").await.assert_problem(404, "order-not-found");

    let tag = service.get(ORDERS).await.field("etag").unwrap().to_owned();
    create(&service, 1).await;
    assert_eq!(conditional(&service, ORDERS, &tag).await.status, 200);
}
