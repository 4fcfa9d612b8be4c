//! What an order is: its members and their rules, its total, its canonical form and its representation. The only file
//! that knows.

use exactly_once::json::{pointer, to_json};
use exactly_once::{Collection, Document, Documentation, Resource, ResourceId, Violation};
use iso_currency::Currency;
use serde::Serialize;
use serde_json::{Map, Value};

/// How many lines an order may have.
pub const MAX_ITEMS: usize = 100;
/// How many of one article an order line may ask for.
pub const MAX_QUANTITY: u64 = 10_000;
/// The longest article number, in Unicode scalar values.
pub const MAX_SKU_CHARS: usize = 64;
/// The longest note, in Unicode scalar values.
pub const MAX_NOTE_CHARS: usize = 500;

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    /// The article number; 1 to [`MAX_SKU_CHARS`] characters.
    sku: String,
    /// How many; 1 to [`MAX_QUANTITY`].
    quantity: u64,
    /// The price of one, in minor units of the order's currency; never negative.
    unit_price: i64,
    /// Stored members that another release knows.
    unknown: Map<String, Value>,
}

/// A valid order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    currency: String,
    items: Vec<Item>,
    note: Option<String>,
    /// The sum over the items, in minor units. Not stored.
    total: i64,
    /// Stored members that another release knows.
    unknown: Map<String, Value>,
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

impl Resource for Order {
    const COLLECTION: Collection = Collection {
        name: "orders",
        one: "order",
        path: "/api/v1/orders",
    };

    const DOCUMENTATION: Option<Documentation> = Some(Documentation {
        description: "/openapi.json",
        reference: "/reference/",
    });

    fn from_json(body: &Value) -> Result<Self, Vec<Violation>> {
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
        let total = total(&items);
        if total.is_none() {
            check.violated("/items", TOTAL);
        }
        match (currency, total) {
            (Some(currency), Some(total)) if check.violations.is_empty() => Ok(Self {
                currency,
                items,
                note,
                total,
                unknown: Map::new(),
            }),
            _ => Err(check.violations),
        }
    }

    fn from_stored(document: &Document) -> Option<Self> {
        let Value::Object(mut members) = document.value() else {
            return None;
        };
        let Some(Value::String(currency)) = members.remove("currency") else {
            return None;
        };
        let Some(Value::Array(items)) = members.remove("items") else {
            return None;
        };
        let note = match members.remove("note") {
            None | Some(Value::Null) => None,
            Some(Value::String(note)) => Some(note),
            Some(_) => return None,
        };
        let items: Vec<Item> = items
            .into_iter()
            .map(Item::from_stored)
            .collect::<Option<_>>()?;
        Some(Self {
            currency,
            total: total(&items)?,
            items,
            note,
            unknown: members,
        })
    }

    fn canonical(&self) -> Document {
        let items = self.items.iter().map(|item| {
            let mut members = item.unknown.clone();
            members.insert("quantity".to_owned(), item.quantity.into());
            members.insert("sku".to_owned(), item.sku.clone().into());
            members.insert("unitPrice".to_owned(), item.unit_price.into());
            Value::Object(members)
        });
        // serde_json keeps members in the order of their names.
        let mut members = self.unknown.clone();
        members.insert("items".to_owned(), items.collect());
        members.insert("currency".to_owned(), self.currency.clone().into());
        members.insert("note".to_owned(), self.note.clone().into());
        Document::from_text(to_json(&members))
    }

    fn representation(&self, id: ResourceId) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Representation<'a> {
            order_id: String,
            status: &'static str,
            currency: &'a str,
            items: Vec<RepresentedItem<'a>>,
            note: Option<&'a str>,
            total: i64,
            created_at: String,
            #[serde(flatten)]
            unknown: &'a Map<String, Value>,
        }

        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct RepresentedItem<'a> {
            sku: &'a str,
            quantity: u64,
            unit_price: i64,
            #[serde(flatten)]
            unknown: &'a Map<String, Value>,
        }

        to_json(&Representation {
            order_id: id.to_string(),
            status: "accepted",
            currency: &self.currency,
            items: self
                .items
                .iter()
                .map(|item| RepresentedItem {
                    sku: &item.sku,
                    quantity: item.quantity,
                    unit_price: item.unit_price,
                    unknown: &item.unknown,
                })
                .collect(),
            note: self.note.as_deref(),
            total: self.total,
            created_at: id.created_at(),
            unknown: &self.unknown,
        })
    }
}

