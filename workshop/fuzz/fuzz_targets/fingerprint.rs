//! Two requests, one part per line: customer, key, method, path and body of the first; how to spell the second body;
//! then the parts of the second, where an empty one is the first's. Equal requests have equal fingerprints, others do
//! not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orders::ORDERS;
use orders_fuzz::checks::{self, Request};
use orders_fuzz::spelling::spell;
use exactly_once::{Customer, IdempotencyKey, KeyScope, json};

fn request(customer: &str, key: &str, method: &str, path: &str, body: &str) -> Option<Request> {
    Some(Request {
        scope: KeyScope {
            collection: ORDERS.collection.name,
            customer: Customer::named(customer)?,
            key: IdempotencyKey::parse(key.as_bytes())?,
        },
        method: method.to_owned(),
        path: path.to_owned(),
        order: ORDERS.validate(&json::parse(body.as_bytes()).ok()?).ok()?,
    })
}

fn not_empty(part: &&str) -> bool {
    !part.is_empty()
}

fn check(input: &str) -> Option<()> {
    let mut lines = input.split('\n');
    let mut five = || -> Option<[&str; 5]> {
        let mut five = [""; 5];
        for part in &mut five {
            *part = lines.next()?;
        }
        Some(five)
    };
    let first = five()?;
    let [customer, key, method, path, body] = first;
    let one = request(customer, key, method, path, body)?;

    let [choices, customer, key, method, path] = five()?;
    let other_body = lines.next()?;
    let or_first = |part, index: usize| Some(part).filter(not_empty).unwrap_or(first[index]);
    let body = json::parse(or_first(other_body, 4).as_bytes()).ok()?;
    let body = spell(&body, choices.as_bytes());
    let other = request(
        or_first(customer, 0),
        or_first(key, 1),
        or_first(method, 2),
        or_first(path, 3),
        &body,
    );
    if other_body.is_empty() {
        let respelled = request("c", "k", "", "", &body).map(|request| request.order);
        assert_eq!(respelled.as_ref(), Some(&one.order), "spelled as {body}");
    }
    checks::fingerprints(&one, &other?);
    Some(())
}

fuzz_target!(|input: &[u8]| {
    let _ = std::str::from_utf8(input).map(check);
});
