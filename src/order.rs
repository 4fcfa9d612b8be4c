//! What an order is: validation of what a client asks for, its total, its canonical form, and the one
//! representation that every answer about it repeats byte for byte.

use std::fmt;

use chrono::{DateTime, SecondsFormat};
use iso_currency::Currency;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::json::{pointer, to_json};

/// How many lines an order may have.
pub const MAX_ITEMS: usize = 100;
/// How many of one article an order line may ask for.
pub const MAX_QUANTITY: u64 = 10_000;
/// The longest article number, in Unicode scalar values.
pub const MAX_SKU_CHARS: usize = 64;
/// The longest note, in Unicode scalar values.
pub const MAX_NOTE_CHARS: usize = 500;

/// The name of an order: a UUID version 7 (RFC 9562), so that it also says when the order was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderId(Uuid);

impl OrderId {
    /// Wraps an id drawn by an [`crate::ports::OrderIds`] or read back from a store.
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The id as 16 bytes, as Redis holds it.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Reads an id from a path. Only the form this service prints (lower case, hyphens) names an order.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Self(Uuid::try_parse(text).ok()?);
        (id.to_string() == text).then_some(id)
    }

    /// When the order was asked for, in milliseconds since the Unix epoch: the first 48 bits of a version 7
    /// UUID. Whoever helps an interrupted request along reuses its id and with it this time, which is what
    /// keeps the representation the same whoever completes the order.
    pub fn created_at_millis(&self) -> i64 {
        i64::try_from(self.0.as_u128() >> 80).unwrap_or(i64::MAX)
    }

    /// [`Self::created_at_millis`] as RFC 3339 in UTC with milliseconds.
    pub fn created_at(&self) -> String {
        DateTime::from_timestamp_millis(self.created_at_millis())
            .unwrap_or_default()
            .to_rfc3339_opts(SecondsFormat::Millis, true)
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// One line of an order. Members are declared in the order of their names: that is the canonical order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Item {
    /// How many; 1 to [`MAX_QUANTITY`].
    pub quantity: u64,
    /// The article number; 1 to [`MAX_SKU_CHARS`] characters.
    pub sku: String,
    /// The price of one, in minor units of the order's currency; never negative.
    pub unit_price: i64,
}

/// What a client asked for, found valid. Only [`Draft::from_json`] and [`Draft::from_stored`] make one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Draft {
    currency: String,
    items: Vec<Item>,
    note: Option<String>,
    #[serde(skip)]
    total: i64,
}

/// A field that makes an order invalid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Where: a JSON Pointer (RFC 6901) into the request's body.
    pub pointer: String,
    /// What would be right.
    pub detail: &'static str,
}

const CURRENCY: &str = "must be an ISO 4217 code such as \"EUR\"";
const ITEMS: &str = "must be an array of 1 to 100 items";
const ITEM: &str = "must be an object with sku, quantity and unitPrice";
const SKU: &str = "must be a string of 1 to 64 characters, none of them U+0000";
const QUANTITY: &str = "must be an integer from 1 to 10000";
const UNIT_PRICE: &str = "must be an integer of minor units, 0 to 9223372036854775807";
const NOTE: &str = "must be a string of at most 500 characters, none of them U+0000, or null";
const REQUIRED: &str = "is required";
const UNKNOWN: &str = "is not a member this API knows";
const TOTAL: &str = "the total exceeds 9223372036854775807 minor units";

