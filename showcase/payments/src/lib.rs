//! What a payment is: read from an order's event, decided by the database, and told by an event of its own; and what a
//! deposit is. The routes are in `service.rs`.

#[cfg(target_arch = "wasm32")]
mod service;

use cloudevents::money::{self, CURRENCY as USD};
use cloudevents::{CloudEvent, Refusal};
use exactly_once::members::{self, code, created_at, id, number, required};
use exactly_once::{Collection, Customer, Resource, ResourceId, Violation};
use exactly_once_stores::sql::{Parameter, Row, Statement};
use serde_json::{Value, json};

/// The events that are paid.
pub const ORDER_CREATED: &str = "orders.order.created.v1";
/// The event of a payment that was made.
pub const SUCCEEDED: &str = "payments.payment.succeeded.v1";
/// The event of a payment that was rejected.
pub const FAILED: &str = "payments.payment.failed.v1";

/// The names of payments.
pub const PAYMENTS: Collection = Collection { name: "payments", one: "payment", path: "/api/v1/payments" };

const CURRENCY: &str = "must be three capital letters, such as \"EUR\"";

/// What an order costs, and whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    order: ResourceId,
    customer: Customer,
    currency: String,
    /// In minor units.
    amount: i64,
}

impl Charge {
    /// Reads the event of an order. Members that are not used are ignored: a later release may add some.
    ///
    /// # Errors
    /// [`Refusal::Unusable`] with everything that does not fit.
    pub fn of(event: &CloudEvent) -> Result<Self, Refusal> {
        let mut violations = Vec::new();
        let mut rule = |pointer: &str, detail, holds: bool| {
            if !holds {
                violations.push(Violation::new(pointer, detail));
            }
        };
        let member = |name| event.data.get(name);
        let order = ResourceId::parse(&event.id);
        let customer = event.customer();
        let amount = member("total").and_then(Value::as_i64).filter(|n| *n >= 0);
        let currency = member("currency").and_then(currency);
        let is_known = event.kind == ORDER_CREATED;
        rule("/type", "must be orders.order.created.v1", is_known);
        rule("/id", "must be an order's id, a UUID", order.is_some());
        rule("/partitionkey", "must name a customer", customer.is_some());
        let total = "must be an integer of minor units, at least 0";
        rule("/data/total", total, amount.is_some());
        rule("/data/currency", CURRENCY, currency.is_some());
        match (order, customer, currency, amount) {
            (Some(order), Some(customer), Some(currency), Some(amount)) if is_known => {
                Ok(Self { order, customer, currency, amount })
            }
            _ => Err(Refusal::Unusable(violations)),
        }
    }

    /// Pays; read the row with [`Payment::read`].
    pub fn statement(&self) -> Statement<'static> {
        Statement {
            sql: "SELECT * FROM make_payment($1::text::uuid, $2, $3, $4)",
            parameters: vec![
                Parameter::Text(self.order.to_string()),
                Parameter::Text(self.customer.as_str().to_owned()),
                Parameter::Text(self.currency.clone()),
                Parameter::Int64(self.amount),
            ],
        }
    }

    /// Whether the payment is one of this charge: an id may return with another order.
    pub fn is_of(&self, payment: &Payment) -> bool {
        let Payment { customer, currency, amount, .. } = payment;
        (customer.as_str(), currency, *amount) == (self.customer.as_str(), &self.currency, self.amount)
    }
}

/// A payment that was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    order: String,
    customer: String,
    currency: String,
    amount: i64,
    refusal: Option<String>,
    decided_at: String,
    /// Whether the statement that returned it has decided it.
    pub is_new: bool,
}

impl Payment {
    /// Reads a row; `None` if it is not as the statement returns it.
    pub fn read(row: &Row) -> Option<Self> {
        Some(Self {
            order: row.text("order_id")?,
            customer: row.text("customer_id")?,
            currency: row.text("currency")?,
            amount: row.text("amount")?.parse().ok()?,
            refusal: row.text("refusal"),
            decided_at: row.text("decided_at")?,
            is_new: row.boolean("is_new")?,
        })
    }

    /// The event of its outcome. It is the same whenever it is told: it has the id of its order, which has one payment.
    pub fn event(&self) -> CloudEvent {
        let (kind, status) = match self.refusal {
            None => (SUCCEEDED, "succeeded"),
            Some(_) => (FAILED, "failed"),
        };
        CloudEvent {
            id: self.order.clone(),
            source: PAYMENTS.path.to_owned(),
            kind: kind.to_owned(),
            time: Some(self.decided_at.clone()),
            partition_key: Some(self.customer.clone()),
            data: json!({
                "orderId": self.order,
                "status": status,
                "reason": self.refusal,
                "currency": self.currency,
                "amount": self.amount,
                "decidedAt": self.decided_at,
            }),
        }
    }
}

/// Money that a customer has paid in. It is created as an order is: once per customer and key.
pub static DEPOSITS: Resource = Resource::new(
    DEPOSIT_COLLECTION,
    &[
        required("amount", members::money(1, 1_000_000_000_000)),
        created_at("createdAt"),
        required("currency", code("Currency", CURRENCY, is_currency)),
        id("depositId"),
    ],
);

/// Money that a customer pays in, as the customer tells it; see [`deposit_of`].
pub static PAID_IN: Resource = Resource::new(
    DEPOSIT_COLLECTION,
    &[required("amount", number(AMOUNT, |amount| money::cents(amount, 1..=money::MAX_CENTS).map(money::units)))],
);

const AMOUNT: &str = "must be a number from 0.01 to 1000000000 with at most two decimal places";

/// The deposit of what a customer pays in.
pub fn deposit_of(paid_in: &Value) -> Option<Value> {
    let amount = money::cents(paid_in.get("amount")?.as_f64()?, 1..=money::MAX_CENTS)?;
    Some(json!({"amount": amount, "currency": USD}))
}

const DEPOSIT_COLLECTION: Collection = Collection { name: "deposits", one: "deposit", path: "/api/v1/deposits" };

fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn currency(value: &Value) -> Option<String> {
    let code = value.as_str().filter(|code| is_currency(code))?;
    Some(code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_laws_of_every_resource_hold() {
        let body = json!({"amount": 500, "currency": "EUR"});
        assert_eq!(exactly_once::laws::check(&DEPOSITS, &body), Ok(()));
        assert_eq!(deposit_of(&json!({"amount": 9.99})), Some(json!({"amount": 999, "currency": "USD"})));
    }
}
