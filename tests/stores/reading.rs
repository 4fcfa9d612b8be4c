//! The statements that read: pages and their state after insertions, documents of other releases, and the size of an
//! order on the disk; and what a migration leaves when it is repeated.

use exactly_once::condition::Expected;
use exactly_once::ports::{Insertion, NewResource, StoredResource};
use exactly_once::{Customer, Document, Fingerprint, IdempotencyKey, KeyScope, ResourceId};
use exactly_once_http::{Head, Method, PageRequest};
use fixtures::Shared;
use orders::ORDERS;
use serde_json::{Value, json};
use simulation::world::{Answer, Call};
use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::native::{LOCK_TIMEOUT, Stores, orders_of};

fn customer(name: &str) -> Customer {
    Customer::named(name).unwrap()
}

/// A new order whose id was drawn in that millisecond.
pub fn order_of(name: &str, millisecond: u128) -> NewResource {
    let id = (0x0197_0000_0000 + millisecond) << 80 | 7 << 76 | 2 << 62 | millisecond;
    let scope = KeyScope {
        collection: ORDERS.collection.name,
        customer: customer(name),
        key: IdempotencyKey::parse(Uuid::new_v4().to_string().as_bytes()).unwrap(),
    };
    let json = br#"{"currency":"EUR","items":[{"sku":"A-1001","quantity":2,"unitPrice":1250}],"note":"ring twice"}"#;
    let order = ORDERS.validate(&exactly_once::json::parse(json).unwrap()).unwrap();
    let document = Document::of(&order);
    NewResource {
        fingerprint: Fingerprint::of(&scope, "POST", ORDERS.collection.path, &document),
        id: ResourceId::from_uuid(Uuid::from_u128(id)),
        scope,
        document,
    }
}

fn stored(order: &NewResource) -> StoredResource {
    StoredResource { id: order.id, fingerprint: order.fingerprint, document: order.document.clone() }
}

/// Inserts it.
pub async fn insert(stores: &Stores, order: &NewResource) {
    let call = Call::Insert(Box::new(order.clone()));
    let inserted = stores.execute(&call).await;
    assert_eq!(inserted, Answer::Postgres(Insertion::Inserted));
}

/// All of a customer's orders, read in pages.
async fn all(stores: &Stores, name: &str, limit: usize) -> Vec<StoredResource> {
    let list = orders_of(&customer(name));
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = stores.page(&list, after, limit).await.unwrap();
        assert!(page.resources.len() <= limit);
        all.extend(page.resources);
        if !page.more {
            return all;
        }
        after = all.last().map(|order: &StoredResource| order.id);
    }
}

#[tokio::test]
async fn a_migration_is_repeated_and_run_twice_at_once_without_a_change() {
    let shared = Shared::told().unwrap();
    let name = Uuid::new_v4().simple().to_string();
    let admin = &shared.postgres_url;
    migrator::create_database(admin, &name, None).await.unwrap();
    let url = admin.replace("/postgres", &format!("/{name}"));
    let (first, second) = tokio::join!(migrator::migrate(&url), migrator::migrate(&url));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.len() + second.len(), 2, "{first:?} {second:?}");
    assert!(first.is_empty() || second.is_empty(), "{first:?} {second:?}");

    let stores = Stores::on(&url).await;
    let order = order_of("c", 1);
    insert(&stores, &order).await;
    assert_eq!(migrator::migrate(&url).await.unwrap(), Vec::<String>::new());
    assert_eq!(all(&stores, "c", 1).await, [stored(&order)]);
}

