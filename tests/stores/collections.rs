//! Two collections: an order and a refund of one customer, under one key, with one id and one document, never meet.

use exactly_once::condition::Expected;
use exactly_once::ports::{ConditionalInsertion, Insertion, List, NewResource, StoredResource};
use exactly_once::{Customer, Document, Fingerprint, IdempotencyKey, KeyScope, Progress, Record, ResourceId, json};
use exactly_once_stores::redis::Reply;
use orders::ORDERS;
use simulation::world::{Answer, Call};

use crate::native::{REFUNDS, Stores};

fn new(collection: &'static str) -> NewResource {
    let scope =
        KeyScope { collection, customer: Customer::named("c").unwrap(), key: IdempotencyKey::parse(b"k").unwrap() };
    let body = br#"{"currency":"EUR","items":[{"sku":"A-1","quantity":1,"unitPrice":5}]}"#;
    let order = ORDERS.validate(&json::parse(body).unwrap()).unwrap();
    let document = Document::of(&order);
    NewResource {
        id: ResourceId::parse("01970000-0000-7000-8000-000000000001").unwrap(),
        fingerprint: Fingerprint::of(&scope, "POST", "/same/path", &document),
        scope,
        document,
    }
}

fn stored(new: &NewResource) -> StoredResource {
    StoredResource { id: new.id, fingerprint: new.fingerprint, document: new.document.clone() }
}

fn both() -> [NewResource; 2] {
    [ORDERS.collection.name, REFUNDS.name].map(new)
}

#[tokio::test]
async fn an_order_and_a_refund_with_one_key_never_meet_in_redis() {
    let stores = Stores::fresh().await;
    let reserve = |new: &NewResource| {
        let record = Record { progress: Progress::InProgress, fingerprint: new.fingerprint, id: new.id };
        (record, Call::Reserve(new.scope.clone(), record))
    };
    for new in &both() {
        let (record, call) = reserve(new);
        assert_eq!(stores.execute(&call).await, Answer::Redis(Reply::Nil));
        let again = stores.execute(&call).await;
        assert_eq!(again, Answer::Redis(Reply::Bytes(record.encode())));
    }
    let [order, refund] = both();
    stores.evict(&refund.scope).await;
    let (record, call) = reserve(&order);
    let kept = stores.execute(&call).await;
    assert_eq!(kept, Answer::Redis(Reply::Bytes(record.encode())));

    let mut other = refund.scope;
    other.key = IdempotencyKey::parse(b"other").unwrap();
    for scope in [order.scope, other] {
        assert_eq!(stores.execute(&Call::Acquire(scope)).await, Answer::Redis(Reply::Nil));
    }
}

#[tokio::test]
async fn an_order_and_a_refund_with_one_key_never_meet_in_postgres() {
    let stores = Stores::fresh().await;
    let [order, refund] = both();
    let (orders, refunds) = (List::from(&order.scope), List::from(&refund.scope));
    let state = async |list: &List| stores.page(list, None, 5).await.unwrap().state;
    // Of empty lists, too.
    assert_ne!(state(&orders).await, state(&refunds).await);

    let insert = Call::Insert(Box::new(order.clone()));
    let (before, inserted) = (state(&refunds).await, stores.execute(&insert).await);
    assert_eq!(inserted, Answer::Postgres(Insertion::Inserted));
    assert_eq!(stores.find(&refunds, refund.id).await, None);
    assert_eq!(stores.find_by_key(&refund.scope).await, None);
    assert_eq!(state(&refunds).await, before);

    let on_condition =
        |new: &NewResource, state| Call::InsertBasedOn(Box::new(new.clone()), Expected::OneOf(vec![state]));
    let foreign = on_condition(&refund, state(&orders).await);
    let refused = stores.execute(&foreign).await;
    assert_eq!(refused, Answer::Conditional(ConditionalInsertion::Stale(before)));
    let inserted = stores.execute(&on_condition(&refund, before)).await;
    let after = state(&refunds).await;
    assert_eq!(inserted, Answer::Conditional(ConditionalInsertion::Inserted(after)));

    for (new, list) in [(&order, &orders), (&refund, &refunds)] {
        assert_eq!(stores.find(list, new.id).await, Some(stored(new)));
        assert_eq!(stores.find_by_key(&new.scope).await, Some(stored(new)));
        let page = stores.page(list, None, 5).await.unwrap();
        assert_eq!(page.resources, [stored(new)]);
    }
    for (new, other) in [(&order, REFUNDS.name), (&refund, ORDERS.collection.name)] {
        let again = Call::Insert(Box::new(new.clone()));
        let existing = Answer::Postgres(Insertion::Existing(stored(new)));
        assert_eq!(stores.execute(&again).await, existing);
        assert_eq!(stores.number(&format!("SELECT count(*) FROM {other}")).await, 1);
    }
}
