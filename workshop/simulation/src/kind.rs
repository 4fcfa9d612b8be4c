//! The kinds of resources that clients request: orders, and refunds, which have a collection of their own. Both have
//! the same members: only the collection distinguishes the two.

use exactly_once::members::{Member, created_at, id, integer, list, money, nullable, required, text};
use exactly_once::{Collection, Resource};
use serde_json::Value;

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The resource of the component.
    Order,
    /// A second one.
    Refund,
}

static ORDERS: Resource = Resource::new(Collection { name: "orders", one: "order", path: "/api/v1/orders" }, MEMBERS);

static REFUNDS: Resource =
    Resource::new(Collection { name: "refunds", one: "refund", path: "/api/v1/refunds" }, MEMBERS);

const MEMBERS: &[Member] = &[
    id("id"),
    required("currency", text(3, 3)),
    required("items", list(1, 100, ITEM)),
    nullable("note", text(0, 500)),
    created_at("createdAt"),
];

const ITEM: &[Member] = &[
    required("sku", text(1, 64)),
    required("quantity", integer(1, 10_000)),
    required("unitPrice", money(0, i64::MAX)),
];

impl Kind {
    /// Its members.
    pub fn resource(self) -> &'static Resource {
        match self {
            Self::Order => &ORDERS,
            Self::Refund => &REFUNDS,
        }
    }

    /// Its collection.
    pub fn collection(self) -> &'static Collection {
        &self.resource().collection
    }

    /// The document of a request's body, if it is valid.
    pub fn document(self, body: &str) -> Option<Value> {
        let body = exactly_once::json::parse(body.as_bytes()).ok()?;
        self.resource().validate(&body).ok()
    }
}
