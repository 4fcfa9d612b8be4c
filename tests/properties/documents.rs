//! Strategies for JSON documents: any, orders, and what is almost an order.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

/// Any characters, U+0000 and those beyond the BMP included.
pub fn text(chars: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = String> + Clone {
    vec(any::<char>(), chars).prop_map(String::from_iter)
}

/// What [`super::spelling`] picks a spelling by.
pub fn choices() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..200)
}

/// Any document, small.
pub fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text(0..=8).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map(text(0..=4), inner, 0..5).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// Any valid order.
pub fn order() -> impl Strategy<Value = Value> {
    let storable = |text: String| text.replace('\0', "0");
    let item = (text(1..=64), 1_u64..=10_000, 0..i64::MAX / 1_000_000).prop_map(
        move |(sku, quantity, price)| json!({"sku": storable(sku), "quantity": quantity, "unitPrice": price}),
    );
    let note = prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        text(0..=500).prop_map(move |note| Some(storable(note).into())),
    ];
    let currency = select(vec!["EUR", "JPY", "USD", "CHF"]);
    let items = prop_oneof![29 => vec(item.clone(), 1..=3), 1 => vec(item, 98..=100)];
    (currency, items, note).prop_map(|(currency, items, note)| {
        let mut order = json!({"currency": currency, "items": items});
        if let Some(note) = note {
            order["note"] = note;
        }
        order
    })
}

/// The second of [`changed_order`].
pub fn almost_order() -> impl Strategy<Value = Value> {
    changed_order().prop_map(|(_, almost)| almost)
}

/// An order, and the same of which one place was changed: to another value, mostly one near a limit of that place, or
/// removed, or added to.
pub fn changed_order() -> impl Strategy<Value = (Value, Value)> {
    let value = prop_oneof![
        4 => any::<Index>().prop_map(Err),
        1 => any_value().prop_map(Ok),
    ];
    (order(), any::<Index>(), value, 0..8, text(0..=3)).prop_map(|(original, place, value, change, name)| {
        let mut order = original.clone();
        let places = pointers(&order);
        let pointer = &places[place.index(places.len())];
        let (parent, last) = pointer.rsplit_once('/').unwrap_or_default();
        let value = value.unwrap_or_else(|index| {
            let near = near_limits(last);
            near[index.index(near.len())].clone()
        });
        match (change, order.pointer_mut(parent)) {
            (0, Some(Value::Object(members))) => {
                members.remove(last);
            }
            (1, Some(Value::Object(members))) => {
                members.insert(name, value);
            }
            _ => *order.pointer_mut(pointer).expect("it is there") = value,
        }
        (original, order)
    })
}

/// Values of a member that just fit, or just do not.
fn near_limits(member: &str) -> Vec<Value> {
    let item = |price: i64| json!({"sku": "A", "quantity": 1, "unitPrice": price});
    match member {
        "items" => vec![
            json!([]),
            json!(vec![item(0); 100]),
            json!(vec![item(0); 101]),
            json!([item(i64::MAX), item(0)]),
            json!([item(i64::MAX), item(1)]),
        ],
        "quantity" | "unitPrice" => {
            let (fit, most) = ([0, 1, 2, 9_999, 10_000].map(|n| json!(n)), json!(i64::MAX));
            [&fit[..], &[json!(-1), json!(10_001), most, json!(i64::MAX.unsigned_abs() + 1), json!(2.0)]].concat()
        }
        "sku" | "note" => {
            let long = [1, 64, 65, 500, 501].map(|length| json!("€".repeat(length)));
            [&long[..], &[json!(""), json!("\0")]].concat()
        }
        "currency" => vec![json!("CHF"), json!("eur"), json!("EURO"), json!("")],
        _ => vec![json!([]), json!({}), json!(null), json!("")],
    }
}

/// The place of every value in a document.
fn pointers(value: &Value) -> Vec<String> {
    let below = |token: &str, value| {
        let start = exactly_once::json::pointer("", token);
        pointers(value).into_iter().map(|inner| start.clone() + &inner).collect::<Vec<_>>()
    };
    let mut all = vec![String::new()];
    match value {
        Value::Object(members) => all.extend(members.iter().flat_map(|(name, value)| below(name, value))),
        Value::Array(items) => {
            all.extend(items.iter().enumerate().flat_map(|(index, value)| below(&index.to_string(), value)));
        }
        _ => {}
    }
    all
}
