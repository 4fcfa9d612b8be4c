//! What an order is: its properties, their rules, and its total. No other file knows it.

use exactly_once::members::{
    Check, Kind, Member, code, computed, constant, created_at, id, integer, list, money, nullable, required, text,
};
use exactly_once::{Collection, Documentation, Resource};
use serde_json::{Map, Value};

const COLLECTION: Collection = Collection { name: "orders", one: "order", path: "/api/v1/orders" };

const DOCUMENTATION: Documentation = Documentation { description: "/openapi.json", reference: "/reference/" };

/// Orders. Their representations have the properties in this order.
pub static ORDERS: Resource = Resource::new(
    COLLECTION,
    &[
        id("orderId").about("A UUID version 7 (RFC 9562), in lower case and with hyphens."),
        constant("status", "accepted"),
        required("currency", CURRENCY),
        required("items", list(1, 100, ITEM)),
        nullable("note", text(0, 500))
            .about("At most 500 characters, none of them U+0000. `null` and an absent note are the same."),
        computed("total", AMOUNT, |order| total(order).map(Value::from))
            .about("The sum of `quantity` × `unitPrice`, in minor units of the currency."),
        created_at("createdAt").about("When the order was requested (RFC 3339, UTC, with milliseconds)."),
    ],
)
.documented(DOCUMENTATION)
.with_rules(
    "The sum of `quantity` × `unitPrice` must not exceed 9,223,372,036,854,775,807. No object may have a member \
     twice. The whole body has at most 65,536 bytes.",
    check_total,
);

/// One line of an order.
const ITEM: &[Member] = &[
    required("sku", text(1, 64)).about("The article number: 1 to 64 characters, none of them U+0000."),
    required("quantity", integer(1, 10_000)).about("How many. Written without a fraction and an exponent."),
    required("unitPrice", AMOUNT)
        .about("The price of one, in minor units of the currency. Written without a fraction and an exponent."),
];

const AMOUNT: Kind = money(0, i64::MAX);

const CURRENCY: Kind = code("Currency", "must be an ISO 4217 code such as \"EUR\"", |code| {
    code.len() == 3 && CURRENCIES.split(' ').any(|known| known == code)
});

/// The codes of ISO 4217, except for withdrawn currencies and for what is no money, such as gold. A test compares them
/// with `iso_currency`, which would be 6 kB of the component.
const CURRENCIES: &str = "\
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF \
    CHW CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD \
    HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD \
    MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN \
    PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD \
    TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG";

const TOTAL: &str = "the total exceeds 9223372036854775807 minor units";

/// The sum over the items, in minor units; `None` when it does not fit.
fn total(order: &Map<String, Value>) -> Option<i64> {
    let mut items = order.get("items")?.as_array()?.iter();
    items.try_fold(0_i64, |total, item| {
        let quantity = item.get("quantity")?.as_i64()?;
        let price = item.get("unitPrice")?.as_i64()?;
        total.checked_add(price.checked_mul(quantity)?)
    })
}

fn check_total(order: &Map<String, Value>, check: &mut Check) {
    if check.accepts("/items") && total(order).is_none() {
        check.violated("/items", TOTAL);
    }
}

#[cfg(test)]
mod tests {
    use exactly_once::json::differences;
    use exactly_once::{Document, ResourceId, laws};
    use serde_json::json;

    use super::*;

    fn valid() -> Value {
        json!({"currency": "EUR", "items": [{"sku": "A-1", "quantity": 2, "unitPrice": 1250}], "note": "ring twice"})
    }

    fn violations(body: Value) -> Vec<(String, String)> {
        let violations = ORDERS.validate(&body).expect_err("must be invalid").into_iter();
        violations.map(|v| (v.pointer, v.detail.into_owned())).collect()
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut body = valid();
        *body.pointer_mut(pointer).expect("exists") = value;
        body
    }

    fn stored(body: &Value) -> Document {
        Document::of(&ORDERS.validate(body).expect("valid"))
    }

    fn represent(document: &str) -> Option<String> {
        let id = ResourceId::parse("01970000-0000-7000-8000-000000000001").expect("an id");
        ORDERS.represent(id, &Document::from_text(document).value())
    }

    #[test]
    fn the_laws_of_every_resource_hold() {
        assert_eq!(laws::check(&ORDERS, &valid()), Ok(()));
    }

    #[test]
    fn an_absent_and_a_null_note_are_the_same_order() {
        let mut absent = valid();
        absent.as_object_mut().expect("object").remove("note");
        assert_eq!(stored(&absent), stored(&with("/note", Value::Null)));
    }