impl Draft {
    /// Validates a request's body.
    ///
    /// # Errors
    /// Every violation found, in document order; never empty.
    pub fn from_json(body: &Value) -> Result<Self, Vec<Violation>> {
        let mut check = Check::default();
        let Value::Object(members) = body else {
            check.violated("", "must be an object with currency and items");
            return Err(check.violations);
        };
        check.refuse_unknown("", members, &["currency", "items", "note"]);
        let currency = check.member("", members, "currency", CURRENCY, |value| {
            let code = value.as_str()?;
            Currency::from_code(code).map(|_| code.to_owned())
        });
        let note = members
            .get("note")
            .filter(|value| !value.is_null())
            .and_then(|_| {
                check.member("", members, "note", NOTE, |value| {
                    let note = value.as_str()?;
                    storable(note, 0, MAX_NOTE_CHARS).then(|| note.to_owned())
                })
            });
        let items = check
            .member("", members, "items", ITEMS, |value| {
                value
                    .as_array()
                    .filter(|items| (1..=MAX_ITEMS).contains(&items.len()))
            })
            .map(|items| check.items(items))
            .unwrap_or_default();
        let total = check.total(&items);
        match (currency, total) {
            (Some(currency), Some(total)) if check.violations.is_empty() => Ok(Self {
                currency,
                items,
                note,
                total,
            }),
            _ => Err(check.violations),
        }
    }

    /// An order as a store returned it. It was valid when it was stored; later rules do not unmake it.
    ///
    /// # Errors
    /// `None` when the items are not what [`Self::items_json`] wrote.
    pub fn from_stored(
        currency: String,
        items_json: &[u8],
        note: Option<String>,
        total: i64,
    ) -> Option<Self> {
        let items = serde_json::from_slice(items_json).ok()?;
        Some(Self {
            currency,
            items,
            note,
            total,
        })
    }

    /// ISO 4217 code.
    pub fn currency(&self) -> &str {
        &self.currency
    }

    /// The client's remark, if there is one.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// The sum over the items, in minor units.
    pub fn total(&self) -> i64 {
        self.total
    }

    /// What is ordered.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The items as JSON, for a store to keep.
    pub fn items_json(&self) -> String {
        to_json(&self.items)
    }

    /// The one text for this order: members sorted by name, no white space, an absent note as `null`. Equal
    /// orders have equal canonical texts, however the client wrote them.
    pub fn canonical(&self) -> String {
        to_json(self)
    }

    /// Where this order differs from another, as JSON Pointers; empty when it does not.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let value = |draft| serde_json::to_value(draft).unwrap_or_default();
        crate::json::differences(&value(self), &value(other))
    }
}

/// Postgres cannot hold U+0000 in text, so it is refused here rather than failing there.
fn storable(text: &str, min_chars: usize, max_chars: usize) -> bool {
    !text.contains('\0') && (min_chars..=max_chars).contains(&text.chars().count())
}

/// Collects violations while the members are taken apart.
#[derive(Default)]
struct Check {
    violations: Vec<Violation>,
}

impl Check {
    fn violated(&mut self, pointer: impl Into<String>, detail: &'static str) {
        self.violations.push(Violation {
            pointer: pointer.into(),
            detail,
        });
    }

    fn refuse_unknown(&mut self, at: &str, members: &Map<String, Value>, known: &[&str]) {
        for name in members
            .keys()
            .filter(|name| !known.contains(&name.as_str()))
        {
            self.violated(pointer(at, name), UNKNOWN);
        }
    }

    /// The member as `read` understands it, or a violation: absent and not understood are told apart.
    fn member<'v, T>(
        &mut self,
        at: &str,
        members: &'v Map<String, Value>,
        name: &str,
        rule: &'static str,
        read: impl FnOnce(&'v Value) -> Option<T>,
    ) -> Option<T> {
        let detail = match members.get(name) {
            None => REQUIRED,
            Some(value) => match read(value) {
                Some(value) => return Some(value),
                None => rule,
            },
        };
        self.violated(pointer(at, name), detail);
        None
    }

    fn items(&mut self, values: &[Value]) -> Vec<Item> {
        values
            .iter()
            .enumerate()
            .filter_map(|(index, value)| self.item(&format!("/items/{index}"), value))
            .collect()
    }

