//! The body of a request for an order: any bytes, any JSON, and orders with and without faults.

use std::collections::BTreeMap;

use exactly_once::json::{self, Malformed};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use crate::checks;
use crate::documents::{almost_order, any_value, choices, order, text};
use crate::spelling::spell;

/// Text that is nearly JSON: pieces of it in any order.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&[u8]> = vec![
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\"a\"",
        b"\"a\":",
        b"1",
        b"0",
        b"-",
        b".",
        b"e",
        b"E",
        b"+",
        b"9999999999",
        b"1e400",
        b"\\",
        b"\\u",
        b"d834",
        b"\\udd1e",
        b"\0",
        b"null",
        b"true",
        b"false",
        b"NaN",
        b" ",
        b"\n",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\xc3",
    ];
    vec(select(pieces), 0..40).prop_map(|pieces| pieces.concat())
}

/// A layer around a document.
#[derive(Clone, Debug)]
enum Layer {
    Array,
    Object(String),
}

fn layer() -> impl Strategy<Value = Layer> {
    prop_oneof![Just(Layer::Array), text(0..=3).prop_map(Layer::Object)]
}

fn wrap(text: String, layers: &[Layer]) -> String {
    layers.iter().fold(text, |inner, layer| match layer {
        Layer::Array => format!("[0,{inner},{{}}]"),
        Layer::Object(name) => format!("{{{}:{inner}}}", Value::from(name.as_str())),
    })
}

fn object(members: &[(&String, &Value)], choices: &[u8]) -> String {
    let members: Vec<_> = members
        .iter()
        .map(|(name, value)| {
            let name = spell(&Value::from(name.as_str()), choices);
            format!("{name}:{}", spell(value, choices))
        })
        .collect();
    format!("{{{}}}", members.join(","))
}

proptest! {
    #[test]
    fn any_bytes(body in vec(any::<u8>(), 0..300)) {
        checks::json_body(&body);
    }

    #[test]
    fn nearly_any_json(body in nearly_json()) {
        checks::json_body(&body);
    }

    #[test]
    fn any_document(value in any_value(), choices in choices()) {
        checks::json_body(spell(&value, &choices).as_bytes());
    }

    #[test]
    fn any_order(order in order(), choices in choices()) {
        let body = spell(&order, &choices);
        checks::json_body(body.as_bytes());
        prop_assert_eq!(json::parse(body.as_bytes()), Ok(order));
    }

    #[test]
    fn an_order_with_a_few_bytes_changed(
        order in order(),
        changes in vec((any::<Index>(), any::<u8>(), any::<bool>()), 1..4),
    ) {
        let mut body = order.to_string().into_bytes();
        for (at, byte, replace) in changes {
            let at = at.index(body.len());
            body.splice(at..at + usize::from(replace), [byte]);
        }
        checks::json_body(&body);
    }

    #[test]
    fn a_member_given_twice_is_refused_at_any_depth(
        members in btree_map(text(0..=4), any_value(), 1..5),
        (which, place) in (any::<Index>(), any::<Index>()),
        again in any_value(),
        layers in vec(layer(), 0..100),
        choices in choices(),
    ) {
        let members: BTreeMap<String, Value> = members;
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
