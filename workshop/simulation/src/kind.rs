//! The kinds of resources that clients request: orders, and refunds, which have a collection of their own. A refund
//! takes the documents that an order takes: only the collection distinguishes the two.

use exactly_once::create::Creation;
use exactly_once::json::to_json;
use exactly_once::{Collection, Document, Resource, ResourceId, Violation};
use exactly_once_http::{Problem, Response, created};
use orders::Order;
use serde_json::Value;

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What the component serves.
    Order,
    /// A second one.
    Refund,
}

impl Kind {
    /// Its collection.
    pub const fn collection(self) -> &'static Collection {
        match self {
            Self::Order => &Order::COLLECTION,
            Self::Refund => &Refund::COLLECTION,
        }
    }

    /// The answer that its API gives to a problem.
    pub fn problem(self, problem: Problem) -> Response {
        match self {
            Self::Order => problem.into_response_of::<Order>(),
            Self::Refund => problem.into_response_of::<Refund>(),
        }
    }

    /// The resource of a request's body, if it is valid.
    pub fn resource(self, body: &str) -> Option<AnyResource> {
        let body = exactly_once::json::parse(body.as_bytes()).ok()?;
        match self {
            Self::Order => Order::from_json(&body).ok().map(AnyResource::Order),
            Self::Refund => Refund::from_json(&body).ok().map(AnyResource::Refund),
        }
    }

    /// The resource of a stored document, if it is readable.
    pub fn stored(self, document: &Document) -> Option<AnyResource> {
        match self {
            Self::Order => Order::from_stored(document).map(AnyResource::Order),
            Self::Refund => Refund::from_stored(document).map(AnyResource::Refund),
        }
    }
}

/// A resource of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyResource {
    /// An order.
    Order(Order),
    /// A refund.
    Refund(Refund),
}

impl AnyResource {
    /// Its document.
    pub fn document(&self) -> Document {
        match self {
            Self::Order(order) => order.canonical(),
            Self::Refund(refund) => refund.canonical(),
        }
    }

    /// The answer to a request that created it or, if `replayed`, to a retry.
    pub fn answer(&self, id: ResourceId, replayed: bool) -> Response {
        match self {
            Self::Order(order) => answer(order, id, replayed),
            Self::Refund(refund) => answer(refund, id, replayed),
        }
    }

    /// Where a stored document of the same kind differs from its document.
    pub fn differences(&self, stored: &Document) -> Vec<String> {
        match self {
            Self::Order(order) => Order::differences(stored, &order.canonical()),
            Self::Refund(refund) => Refund::differences(stored, &refund.canonical()),
        }
    }
}

fn answer<R: Resource>(resource: &R, id: ResourceId, replayed: bool) -> Response {
    let resource = resource.clone();
    created(&match replayed {
        true => Creation::Replayed(id, resource),
        false => Creation::Created(id, resource),
    })
}

/// Any JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund(Document);

impl Resource for Refund {
    const COLLECTION: Collection = Collection {
        name: "refunds",
        one: "refund",
        path: "/api/v1/refunds",
    };

    fn from_json(body: &Value) -> Result<Self, Vec<Violation>> {
        if body.is_object() {
            return Ok(Self(Document::from_text(to_json(body))));
        }
        Err(vec![Violation {
            pointer: String::new(),
            detail: "must be an object",
        }])
    }

    fn from_stored(document: &Document) -> Option<Self> {
        document.value().is_object().then(|| Self(document.clone()))
    }

    fn canonical(&self) -> Document {
        self.0.clone()
    }

    fn representation(&self, id: ResourceId) -> String {
        format!(r#"{{"refundId":"{id}","document":{}}}"#, self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_request::SAME;

    #[test]
    fn an_order_and_a_refund_of_one_body_have_equal_documents() {
        let document = |kind: Kind| kind.resource(&SAME.body()).expect("valid").document();
        assert_eq!(document(Kind::Order), document(Kind::Refund));
    }
}
