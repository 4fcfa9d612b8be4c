//! The size of an order on the disk, the indexes that lists are read along, and what a migration leaves when it is
//! repeated.

use exactly_once::condition::Expected;
use exactly_once::ports::{Insertion, List, NewResource, PageRequest};
use exactly_once::{Customer, Document, Fingerprint, IdempotencyKey, KeyScope, ResourceId};
use fixtures::{Shared, connect};
use orders::ORDERS;
use simulation::world::{Answer, Call};
use uuid::Uuid;

use crate::Real;
use crate::native::{LOCK_TIMEOUT, Stores};

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

/// Inserts it.
pub async fn insert(stores: &impl Real, order: &NewResource) {
    let call = Call::Insert(Box::new(order.clone()));
    let inserted = stores.execute(&call).await;
    assert_eq!(inserted, Answer::Postgres(Insertion::Inserted));
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
    assert_eq!(
        stores.find(&List::from(&order.scope), order.id).await.map(|found| found.document),
        Some(order.document)
    );
}

#[tokio::test]
async fn a_database_of_another_encoding_is_not_migrated() {
    let shared = Shared::told().unwrap();
    let client = connect(&shared.postgres_url).await.unwrap();
    let name = Uuid::new_v4().simple().to_string();
    let create = format!("CREATE DATABASE \"{name}\" ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    client.batch_execute(&create).await.unwrap();
    let url = shared.postgres_url.replace("/postgres", &format!("/{name}"));
    let error = migrator::migrate(&url).await.unwrap_err();
    assert!(format!("{error:#}").contains("encoding LATIN1"), "{error:#}");
}

#[tokio::test]
async fn an_order_costs_at_most_680_bytes_and_lists_are_read_along_their_index() {
    let stores = Stores::fresh().await;
    let names: Vec<String> = (0..100).map(|n| Uuid::from_u128(n).to_string()).collect();
    let orders = 5000;
    for n in 0..orders {
        insert(&stores, &order_of(&names[n * 7 % names.len()], n as u128 + 1)).await;
    }
    let bytes = stores.number(&format!("SELECT pg_total_relation_size('orders') / {orders}")).await;
    assert!(bytes <= 680, "{bytes} bytes per order");
    eprintln!("{bytes} bytes per order, with all indexes");

    stores.run_sql("VACUUM ANALYZE orders").await;
    let statements = stores.statements("orders");
    // The customer's 50 numbers, the newest of them, and its rows.
    let read = stores.entries_read(statements.page(&customer(&names[0]), PageRequest::newest(20))).await;
    assert!((71..=110).contains(&read), "{read}");
    let order = order_of(&names[0], orders as u128 + 1);
    let read = stores.entries_read(statements.insert_based_on(&order, &Expected::Any, LOCK_TIMEOUT)).await;
    assert!((51..=60).contains(&read), "{read}");

    // A list that begins after a time: of 20,000 orders of one customer, only the newest 10 are read.
    let copies = "SELECT rpad('0198' || to_hex(n + 99999), 32, '0')::uuid, 'many', n::text, '', now(), '{}' \
                  FROM generate_series(1, 20000) AS n";
    let columns = "order_id, customer_id, idempotency_key, fingerprint, created_at, document";
    stores.run_sql(&format!("INSERT INTO orders ({columns}) {copies}")).await;
    stores.run_sql("VACUUM ANALYZE orders").await;
    let from = Some(ResourceId::from_uuid(Uuid::from_u128((0x0198 << 20 | (99_999 + 19_991)) << 92)));
    let list = PageRequest { from, ..PageRequest::newest(20) };
    let read = stores.entries_read(statements.page(&customer("many"), list)).await;
    assert!((267..=300).contains(&read), "{read}");
}
