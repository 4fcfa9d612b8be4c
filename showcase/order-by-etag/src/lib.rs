//! An ancestor's API over the same core: what an order is, and how it is shown. The routes are in `service.rs`.

#[cfg(target_arch = "wasm32")]
mod service;

use cloudevents::money;
use exactly_once::members::{self, computed, constant, created_at, id, number, required};
use exactly_once::{Collection, Resource, ResourceId};
use serde_json::{Map, Value};

const COLLECTION: Collection = Collection { name: "orders", one: "order", path: "/api/v1/ordering/orders" };

const PRICE: &str = "must be a number from 1 to 1000000000 with at most two decimal places";

/// What an order without a payment is.
const PENDING: &str = "pending";

/// Orders of some price. Their events have what payment needs: the price in cents, and its currency.
pub static ORDERS: Resource = Resource::new(
    COLLECTION,
    &[
        id("id"),
        required("price", number(PRICE, |price| cents(price).map(money::units))),
        constant("status", PENDING),
        created_at("createdAt"),
        created_at("updatedAt"),
    ],
)
.with_event_members(&[computed("total", members::money(100, i64::MAX), total), constant("currency", money::CURRENCY)]);

/// The payment of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Whether the money has moved.
    pub succeeded: bool,
    /// When that was decided, RFC 3339.
    pub decided_at: String,
}

/// An order with the status of its payment; pending without one. Nothing of the order itself changes. `None` when its
/// document is unreadable.
pub fn shown(id: ResourceId, document: &Value, payment: Option<&Payment>) -> Option<String> {
    let order = ORDERS.represent(id, document)?;
    let Some(payment) = payment else {
        return Some(order);
    };
    let status = if payment.succeeded { "succeeded" } else { "failed" };
    let (before, updated) = order.split_once(r#""updatedAt":""#)?;
    let before = before.replacen(PENDING, status, 1);
    let after = updated.strip_prefix(&id.created_at())?;
    Some(format!(r#"{before}"updatedAt":"{}{after}"#, payment.decided_at))
}

/// A price in whole cents, at least a whole unit.
fn cents(price: f64) -> Option<i64> {
    money::cents(price, 100..=money::MAX_CENTS)
}

fn total(order: &Map<String, Value>) -> Option<Value> {
    cents(order.get("price")?.as_f64()?).map(Value::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_laws_of_every_resource_hold() {
        for price in [json!(12), json!(12.0), json!(6.5), json!(9.99), json!(1_000_000_000)] {
            assert_eq!(exactly_once::laws::check(&ORDERS, &json!({"price": price})), Ok(()));
        }
    }

    #[test]
    fn an_order_has_the_status_of_its_payment() {
        let id = ResourceId::parse("01970000-0000-7000-8000-000000000001").expect("an id");
        let payment = Payment { succeeded: true, decided_at: "2026-01-01T00:00:00.000Z".to_owned() };
        let paid = shown(id, &json!({"price": 6.5}), Some(&payment)).expect("readable");
        let expected = concat!(
            r#"{"id":"01970000-0000-7000-8000-000000000001","price":6.5,"status":"succeeded","#,
            r#""createdAt":"2025-05-24T01:54:49.472Z","updatedAt":"2026-01-01T00:00:00.000Z"}"#
        );
        assert_eq!(paid, expected);
    }
}