    fn item(&mut self, at: &str, value: &Value) -> Option<Item> {
        let Value::Object(members) = value else {
            self.violated(at, ITEM);
            return None;
        };
        self.refuse_unknown(at, members, &["sku", "quantity", "unitPrice"]);
        let sku = self.member(at, members, "sku", SKU, |value| {
            let sku = value.as_str()?;
            storable(sku, 1, MAX_SKU_CHARS).then(|| sku.to_owned())
        });
        let quantity = self.member(at, members, "quantity", QUANTITY, |value| {
            value
                .as_u64()
                .filter(|quantity| (1..=MAX_QUANTITY).contains(quantity))
        });
        let unit_price = self.member(at, members, "unitPrice", UNIT_PRICE, |value| {
            value.as_i64().filter(|price| *price >= 0)
        });
        Some(Item {
            quantity: quantity?,
            sku: sku?,
            unit_price: unit_price?,
        })
    }

    fn total(&mut self, items: &[Item]) -> Option<i64> {
        let total = items.iter().try_fold(0_i64, |total, item| {
            let line = item
                .unit_price
                .checked_mul(i64::try_from(item.quantity).ok()?)?;
            total.checked_add(line)
        });
        if total.is_none() {
            self.violated("/items", TOTAL);
        }
        total
    }
}

