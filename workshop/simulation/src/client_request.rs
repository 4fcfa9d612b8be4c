//! The requests of clients in a run.

use std::fmt;

use exactly_once::{Customer, IdempotencyKey, KeyScope};

use crate::kind::Kind;

/// What a client requests, the first time and in every retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientRequest {
    /// The kind of the resource, and so its collection.
    pub kind: Kind,
    /// One of a few customers.
    pub customer: u8,
    /// One of a few keys.
    pub key: u8,
    /// One of a few documents.
    pub document: u8,
    /// Whether it depends on the list.
    pub condition: Condition,
}

/// The condition of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// None.
    None,
    /// The list is in the state that the client knows: empty at first, then the one in the last response.
    Unchanged,
    /// The same, and the request has no key.
    Keyless,
    /// The list is in any state (`*`).
    Any,
    /// None, although the service requires one: it accepts only a retry of a request that it has fulfilled before.
    Missing,
}

/// The same key, the same order.
pub const SAME: ClientRequest =
    ClientRequest { kind: Kind::Order, customer: 0, key: 0, document: 0, condition: Condition::None };
/// The same key, another order.
pub const OTHER_ORDER: ClientRequest = ClientRequest { document: 1, ..SAME };
/// Another key.
pub const OTHER_KEY: ClientRequest = ClientRequest { key: 1, ..SAME };
/// The same on a condition.
pub const CONDITIONAL: ClientRequest = SAME.with(Condition::Unchanged);
/// The same on a condition, with another key.
pub const OTHER_CONDITIONAL: ClientRequest = OTHER_KEY.with(Condition::Unchanged);
/// The same on a condition, without a key.
pub const KEYLESS: ClientRequest = SAME.with(Condition::Keyless);
/// The same in any state of the list.
pub const ANY: ClientRequest = SAME.with(Condition::Any);
/// The same in any state of the list, with another key.
pub const OTHER_ANY: ClientRequest = OTHER_KEY.with(Condition::Any);
/// The same without a condition, which is required now.
pub const MISSING: ClientRequest = SAME.with(Condition::Missing);
/// Another order with the same key on a condition.
pub const OTHER_CONDITIONAL_ORDER: ClientRequest = OTHER_ORDER.with(Condition::Unchanged);
/// A third key.
pub const THIRD_KEY: ClientRequest = ClientRequest { key: 2, ..SAME };
/// Another customer's key of the same name.
pub const OTHER_CUSTOMER: ClientRequest = ClientRequest { customer: 1, ..SAME };
/// The same customer, key and document in another collection.
pub const REFUND: ClientRequest = ClientRequest { kind: Kind::Refund, ..SAME };
/// The same in another collection on a condition.
pub const CONDITIONAL_REFUND: ClientRequest = REFUND.with(Condition::Unchanged);

impl fmt::Display for ClientRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = (self.customer, self.key, self.document);
        write!(f, "{:?} {numbers:?} if {:?}", self.kind, self.condition)
    }
}

impl ClientRequest {
    const fn with(self, condition: Condition) -> Self {
        Self { condition, ..self }
    }

    /// Whether a later request can repeat it.
    pub fn has_key(&self) -> bool {
        self.condition != Condition::Keyless
    }

    /// Whether it depends on the state of the list that the client knows.
    pub fn expects_state(&self) -> bool {
        matches!(self.condition, Condition::Unchanged | Condition::Keyless)
    }

    /// The collection, customer and key.
    pub fn scope(&self) -> KeyScope {
        let customer = Customer::named(format!("customer-{}", self.customer));
        let key = IdempotencyKey::parse(format!("key-{}", self.key).as_bytes());
        #[allow(clippy::expect_used, reason = "literals of visible ASCII")]
        let (customer, key) = customer.zip(key).expect("a name and a key");
        KeyScope { collection: self.kind.collection().name, customer, key }
    }

    /// The request's body.
    pub fn body(&self) -> String {
        format!(
            r#"{{"currency":"EUR","items":[{{"sku":"A","quantity":{},"unitPrice":5}}],"note":null}}"#,
            self.document + 1
        )
    }
}
