//! Who asks for what: the requests of a run, and the protocol (or a broken variant of it) that answers.

use std::pin::Pin;

use orders::create::KeyReuse;
use orders::create::conditional::Expected;
use orders::customer::Customer;
use orders::http::{ConditionalRequest, Problem, Response, create, create_conditionally};
use orders::idempotency::{IdempotencyKey, KeyScope};
use orders::ports::{ConditionalResources, Locks, ResourceIds, Resources, ResourcesByKey, Reservations};
use orders::reading::ListState;

use crate::port::Port;

/// What a request comes to.
pub type Outcome = Result<Response, Problem>;

/// A request under way.
pub type Running = Pin<Box<dyn Future<Output = Outcome>>>;

/// What a client asks for, the first time and every time again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientRequest {
    /// One of a few customers.
    pub customer: u8,
    /// One of a few keys.
    pub key: u8,
    /// One of a few orders.
    pub order: u8,
    /// Whether it depends on the list.
    pub condition: Condition,
}

/// On what an order is to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// On nothing.
    None,
    /// On the list as the client knows it: empty at first, then as it was told.
    Unchanged,
    /// On that, and without a key.
    Keyless,
}

/// The same key, the same order.
pub const SAME: ClientRequest = ClientRequest {
    customer: 0,
    key: 0,
    order: 0,
    condition: Condition::None,
};
/// The same key, another order.
pub const OTHER_ORDER: ClientRequest = ClientRequest { order: 1, ..SAME };
/// Another key.
pub const OTHER_KEY: ClientRequest = ClientRequest { key: 1, ..SAME };
/// The same on a condition.
pub const CONDITIONAL: ClientRequest = ClientRequest {
    condition: Condition::Unchanged,
    ..SAME
};
/// The same under another key.
pub const OTHER_CONDITIONAL: ClientRequest = ClientRequest {
    condition: Condition::Unchanged,
    ..OTHER_KEY
};
/// The same without a key.
pub const KEYLESS: ClientRequest = ClientRequest {
    condition: Condition::Keyless,
    ..SAME
};
/// Another customer's key of the same name.
pub const OTHER_CUSTOMER: ClientRequest = ClientRequest {
    customer: 1,
    ..SAME
};

impl ClientRequest {
    /// The customer and key.
    pub fn scope(&self) -> KeyScope {
        let customer = match self.customer {
            0 => Some(Customer::anonymous()),
            n => Customer::named(format!("customer-{n}")),
        };
        let key = IdempotencyKey::parse(format!("key-{}", self.key).as_bytes());
        #[allow(clippy::expect_used, reason = "literals of visible ASCII")]
        let (customer, key) = customer.zip(key).expect("a name and a key");
        KeyScope { customer, key }
    }

    /// The request's body.
    pub fn body(&self) -> String {
        format!(
            r#"{{"currency":"EUR","items":[{{"sku":"A","quantity":{},"unitPrice":5}}]}}"#,
            self.order + 1
        )
    }
}

/// The clients of a run, and how often each comes back when it was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// One per client.
    pub requests: Vec<ClientRequest>,
    /// Retries per client, while faults are on.
    pub retries: u32,
    /// How many instances the clients are spread over.
    pub instances: usize,
}

/// Something that answers requests over a port.
pub trait Protocol: Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Starts a request of a client that knows this state of its list.
    fn start(&self, request: &ClientRequest, known: ListState, port: Port) -> Running;
}

/// What the component runs.
pub struct Real;

impl Protocol for Real {
    fn name(&self) -> &'static str {
        "the protocol"
    }

    fn start(&self, request: &ClientRequest, known: ListState, port: Port) -> Running {
        start(request, known, port)
    }
}

/// All that a request is given of the stores.
pub trait Ports:
    Reservations + Locks + Resources + ConditionalResources + ResourcesByKey + ResourceIds + 'static
{
}

impl<P> Ports for P where
    P: Reservations + Locks + Resources + ConditionalResources + ResourcesByKey + ResourceIds + 'static
{
}

/// Runs what the component runs, over any ports.
pub fn start(request: &ClientRequest, known: ListState, ports: impl Ports) -> Running {
    let (scope, body) = (request.scope(), request.body());
    let key = match request.condition {
        Condition::None => {
            return Box::pin(async move {
                let (body, reuse) = (body.as_bytes(), KeyReuse::Reject);
                create(scope, body, reuse, &ports, &ports, &ports).await
            });
        }
        Condition::Unchanged => Some(scope.key),
        Condition::Keyless => None,
    };
    let conditional = ConditionalRequest {
        customer: scope.customer,
        key,
        expected: Expected::OneOf(vec![known]),
    };
    Box::pin(async move {
        let (body, reuse) = (body.as_bytes(), KeyReuse::Reject);
        create_conditionally(conditional, body, reuse, &ports, &ports, &ports).await
    })
}