    #[test]
    fn every_violation_is_named() {
        let found = violations(json!({
            "currency": "EURO",
            "items": [{"sku": "", "quantity": 0, "unitPrice": -1, "colour": 1}, 7],
            "note": 5,
            "extra": true
        }));
        let expected = [
            ("/extra", "is not a member this API knows"),
            ("/currency", "must be an ISO 4217 code such as \"EUR\""),
            ("/note", "must be a string of at most 500 characters, none of them U+0000, or null"),
            ("/items/0/colour", "is not a member this API knows"),
            ("/items/0/sku", "must be a string of 1 to 64 characters, none of them U+0000"),
            ("/items/0/quantity", "must be an integer from 1 to 10000"),
            ("/items/0/unitPrice", "must be an integer of minor units, 0 to 9223372036854775807"),
            ("/items/1", "must be an object with sku, quantity and unitPrice"),
        ];
        assert_eq!(found, expected.map(|(pointer, detail)| (pointer.to_owned(), detail.to_owned())));
        let missing = |name: &str| (format!("/{name}"), "is required".to_owned());
        assert_eq!(violations(json!({})), [missing("currency"), missing("items")]);
        assert_eq!(violations(json!([]))[0].1, "must be an object with currency and items");
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
            ("/items/0/unitPrice", json!(1), json!(u64::MAX)),
            ("/note", json!("n".repeat(500)), json!("n".repeat(501))),
            ("/note", json!(""), json!("\0")),
            ("/currency", json!("JPY"), json!("eur")),
            ("/items", json!(vec![item.clone(); 100]), json!(vec![item; 101])),
            ("/items", valid()["items"].clone(), json!([])),
        ] {
            assert!(ORDERS.validate(&with(pointer, good)).is_ok(), "{pointer}");
            assert_eq!(violations(with(pointer, bad))[0].0, pointer);
        }
    }

    #[test]
    fn currencies_are_those_that_are_neither_withdrawn_nor_special() {
        use iso_currency::{Currency, Flag};
        let letters = || 'A'..='Z';
        let codes = letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| format!("{a}{b}{c}"))));
        let current = codes.filter(|code| {
            let is_other = |flag: &Flag| matches!(flag, Flag::Special | Flag::Superseded(_));
            let flags = Currency::from_code(code).map(Currency::flags);
            // ISO 4217 lists VES beside VED.
            code == "VES" || flags.is_some_and(|flags| !flags.iter().any(is_other))
        });
        assert_eq!(current.collect::<Vec<_>>().join(" "), CURRENCIES);
        for refused in ["HRK", "XXX", "XAU", "AED AFN", "", " ", "EU"] {
            assert_eq!(violations(with("/currency", json!(refused)))[0].0, "/currency");
        }
        let stored = r#"{"currency":"HRK","items":[{"quantity":1,"sku":"A","unitPrice":5}]}"#;
        assert!(represent(stored).is_some_and(|body| body.contains("HRK")));
    }

    #[test]
    fn an_overflowing_total_is_a_violation() {
        let max = json!([{"sku": "A", "quantity": 1, "unitPrice": i64::MAX}]);
        assert!(ORDERS.validate(&with("/items", max)).is_ok());
        for items in [
            json!([{"sku": "A", "quantity": 2, "unitPrice": i64::MAX}]),
            json!([{"sku": "A", "quantity": 1, "unitPrice": i64::MAX}, {"sku": "B", "quantity": 1, "unitPrice": 1}]),
        ] {
            assert_eq!(violations(with("/items", items)), [("/items".to_owned(), TOTAL.to_owned())]);
        }
    }

    #[test]
    fn differences_name_members_and_never_values() {
        let (one, other) = (stored(&valid()), stored(&with("/items/0/quantity", json!(3))));
        assert_eq!(differences(&one.value(), &other.value()), ["/items/0/quantity"]);
    }

    #[test]
    fn a_stored_order_is_represented_as_the_first_time() {
        let document = stored(&valid());
        assert_eq!(
            document.as_str(),
            r#"{"currency":"EUR","items":[{"quantity":2,"sku":"A-1","unitPrice":1250}],"note":"ring twice"}"#
        );
        let expected = concat!(
            r#"{"orderId":"01970000-0000-7000-8000-000000000001","status":"accepted","currency":"EUR","#,
            r#""items":[{"sku":"A-1","quantity":2,"unitPrice":1250}],"note":"ring twice","total":2500,"#,
            r#""createdAt":"2025-05-24T01:54:49.472Z"}"#
        );
        assert_eq!(represent(document.as_str()).as_deref(), Some(expected));
    }

    #[test]
    fn members_of_another_release_are_shown() {
        let document = concat!(
            r#"{"currency":"EUR","giftWrap":true,"#,
            r#""items":[{"colour":"red","quantity":1,"sku":"A","unitPrice":5}]}"#
        );
        let body: Value = serde_json::from_str(&represent(document).expect("readable")).expect("JSON");
        assert_eq!((&body["giftWrap"], &body["items"][0]["colour"]), (&json!(true), &json!("red")));
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
            assert_eq!(represent(text), None, "{text}");
        }
    }
}
