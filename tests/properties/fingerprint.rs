//! Fingerprints: equal for all spellings of one request, and different for different requests.

use exactly_once::{Customer, IdempotencyKey, KeyScope, json};
use orders::ORDERS;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use crate::checks::{self, Request};
use crate::documents::{changed_order, choices, order};
use crate::spelling::spell;

/// Without quotation marks and commas, which a bare key cannot have.
const VISIBLE: &str = "[!#-+\\--~]{1,20}";

fn scope(collection: &'static str, customer: &str, key: &[u8]) -> KeyScope {
    KeyScope {
        collection,
        customer: Customer::named(customer).expect("a name"),
        key: IdempotencyKey::parse(key).expect("a key"),
    }
}

/// The way of a body through the service.
fn read(body: &str) -> Value {
    ORDERS.validate(&json::parse(body.as_bytes()).expect("JSON")).expect("an order")
}

fn request() -> impl Strategy<Value = Request> {
    let method = select(vec!["POST", "PUT"]);
    let path = select(vec!["/api/v1/orders", "/api/v1/quotes"]);
    let collection = select(vec!["orders", "refunds"]);
    (collection, VISIBLE, VISIBLE, method, path, order()).prop_map(
        |(collection, customer, key, method, path, order)| Request {
            scope: scope(collection, &customer, key.as_bytes()),
            method: method.to_owned(),
            path: path.to_owned(),
            order: read(&order.to_string()),
        },
    )
}

/// The note left out instead of `null`, or the other way round.
fn with_other_null_note(order: &Value) -> Value {
    let mut order = order.clone();
    match order.get("note") {
        None => order["note"] = Value::Null,
        Some(Value::Null) => {
            order.as_object_mut().expect("an object").remove("note");
        }
        Some(_) => {}
    }
    order
}

proptest! {
    #[test]
    fn spelling_does_not_matter(
        order in order(),
        key in VISIBLE,
        (one, other) in (choices(), choices()),
    ) {
        let of = |order, choices: &[u8], key: &[u8]| Request {
            scope: scope("orders", "c", key),
            method: "POST".to_owned(),
            path: "/".to_owned(),
            order: read(&spell(order, choices)),
        };
        let first = of(&order, &one, key.as_bytes());
        let again = of(&with_other_null_note(&order), &other, &checks::quote(key.as_bytes()));
        prop_assert_eq!(first.fingerprint(), again.fingerprint());
        prop_assert_eq!(&first.order, &again.order);
        checks::fingerprints(&first, &again);
    }

    #[test]
    fn every_part_counts(first in request(), other in request(), parts in vec(any::<bool>(), 6)) {
        let pick = |other: bool, a: &Request, b: &Request| if other { b.clone() } else { a.clone() };
        let from = |part: usize| pick(parts[part], &first, &other);
        let second = Request {
            scope: KeyScope {
                collection: from(5).scope.collection,
                customer: from(0).scope.customer,
                key: from(1).scope.key,
            },
            method: from(2).method,
            path: from(3).path,
            order: from(4).order,
        };
        checks::fingerprints(&first, &second);
    }

    #[test]
    fn every_member_of_an_order_counts((order, almost) in changed_order()) {
        if let Ok(changed) = ORDERS.validate(&almost) {
            let request = |order| Request {
                scope: scope("orders", "c", b"k"),
                method: "POST".to_owned(),
                path: "/".to_owned(),
                order,
            };
            checks::fingerprints(&request(read(&order.to_string())), &request(changed));
        }
    }
}
