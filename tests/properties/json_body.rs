//! The body of a request for an order: any bytes, any JSON, and orders with and without faults.

use exactly_once::json::{self, Malformed};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use crate::checks;
use crate::documents::{almost_order, any_value, choices, order, text};
use crate::spelling::spell;

/// Pieces of JSON, and of what is nearly JSON.
const PIECES: &str = r#"{ } [ ] , : " "a" "a": 1 0 - . e E + 9999999999 1e400 \ \u d834 \udd1e null true false NaN"#;

/// Text that is nearly JSON: pieces of it in any order.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let mut pieces: Vec<&[u8]> = PIECES.split(' ').map(str::as_bytes).collect();
    pieces.extend([&b" "[..], b"\n", b"\0", b"\xef\xbb\xbf", b"\xff", b"\xc3"]);
    vec(select(pieces), 0..40).prop_map(|pieces| pieces.concat())
}

/// A document inside arrays, and objects with these names.
fn wrap(text: String, layers: &[Option<String>]) -> String {
    layers.iter().fold(text, |inner, layer| match layer {
        None => format!("[0,{inner},{{}}]"),
        Some(name) => format!("{{{}:{inner}}}", Value::from(name.as_str())),
    })
}

fn object(members: &[(&String, &Value)], choices: &[u8]) -> String {
    let spelled = |(name, value): &(&String, &Value)| {
        format!("{}:{}", spell(&Value::from(name.as_str()), choices), spell(value, choices))
    };
    format!("{{{}}}", members.iter().map(spelled).collect::<Vec<_>>().join(","))
}

proptest! {
    #[test]
    fn any_bytes(
        any in vec(any::<u8>(), 0..300),
        nearly_json in nearly_json(),
        (order, at, byte, kept) in (order(), any::<Index>(), any::<u8>(), 0..2_usize),
    ) {
        checks::json_body(&any);
        checks::json_body(&nearly_json);
        let mut body = order.to_string().into_bytes();
        let at = at.index(body.len());
        body.splice(at..at + kept, [byte]);
        checks::json_body(&body);
    }

    #[test]
    fn any_document_and_order(value in any_value(), order in order(), choices in choices()) {
        checks::json_body(spell(&value, &choices).as_bytes());
        let body = spell(&order, &choices);
        checks::json_body(body.as_bytes());
        prop_assert_eq!(json::parse(body.as_bytes()), Ok(order));
    }

    #[test]
    fn a_member_given_twice_is_refused_at_any_depth(
        members in btree_map(text(0..=4), any_value(), 1..5),
        (which, place) in (any::<Index>(), any::<Index>()),
        again in any_value(),
        layers in vec(of(text(0..=3)), 0..100),
        choices in choices(),
    ) {
        let mut members: Vec<_> = members.iter().collect();
        let once = wrap(object(&members, &choices), &layers);
        prop_assert!(json::parse(once.as_bytes()).is_ok(), "{}", once);

        let name = members[which.index(members.len())].0;
        members.insert(place.index(members.len() + 1), (name, &again));
        let twice = wrap(object(&members, &choices), &layers);
        let Err(Malformed(why)) = json::parse(twice.as_bytes()) else {
            panic!("accepted {twice}");
        };
        prop_assert!(why.contains("twice"), "{}: {}", why, twice);
    }

    #[test]
    fn nesting_is_bounded(depth in 0..30_000_usize, closed in any::<bool>(), opening in select(vec!["[", "{\"a\":"])) {
        let closing = if opening == "[" { "]" } else { "}" };
        let closing = if closed { closing.repeat(depth) } else { String::new() };
        let body = format!("{}0{closing}", opening.repeat(depth));
        prop_assert_eq!(json::parse(body.as_bytes()).is_ok(), depth == 0 || closed && depth < 128);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn anything_like_an_order(order in almost_order(), choices in choices()) {
        checks::json_body(spell(&order, &choices).as_bytes());
    }
}
