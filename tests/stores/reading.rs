//! The statements that read: pages and their state against what was inserted, on a schema that orders were
//! in before there were pages; and what an order costs on the disk.

use orders::create::conditional::Expected;
use orders::customer::Customer;
use orders::idempotency::{Fingerprint, IdempotencyKey, KeyScope};
use orders::order::{Draft, ResourceId};
use orders::ports::{NewResource, StoredResource};
use orders::stores::postgres::conditional::insert as insert_based_on;
use orders::stores::postgres::reading::page;
use simulation::world::{Answer, Call};
use uuid::Uuid;

use crate::native::Stores;

fn customer(name: &str) -> Customer {
    Customer::named(name).unwrap()
}

/// An order whose id was drawn in that millisecond.
fn order_of(name: &str, millisecond: u128) -> NewResource {
    let id = (0x0197_0000_0000 + millisecond) << 80 | 7 << 76 | 2 << 62 | millisecond;
    let scope = KeyScope {
        customer: customer(name),
        key: IdempotencyKey::parse(Uuid::new_v4().to_string().as_bytes()).unwrap(),
    };
    let json = br#"{"currency":"EUR","items":[{"sku":"A-1001","quantity":2,"unitPrice":1250}],"note":"ring twice"}"#;
    let draft = Draft::from_json(&orders::json::parse(json).unwrap()).unwrap();
    NewResource {
        fingerprint: Fingerprint::of(&scope, "POST", "/api/v1/orders", &draft.canonical()),
        order_id: ResourceId::from_uuid(Uuid::from_u128(id)),
        scope,
        draft,
    }
}

fn stored(order: &NewResource) -> StoredResource {
    StoredResource {
        order_id: order.order_id,
        fingerprint: order.fingerprint,
        draft: order.draft.clone(),
    }
}

async fn insert(stores: &mut Stores, order: &NewResource) {
    let call = Call::Insert(Box::new(order.clone()));
    let Answer::Postgres(insertion) = stores.execute(&call).await else {
        panic!("not asked");
    };
    assert_eq!(insertion, orders::ports::Insertion::Inserted);
}

/// All of a customer's orders, read in pages.
async fn all(stores: &Stores, customer: &Customer, limit: usize) -> Vec<StoredResource> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = stores.page(customer, after, limit).await.unwrap();
        assert!(page.orders.len() <= limit);
        all.extend(page.orders);
        if !page.more {
            return all;
        }
        after = all.last().map(|order: &StoredResource| order.order_id);
    }
}

#[tokio::test]
async fn orders_of_the_first_version_are_read_after_the_migration() {
    let mut stores = Stores::of_version(1).await;
    // Neither in the order of their times, nor one customer's at a time.
    let old = [5, 1, 4, 2, 3].map(|ms| order_of(if ms % 2 == 0 { "even" } else { "odd" }, ms));
    for order in &old {
        insert(&mut stores, order).await;
    }
    stores.migrate().await;
    stores.migrate().await;

    for order in &old {
        let KeyScope { customer, .. } = &order.scope;
        let found = stores.find(customer, order.order_id).await;
        assert_eq!(found, Some(stored(order)));
        assert_eq!(stores.find_by_key(&order.scope).await, Some(stored(order)));
    }
    let newest_first = |wanted: &[usize]| -> Vec<StoredResource> {
        wanted.iter().map(|at| stored(&old[*at])).collect()
    };
    let odd = newest_first(&[0, 4, 1]);
    assert_eq!(all(&stores, &customer("odd"), 2).await, odd);
    assert_eq!(
        all(&stores, &customer("even"), 100).await,
        newest_first(&[2, 3])
    );

    // The next one is the newest, however old its id.
    let next = order_of("odd", 0);
    insert(&mut stores, &next).await;
    let expected = [vec![stored(&next)], odd].concat();
    assert_eq!(all(&stores, &customer("odd"), 1).await, expected);

    let empty = Stores::of_version(1).await;
    empty.migrate().await;
    assert!(all(&empty, &customer("odd"), 1).await.is_empty());
}

#[tokio::test]
async fn a_page_begins_after_an_order_of_the_same_customer_or_is_none() {
    let mut stores = Stores::fresh().await;
    let (mine, theirs) = (order_of("mine", 1), order_of("theirs", 2));
    for order in [&mine, &theirs] {
        insert(&mut stores, order).await;
    }
    let orders_after = async |after: &NewResource| {
        let page = stores
            .page(&customer("mine"), Some(after.order_id), 5)
            .await;
        page.map(|page| page.orders.len())
    };
    assert_eq!(orders_after(&mine).await, Some(0));
    assert_eq!(orders_after(&theirs).await, None);
    assert_eq!(orders_after(&order_of("mine", 3)).await, None);
}

/// Of all conditional orders that were created on one state, one stays.
#[tokio::test]
async fn one_order_follows_a_state() {
    let mut stores = Stores::fresh().await;
    for ms in 1..=4 {
        insert(&mut stores, &order_of(if ms < 4 { "c" } else { "d" }, ms)).await;
    }
    let follow = async |place: i64| {
        let sql = format!("UPDATE orders SET based_on = '\\x01' WHERE seq = {place}");
        stores.try_sql(&sql).await
    };
    follow(1).await.unwrap();
    let refused = follow(2).await.unwrap_err();
    let constraint = refused.as_db_error().and_then(|error| error.constraint());
    assert_eq!(constraint, Some("orders_customer_id_follows_key"));
    follow(4).await.unwrap();
}

#[tokio::test]
async fn an_order_costs_at_most_600_bytes_and_lists_are_read_along_their_index() {
    let mut stores = Stores::fresh().await;
    let names: Vec<String> = (0..100).map(|n| Uuid::from_u128(n).to_string()).collect();
    let orders = 5000;
    for n in 0..orders {
        insert(
            &mut stores,
            &order_of(&names[n * 7 % names.len()], n as u128 + 1),
        )
        .await;
    }
    let bytes = stores
        .number("SELECT pg_total_relation_size('orders')")
        .await;
    let bytes = bytes / i64::try_from(orders).unwrap();
    assert!(bytes <= 600, "{bytes} bytes per order");
    eprintln!("{bytes} bytes per order, with all indexes");

    stores.run_sql("VACUUM ANALYZE orders").await;
    let plan = stores.plan(page(&customer(&names[0]), None, 20)).await;
    assert!(
        plan.contains("Index Only Scan Backward using orders_customer_id_seq_idx"),
        "{plan}"
    );
    assert!(!plan.contains("Seq Scan on orders"), "{plan}");

    let order = order_of(&names[0], orders as u128 + 1);
    let plan = stores.plan(insert_based_on(&order, &Expected::Any)).await;
    assert!(!plan.contains("Seq Scan on orders"), "{plan}");
}
