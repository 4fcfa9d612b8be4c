//! An ancestor's API over the same core: what an order is, and how it is shown. The routes are in `service.rs`.

#[cfg(target_arch = "wasm32")]
mod service;

use exactly_once::{Collection, Document, Resource, ResourceId, Violation};
use serde_json::Value;

/// The largest price, in cents.
const MAX_CENTS: f64 = 100_000_000_000.0;

/// The currency of all prices.
const CURRENCY: &str = "EUR";

/// An order of some price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// In cents; at least 100.
    cents: u64,
}

impl Resource for Order {
    const COLLECTION: Collection = Collection {
        name: "orders",
        one: "order",
        path: "/api/v1/ordering/orders",
    };

    fn from_json(body: &Value) -> Result<Self, Vec<Violation>> {
        let Value::Object(members) = body else {
            return Err(vec![violation("", "must be an object with price")]);
        };
        let mut violations: Vec<Violation> = members
            .keys()
            .filter(|name| *name != "price")
            .map(|name| Violation {
                pointer: exactly_once::json::pointer("", name),
                detail: "is not a member this API knows",
            })
            .collect();
        match members.get("price").and_then(cents) {
            Some(cents) if violations.is_empty() => Ok(Self { cents }),
            Some(_) => Err(violations),
            None => {
                let rule = "must be a number from 1 to 1000000000 with at most two decimal places";
                violations.push(violation("/price", rule));
                Err(violations)
            }
        }
    }

    fn from_stored(document: &Document) -> Option<Self> {
        let Value::Object(members) = document.value() else {
            return None;
        };
        // A body with other members is not a stored document: its retry gets no order that lacks them.
        let cents = members
            .get("cents")?
            .as_u64()
            .filter(|_| members.len() == 1)?;
        Some(Self { cents })
    }

    fn canonical(&self) -> Document {
        Document::from_text(format!(r#"{{"cents":{}}}"#, self.cents))
    }

    fn representation(&self, id: ResourceId) -> String {
        self.shown(id, None)
    }

    /// With what payment needs: the price in cents, and its currency.
    fn event_data(&self, id: ResourceId) -> String {
        let shown = self.representation(id);
        let shown = shown.strip_suffix('}').unwrap_or(&shown);
        format!(
            r#"{shown},"total":{},"currency":"{CURRENCY}"}}"#,
            self.cents
        )
    }
}

/// What has become of an order's payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Whether the money has moved.
    pub succeeded: bool,
    /// When that was decided, RFC 3339.
    pub decided_at: String,
}

impl Order {
    /// The order with the status of its payment; pending without one. Nothing of the order itself changes.
    pub fn shown(&self, id: ResourceId, payment: Option<&Payment>) -> String {
        let (whole, cents, at) = (self.cents / 100, self.cents % 100, id.created_at());
        let price = match cents {
            0 => whole.to_string(),
            _ => format!("{whole}.{cents:02}")
                .trim_end_matches('0')
                .to_owned(),
        };
        let (status, updated) = match payment {
            None => ("pending", &at),
            Some(payment) if payment.succeeded => ("succeeded", &payment.decided_at),
            Some(payment) => ("failed", &payment.decided_at),
        };
        format!(
            r#"{{"id":"{id}","price":{price},"status":"{status}","createdAt":"{at}","updatedAt":"{updated}"}}"#
        )
    }
}

fn violation(pointer: &str, detail: &'static str) -> Violation {
    Violation {
        pointer: pointer.to_owned(),
        detail,
    }
}

/// A price in whole cents. Up to [`MAX_CENTS`] a double is exact to far less than a cent.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked"
)]
fn cents(price: &Value) -> Option<u64> {
    let exact = price.as_f64()? * 100.0;
    let cents = exact.round();
    let valid = (exact - cents).abs() < 0.000_1 && (100.0..=MAX_CENTS).contains(&cents);
    valid.then_some(cents as u64)
}
