//! What a notification is: a resource, created once per payment from the event of its outcome. The routes are in `service.rs`.

#[cfg(target_arch = "wasm32")]
mod service;

use cloudevents::{CloudEvent, Refusal};
use exactly_once::{
    Collection, Document, IdempotencyKey, KeyScope, Resource, ResourceId, Violation,
};
use serde_json::{Value, json};

/// The outcomes of a payment, by the types of their events.
const OUTCOMES: [(&str, &str); 2] = [
    ("payments.payment.succeeded.v1", "succeeded"),
    ("payments.payment.failed.v1", "failed"),
];

/// What a customer is told about a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    order: String,
    status: String,
    reason: Option<String>,
    currency: String,
    /// In minor units.
    amount: i64,
}

impl Notification {
    /// Reads the event of an outcome. Its id is the notification's key: one payment has one notification.
    ///
    /// # Errors
    /// [`Refusal::Unusable`] with what does not fit.
    pub fn of(event: &CloudEvent) -> Result<(KeyScope, Self), Refusal> {
        let unusable = |pointer, detail| Refusal::Unusable(vec![violation(pointer, detail)]);
        let outcome = OUTCOMES.iter().find(|(kind, _)| *kind == event.kind);
        let (_, status) = outcome.ok_or_else(|| {
            unusable(
                "/type",
                "must be payments.payment.succeeded.v1 or payments.payment.failed.v1",
            )
        })?;
        let key = IdempotencyKey::from_chars(event.id.clone().into_bytes());
        let key =
            key.ok_or_else(|| unusable("/id", "must be 1 to 255 visible ASCII characters"))?;
        let customer = event.customer();
        let customer = customer.ok_or_else(|| unusable("/partitionkey", "must name a customer"))?;
        let notification = Self::from_json(&event.data).map_err(|violations| {
            let below = |violation: Violation| Violation {
                pointer: format!("/data{}", violation.pointer),
                ..violation
            };
            Refusal::Unusable(violations.into_iter().map(below).collect())
        })?;
        if notification.status != *status {
            return Err(unusable("/data/status", "must be what the type says"));
        }
        let scope = KeyScope {
            collection: Self::COLLECTION.name,
            customer,
            key,
        };
        Ok((scope, notification))
    }

    fn read(value: &Value) -> Option<Self> {
        let text = |name| Some(value.get(name)?.as_str()?.to_owned());
        Some(Self {
            order: text("orderId")?,
            status: text("status")?,
            reason: text("reason"),
            currency: text("currency")?,
            amount: value.get("amount")?.as_i64()?,
        })
    }

    fn text(&self) -> String {
        match self.reason.as_deref() {
            None => "Your order is paid.".to_owned(),
            Some(reason) => format!(
                "Your order could not be paid: {}.",
                reason.replace('_', " ")
            ),
        }
    }
}

impl Resource for Notification {
    const COLLECTION: Collection = Collection {
        name: "notifications",
        one: "notification",
        path: "/api/v1/notifications",
    };

    fn from_json(body: &Value) -> Result<Self, Vec<Violation>> {
        let rule = "must be an object with orderId, status, reason, currency and amount";
        Self::read(body).ok_or_else(|| vec![violation("", rule)])
    }

    fn from_stored(document: &Document) -> Option<Self> {
        Self::read(&document.value())
    }

    fn canonical(&self) -> Document {
        let members = json!({
            "orderId": self.order,
            "status": self.status,
            "reason": self.reason,
            "currency": self.currency,
            "amount": self.amount,
        });
        Document::from_text(members.to_string())
    }

    fn representation(&self, id: ResourceId) -> String {
        json!({
            "notificationId": id.to_string(),
            "orderId": self.order,
            "status": self.status,
            "reason": self.reason,
            "currency": self.currency,
            "amount": self.amount,
            "text": self.text(),
            "createdAt": id.created_at(),
        })
        .to_string()
    }
}

fn violation(pointer: &str, detail: &'static str) -> Violation {
    Violation {
        pointer: pointer.to_owned(),
        detail,
    }
}