impl Item {
    fn from_stored(stored: Value) -> Option<Self> {
        let Value::Object(mut members) = stored else {
            return None;
        };
        let Some(Value::String(sku)) = members.remove("sku") else {
            return None;
        };
        Some(Self {
            sku,
            quantity: members.remove("quantity")?.as_u64()?,
            unit_price: members.remove("unitPrice")?.as_i64()?,
            unknown: members,
        })
    }
}

/// The sum over the items, in minor units; `None` when it does not fit.
fn total(items: &[Item]) -> Option<i64> {
    items.iter().try_fold(0_i64, |total, item| {
        let quantity = i64::try_from(item.quantity).ok()?;
        total.checked_add(item.unit_price.checked_mul(quantity)?)
    })
}

/// Postgres cannot hold U+0000 in text, so it is refused here rather than failing there.
fn storable(text: &str, min_chars: usize, max_chars: usize) -> bool {
    !text.contains('\0') && (min_chars..=max_chars).contains(&text.chars().count())
}

/// Collects violations while members are read.
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

    /// The member as `read` understands it, or a violation, which is another one for a missing member.
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
            sku: sku?,
            quantity: quantity?,
            unit_price: unit_price?,
            unknown: Map::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({"currency": "EUR", "items": [{"sku": "A-1", "quantity": 2, "unitPrice": 1250}], "note": "ring twice"})
    }

    fn violations(body: Value) -> Vec<(String, &'static str)> {
        Order::from_json(&body)
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
        let order = Order::from_json(&valid()).expect("valid");
        assert_eq!(order.total, 2500);
        assert_eq!(
            order.canonical().as_str(),
            r#"{"currency":"EUR","items":[{"quantity":2,"sku":"A-1","unitPrice":1250}],"note":"ring twice"}"#
        );
    }

    #[test]
    fn an_absent_and_a_null_note_are_the_same_order() {
        let mut absent = valid();
        absent.as_object_mut().expect("object").remove("note");
        assert_eq!(
            Order::from_json(&absent),
            Order::from_json(&with("/note", Value::Null))
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
            assert!(Order::from_json(&with(pointer, good)).is_ok(), "{pointer}");
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
        assert!(Order::from_json(&with("/items", max)).is_ok());
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
    fn differences_name_members_and_never_values() {
        let of = |body: Value| Order::from_json(&body).expect("valid").canonical();
        let (stored, requested) = (of(valid()), of(with("/items/0/quantity", json!(3))));
        assert_eq!(
            Order::differences(&stored, &requested),
            ["/items/0/quantity"]
        );
        assert!(Order::differences(&stored, &stored).is_empty());
    }

    fn id() -> ResourceId {
        ResourceId::parse("01970000-0000-7000-8000-000000000001").expect("an id")
    }

    #[test]
    fn a_stored_order_is_represented_as_the_first_time() {
        let order = Order::from_json(&valid()).expect("valid");
        let body = order.representation(id());
        assert_eq!(
            body,
            r#"{"orderId":"01970000-0000-7000-8000-000000000001","status":"accepted","currency":"EUR","items":[{"sku":"A-1","quantity":2,"unitPrice":1250}],"note":"ring twice","total":2500,"createdAt":"2025-05-24T01:54:49.472Z"}"#
        );
        let stored = Order::from_stored(&order.canonical()).expect("readable");
        assert_eq!(stored.representation(id()), body);
        assert_eq!(stored, order);
    }

    #[test]
    fn members_of_another_release_are_kept() {
        let document = Document::from_text(
            r#"{"currency":"EUR","giftWrap":true,"items":[{"colour":"red","quantity":1,"sku":"A","unitPrice":5}]}"#,
        );
        let order = Order::from_stored(&document).expect("readable");
        let body: Value = serde_json::from_str(&order.representation(id())).expect("JSON");
        assert_eq!(body["giftWrap"], true);
        assert_eq!(body["items"][0]["colour"], "red");
        assert_eq!((&body["note"], &body["total"]), (&Value::Null, &json!(5)));
    }

    #[test]
    fn a_document_without_what_an_order_needs_is_unreadable() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"currency":"EUR"}"#,
            r#"{"currency":"EUR","items":[1]}"#,
            r#"{"currency":"EUR","items":[{"sku":"A","quantity":1}]}"#,
            r#"{"currency":"EUR","items":[],"note":1}"#,
            r#"{"currency":"EUR","items":[{"sku":"A","quantity":2,"unitPrice":9223372036854775807}]}"#,
        ] {
            assert_eq!(
                Order::from_stored(&Document::from_text(text)),
                None,
                "{text}"
            );
        }
    }
}
