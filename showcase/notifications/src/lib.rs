//! What a notification is: a resource, created once per payment from the event of its outcome. The routes are in
//! `service.rs`.

#[cfg(target_arch = "wasm32")]
mod service;

use cloudevents::{CloudEvent, Refusal, money};
use exactly_once::members::{self, computed, created_at, id, nullable, required, text};
use exactly_once::{Collection, IdempotencyKey, KeyScope, Resource, Violation};
use serde_json::{Map, Value};

/// The outcomes of a payment, by the types of their events.
const OUTCOMES: [(&str, &str); 2] =
    [("payments.payment.succeeded.v1", "succeeded"), ("payments.payment.failed.v1", "failed")];

/// What customers are told about payments.
pub static NOTIFICATIONS: Resource = Resource::new(
    COLLECTION,
    &[
        required("amount", members::money(i64::MIN, i64::MAX)),
        created_at("createdAt"),
        required("currency", text(1, 3)),
        id("id"),
        computed("message", text(1, 200), |notification| message(notification).map(Value::from)),
        required("orderId", text(1, 36)),
        nullable("reason", text(1, 100)),
        required("status", text(1, 20)),
    ],
);

const COLLECTION: Collection = Collection { name: "notifications", one: "notification", path: "/api/v1/notifications" };

/// What a payment's event has for its notification.
const FROM_EVENT: [&str; 5] = ["orderId", "status", "reason", "currency", "amount"];

/// Reads the event of an outcome: the scope and the document of its notification. Its id is the notification's key: one
/// payment has one notification.
///
/// # Errors
/// [`Refusal::Unusable`] with what does not fit.
pub fn notification_of(event: &CloudEvent) -> Result<(KeyScope, Value), Refusal> {
    let unusable = |pointer, detail| Refusal::Unusable(vec![Violation::new(pointer, detail)]);
    let outcome = OUTCOMES.iter().find(|(kind, _)| *kind == event.kind);
    let (_, status) = outcome
        .ok_or_else(|| unusable("/type", "must be payments.payment.succeeded.v1 or payments.payment.failed.v1"))?;
    let key = IdempotencyKey::from_chars(event.id.clone().into_bytes());
    let key = key.ok_or_else(|| unusable("/id", "must be 1 to 255 visible ASCII characters"))?;
    let customer = event.customer();
    let customer = customer.ok_or_else(|| unusable("/partitionkey", "must name a customer"))?;
    // A later release of payments may add members.
    let members = FROM_EVENT.iter().filter_map(|name| {
        let value = event.data.get(*name)?;
        Some(((*name).to_owned(), value.clone()))
    });
    let document = NOTIFICATIONS.validate(&Value::Object(members.collect()));
    let document = document.map_err(|violations| {
        let below = |violation: Violation| Violation { pointer: format!("/data{}", violation.pointer), ..violation };
        Refusal::Unusable(violations.into_iter().map(below).collect())
    })?;
    if document.get("status") != Some(&Value::from(*status)) {
        return Err(unusable("/data/status", "must be what the type says"));
    }
    let scope = KeyScope { collection: COLLECTION.name, customer, key };
    Ok((scope, document))
}

/// As the ancestor writes it, with its spelling: its clients compare the text.
fn message(notification: &Map<String, Value>) -> Option<String> {
    let currency = notification.get("currency")?.as_str()?;
    let price = money::told(notification.get("amount")?.as_i64()?, currency);
    Some(match notification.get("reason").and_then(Value::as_str) {
        None => format!("Your order for {price} has been succesfully processed."),
        Some("insufficient_funds" | "no_account") => {
            format!("Your order for {price} was not fulfilled due to: not enough money.")
        }
        Some(reason) => format!("Your order for {price} was not fulfilled due to: {}.", reason.replace('_', " ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_laws_of_every_resource_hold() {
        let body = serde_json::json!({
            "orderId": "01970000-0000-7000-8000-000000000001",
            "status": "failed",
            "reason": "too_little",
            "currency": "EUR",
            "amount": 5,
        });
        assert_eq!(exactly_once::laws::check(&NOTIFICATIONS, &body), Ok(()));
    }
}