#[tokio::test]
async fn a_database_of_another_encoding_is_not_migrated() {
    let shared = Shared::told().unwrap();
    let (client, connection) = tokio_postgres::connect(&shared.postgres_url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let name = Uuid::new_v4().simple().to_string();
    let create = format!("CREATE DATABASE \"{name}\" ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    client.batch_execute(&create).await.unwrap();
    let url = shared.postgres_url.replace("/postgres", &format!("/{name}"));
    let error = migrator::migrate(&url).await.unwrap_err();
    assert!(format!("{error:#}").contains("encoding LATIN1"), "{error:#}");
}

/// Newest first is the order of the insertions, also where the ids and the customers come in another one.
#[tokio::test]
async fn orders_are_listed_in_the_order_of_their_insertions() {
    let stores = Stores::fresh().await;
    let orders = [5, 1, 4, 2, 3].map(|ms| order_of(if ms % 2 == 0 { "even" } else { "odd" }, ms));
    for order in &orders {
        insert(&stores, order).await;
        let list = orders_of(&order.scope.customer);
        assert_eq!(stores.find(&list, order.id).await, Some(stored(order)));
        assert_eq!(stores.find_by_key(&order.scope).await, Some(stored(order)));
    }
    let newest_first =
        |wanted: &[usize]| -> Vec<StoredResource> { wanted.iter().map(|at| stored(&orders[*at])).collect() };
    assert_eq!(all(&stores, "odd", 2).await, newest_first(&[4, 1, 0]));
    assert_eq!(all(&stores, "even", 100).await, newest_first(&[3, 2]));
    assert!(all(&stores, "nobody", 1).await.is_empty());
}

#[tokio::test]
async fn a_page_starts_after_an_order_of_the_same_customer_or_does_not_exist() {
    let stores = Stores::fresh().await;
    let (mine, theirs) = (order_of("mine", 1), order_of("theirs", 2));
    for order in [&mine, &theirs] {
        insert(&stores, order).await;
    }
    let orders_after = async |after: &NewResource| {
        let list = orders_of(&customer("mine"));
        let page = stores.page(&list, Some(after.id), 5).await;
        page.map(|page| page.resources.len())
    };
    assert_eq!(orders_after(&mine).await, Some(0));
    assert_eq!(orders_after(&theirs).await, None);
    assert_eq!(orders_after(&order_of("mine", 3)).await, None);
}

/// A request for a page without conditions.
struct Plain;

impl Head for Plain {
    fn method(&self) -> Method {
        Method::Get
    }

    fn target(&self) -> String {
        ORDERS.collection.path.to_owned()
    }

    fn values(&self, _: &str) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

#[tokio::test]
async fn documents_of_other_releases_leave_a_page_complete() {
    let stores = Stores::fresh().await;
    let of = |millisecond, document: &str| NewResource {
        document: Document::from_text(document),
        ..order_of("c", millisecond)
    };
    let known = order_of("c", 1);
    // With members that this release does not know, in white space and an order that it does not write.
    let newer = of(
        2,
        r#"{ "items":[{"unitPrice":5,"sku":"A","quantity":3,"colour":"red"}], "giftWrap":true,"currency":"EUR"}"#,
    );
    let unreadable = of(3, r#"{"currency":"EUR"}"#);
    for order in [&known, &newer, &unreadable] {
        insert(&stores, order).await;
        let list = orders_of(&order.scope.customer);
        assert_eq!(stores.find(&list, order.id).await, Some(stored(order)));
    }

    let (limit, after) = (2, None);
    let request = PageRequest { limit, after };
    let answer = exactly_once_http::list(&ORDERS, &customer("c"), request, &Plain, &stores).await;
    let first: Value = serde_json::from_str(&answer.unwrap().body).unwrap();
    assert_eq!(
        first["orders"],
        json!([
            {
                "orderId": unreadable.id.to_string(),
                "status": "unreadable",
                "createdAt": unreadable.id.created_at(),
            },
            {
                "orderId": newer.id.to_string(),
                "status": "accepted",
                "currency": "EUR",
                "items": [{"sku": "A", "quantity": 3, "unitPrice": 5, "colour": "red"}],
                "note": null,
                "total": 15,
                "createdAt": newer.id.created_at(),
                "giftWrap": true,
            },
        ])
    );

    let after = Some(newer.id);
    let request = PageRequest { limit, after };
    let answer = exactly_once_http::list(&ORDERS, &customer("c"), request, &Plain, &stores).await;
    let last: Value = serde_json::from_str(&answer.unwrap().body).unwrap();
    assert_eq!(last["orders"][0]["orderId"], known.id.to_string());
    assert_eq!(last["orders"].as_array().map(Vec::len), Some(1));
    assert_eq!(last["next"], Value::Null);
}

/// Of all conditional orders that were created on one state, one stays.
#[tokio::test]
async fn one_order_is_based_on_a_state() {
    let stores = Stores::fresh().await;
    for ms in 1..=4 {
        insert(&stores, &order_of(if ms < 4 { "c" } else { "d" }, ms)).await;
    }
    let base = async |seq: i64| {
        let sql = format!("UPDATE orders SET based_on = '\\x01' WHERE seq = {seq}");
        stores.try_sql(&sql).await
    };
    base(1).await.unwrap();
    let refused = base(2).await.unwrap_err();
    let constraint = refused.as_db_error().and_then(|error| error.constraint());
    assert_eq!(constraint, Some("orders_customer_id_based_on_key"));
    base(4).await.unwrap();
}

#[tokio::test]
async fn an_order_costs_at_most_680_bytes_and_lists_are_read_along_their_index() {
    let stores = Stores::fresh().await;
    let names: Vec<String> = (0..100).map(|n| Uuid::from_u128(n).to_string()).collect();
    let orders = 5000;
    for n in 0..orders {
        insert(&stores, &order_of(&names[n * 7 % names.len()], n as u128 + 1)).await;
    }
    let bytes = stores.number("SELECT pg_total_relation_size('orders')").await;
    let bytes = bytes / i64::try_from(orders).unwrap();
    assert!(bytes <= 680, "{bytes} bytes per order");
    eprintln!("{bytes} bytes per order, with all indexes");

    stores.run_sql("VACUUM ANALYZE orders").await;
    let statements = stores.statements("orders");
    let plan = stores.plan(statements.page(&customer(&names[0]), None, 20)).await;
    assert!(plan.contains("Index Only Scan Backward using orders_customer_id_seq_idx"), "{plan}");
    assert!(!plan.contains("Seq Scan on orders"), "{plan}");

    let order = order_of(&names[0], orders as u128 + 1);
    let plan = stores.plan(statements.insert_based_on(&order, &Expected::Any, LOCK_TIMEOUT)).await;
    assert!(!plan.contains("Seq Scan on orders"), "{plan}");
}