/// The answer about an order. A pure function of its id and content: that is why a replay needs neither
/// the first answer's bytes nor a clock. Changing it changes what replays of old orders say, so a new
/// shape needs a new API version.
pub fn representation(id: &OrderId, draft: &Draft) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Representation<'a> {
        order_id: String,
        status: &'static str,
        currency: &'a str,
        items: Vec<Line<'a>>,
        note: Option<&'a str>,
        total: i64,
        created_at: String,
    }

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Line<'a> {
        sku: &'a str,
        quantity: u64,
        unit_price: i64,
    }

    to_json(&Representation {
        order_id: id.to_string(),
        status: "accepted",
        currency: &draft.currency,
        items: draft
            .items
            .iter()
            .map(|item| Line {
                sku: &item.sku,
                quantity: item.quantity,
                unit_price: item.unit_price,
            })
            .collect(),
        note: draft.note.as_deref(),
        total: draft.total,
        created_at: id.created_at(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({"currency": "EUR", "items": [{"sku": "A-1", "quantity": 2, "unitPrice": 1250}], "note": "ring twice"})
    }

    fn violations(body: Value) -> Vec<(String, &'static str)> {
        Draft::from_json(&body)
            .expect_err("must be invalid")
            .into_iter()
            .map(|v| (v.pointer, v.detail))
            .collect()
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut body = valid();
        *body.pointer_mut(pointer).expect("exists") = value;
        body
    }

    #[test]
    fn a_valid_order_has_its_total() {
        let draft = Draft::from_json(&valid()).expect("valid");
        assert_eq!(draft.total(), 2500);
        assert_eq!(
            draft.canonical(),
            r#"{"currency":"EUR","items":[{"quantity":2,"sku":"A-1","unitPrice":1250}],"note":"ring twice"}"#
        );
    }

    #[test]
    fn an_absent_and_a_null_note_are_the_same_order() {
        let mut absent = valid();
        absent.as_object_mut().expect("object").remove("note");
        assert_eq!(
            Draft::from_json(&absent),
            Draft::from_json(&with("/note", Value::Null))
        );
    }

    #[test]
    fn every_violation_is_named() {
        assert_eq!(
            violations(json!({
                "currency": "EURO",
                "items": [{"sku": "", "quantity": 0, "unitPrice": -1, "colour": 1}, 7],
                "note": 5,
                "extra": true
            })),
            [
                ("/extra".into(), UNKNOWN),
                ("/currency".into(), CURRENCY),
                ("/note".into(), NOTE),
                ("/items/0/colour".into(), UNKNOWN),
                ("/items/0/sku".into(), SKU),
                ("/items/0/quantity".into(), QUANTITY),
                ("/items/0/unitPrice".into(), UNIT_PRICE),
                ("/items/1".into(), ITEM),
            ]
        );
        assert_eq!(
            violations(json!({})),
            [("/currency".into(), REQUIRED), ("/items".into(), REQUIRED)]
        );
        assert_eq!(violations(json!([])).len(), 1);
    }

    #[test]
    fn limits_are_inclusive() {
        let item = valid()["items"][0].clone();
        for (pointer, good, bad) in [
            ("/items/0/quantity", json!(10_000), json!(10_001)),
            ("/items/0/quantity", json!(1), json!(0)),
            ("/items/0/quantity", json!(3), json!(3.0)),
            ("/items/0/sku", json!("ß".repeat(64)), json!("ß".repeat(65))),
            ("/items/0/sku", json!("x"), json!("x\0")),
            ("/items/0/unitPrice", json!(0), json!(-1)),
            ("/items/0/unitPrice", json!(1), json!(1.5)),
            ("/note", json!("n".repeat(500)), json!("n".repeat(501))),
            ("/note", json!(""), json!("\0")),
            ("/currency", json!("JPY"), json!("eur")),
            (
                "/items",
                json!(vec![item.clone(); 100]),
                json!(vec![item; 101]),
            ),
        ] {
            assert!(Draft::from_json(&with(pointer, good)).is_ok(), "{pointer}");
            assert_eq!(violations(with(pointer, bad))[0].0, pointer);
        }
        assert_eq!(
            violations(with("/items", json!([])))[0],
            ("/items".into(), ITEMS)
        );
    }

    #[test]
    fn an_overflowing_total_is_a_violation() {
        let max = json!([{"sku": "A", "quantity": 1, "unitPrice": i64::MAX}]);
        assert!(Draft::from_json(&with("/items", max)).is_ok());
        for items in [
            json!([{"sku": "A", "quantity": 2, "unitPrice": i64::MAX}]),
            json!([{"sku": "A", "quantity": 1, "unitPrice": i64::MAX}, {"sku": "B", "quantity": 1, "unitPrice": 1}]),
        ] {
            assert_eq!(
                violations(with("/items", items)),
                [("/items".into(), TOTAL)]
            );
        }
        assert_eq!(
            violations(with("/items/0/unitPrice", json!(u64::MAX)))[0].1,
            UNIT_PRICE
        );
    }

    #[test]
    fn differences_name_fields_and_never_values() {
        let stored = Draft::from_json(&valid()).expect("valid");
        let asked = Draft::from_json(&with("/items/0/quantity", json!(3))).expect("valid");
        assert_eq!(stored.differences(&asked), ["/items/0/quantity"]);
        assert!(stored.differences(&stored).is_empty());
    }

    #[test]
    fn a_stored_order_is_represented_as_the_first_time() {
        let id = OrderId::from_uuid(uuid::uuid!("01970000-0000-7000-8000-000000000001"));
        let draft = Draft::from_json(&valid()).expect("valid");
        let body = representation(&id, &draft);
        assert_eq!(
            body,
            r#"{"orderId":"01970000-0000-7000-8000-000000000001","status":"accepted","currency":"EUR","items":[{"sku":"A-1","quantity":2,"unitPrice":1250}],"note":"ring twice","total":2500,"createdAt":"2025-05-24T01:54:49.472Z"}"#
        );
        // Postgres gives jsonb back in an order and spacing of its own.
        let stored = Draft::from_stored(
            "EUR".into(),
            br#"[{"sku": "A-1", "quantity": 2, "unitPrice": 1250}]"#,
            Some("ring twice".into()),
            2500,
        )
        .expect("readable");
        assert_eq!(representation(&id, &stored), body);
        assert_eq!(stored, draft);
    }

    #[test]
    fn only_the_printed_form_of_an_id_is_read() {
        let text = "01970000-0000-7000-8000-00000000000a";
        assert_eq!(OrderId::parse(text).expect("valid").to_string(), text);
        for other in [
            "",
            "nope",
            "01970000-0000-7000-8000-00000000000A",
            "01970000000070008000000000000000",
            "{01970000-0000-7000-8000-00000000000a}",
        ] {
            assert_eq!(OrderId::parse(other), None, "{other}");
        }
    }
}
