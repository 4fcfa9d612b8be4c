//! Fingerprints: equal for all spellings of one request, and different for different requests.

use exactly_once::{Customer, Document, Fingerprint, IdempotencyKey, KeyScope, json};
use orders::ORDERS;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use crate::checks::{self, Request};
use crate::documents::{almost_order, choices, order};
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

/// A text in five parts, cut at these places. The customer has a letter more: names are never empty.
fn fingerprint_of_cuts(text: &str, [a, b, c, d]: [usize; 4]) -> Fingerprint {
    let scope = scope("orders", &format!("c{}", &text[..a]), &text.as_bytes()[a..b]);
    let document = Document::from_text(&text[d..]);
    Fingerprint::of(&scope, &text[b..c], &text[c..d], &document)
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
    fn every_member_of_an_order_counts(first in request(), order in almost_order()) {
        if let Ok(order) = ORDERS.validate(&order) {
            checks::fingerprints(&first, &Request { order, ..first.clone() });
        }
    }

    #[test]
    fn a_change_of_one_member_is_seen(
        order in order(),
        item in any::<Index>(),
        member in select(vec!["sku", "quantity", "unitPrice", "note", "currency", "items"]),
    ) {
        let mut changed = order.clone();
        let items = changed["items"].as_array_mut().expect("items");
        let item = item.index(items.len());
        match member {
            "sku" => {
                let same = items[item]["sku"] == "other";
                items[item]["sku"] = if same { "another" } else { "other" }.into();
            }
            "quantity" => {
                let quantity = items[item]["quantity"].as_u64().expect("a number");
                items[item]["quantity"] = (quantity % 10_000 + 1).into();
            }
            "unitPrice" => {
                let price = items[item]["unitPrice"].as_i64().expect("a number");
                items[item]["unitPrice"] = (price ^ 1).into();
            }
            "note" => {
                let same = order.get("note").is_some_and(|note| note == "");
                changed["note"] = if same { Value::Null } else { "".into() };
            }
            "currency" => {
                let same = order["currency"] == "EUR";
                changed["currency"] = if same { "USD" } else { "EUR" }.into();
            }
            _ if items.len() > 1 => {
                items.pop();
            }
            _ => items.push(items[0].clone()),
        }
        let request = |order: &Value| Request {
            scope: scope("orders", "c", b"k"),
            method: "POST".to_owned(),
            path: "/".to_owned(),
            order: read(&order.to_string()),
        };
        let (first, second) = (request(&order), request(&changed));
        prop_assert_ne!(first.fingerprint(), second.fingerprint());
        checks::fingerprints(&first, &second);
    }

    #[test]
    fn where_one_part_ends_and_the_next_begins_counts(
        text in "[!#-+\\--~]{5,40}",
        cuts in any::<([Index; 4], [Index; 4])>(),
    ) {
        let places = |cuts: [Index; 4]| {
            let mut cuts = cuts.map(|cut| cut.index(text.len()));
            cuts.sort_unstable();
            // The key, from the first cut to the second, is never empty.
            if cuts[0] == cuts[1] {
                cuts[0] = cuts[0].saturating_sub(1);
                cuts = [cuts[0], cuts[1].max(1), cuts[2].max(1), cuts[3].max(1)];
            }
            cuts
        };
        let (one, other) = (places(cuts.0), places(cuts.1));
        let equal = fingerprint_of_cuts(&text, one) == fingerprint_of_cuts(&text, other);
        prop_assert_eq!(equal, one == other);
    }
}
