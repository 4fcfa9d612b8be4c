//! Who asks for what: the requests of a run, and the protocol (or a broken variant of it) that answers.

use std::pin::Pin;

use orders::create_order::KeyReuse;
use orders::customer::Customer;
use orders::http::{Problem, Response, create};
use orders::idempotency::{IdempotencyKey, Slot};
use orders::ports::{OrderIds, Orders, Reservations};

use crate::port::Port;

/// What a request comes to.
pub type Outcome = Result<Response, Problem>;

/// A request under way.
pub type Running = Pin<Box<dyn Future<Output = Outcome>>>;

/// What a client asks for, the first time and every time again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wish {
    /// One of a few customers.
    pub customer: u8,
    /// One of a few keys.
    pub key: u8,
    /// One of a few orders.
    pub order: u8,
}

/// The same key, the same order.
pub const SAME: Wish = Wish {
    customer: 0,
    key: 0,
    order: 0,
};
/// The same key, another order.
pub const OTHER_ORDER: Wish = Wish { order: 1, ..SAME };
/// Another key.
pub const OTHER_KEY: Wish = Wish { key: 1, ..SAME };
/// Another customer's key of the same name.
pub const OTHER_CUSTOMER: Wish = Wish {
    customer: 1,
    ..SAME
};

impl Wish {
    /// The customer and key.
    pub fn slot(&self) -> Slot {
        let customer = match self.customer {
            0 => Some(Customer::anonymous()),
            n => Customer::named(format!("customer-{n}")),
        };
        let key = IdempotencyKey::parse(format!("key-{}", self.key).as_bytes());
        #[allow(clippy::expect_used, reason = "literals of visible ASCII")]
        let (customer, key) = customer.zip(key).expect("a name and a key");
        Slot { customer, key }
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
    pub wishes: Vec<Wish>,
    /// Retries per client, while faults are on.
    pub retries: u32,
    /// How many instances the clients are spread over.
    pub instances: usize,
}

/// Something that answers requests over a port.
pub trait Protocol: Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Starts a request.
    fn start(&self, wish: &Wish, port: Port) -> Running;
}

/// What the component runs.
pub struct Real;

impl Protocol for Real {
    fn name(&self) -> &'static str {
        "the protocol"
    }

    fn start(&self, wish: &Wish, port: Port) -> Running {
        start(wish, port)
    }
}

/// Runs what the component runs, over any ports.
pub fn start<P: Reservations + Orders + OrderIds + 'static>(wish: &Wish, ports: P) -> Running {
    let (slot, body) = (wish.slot(), wish.body());
    Box::pin(async move {
        create(
            slot,
            body.as_bytes(),
            KeyReuse::Reject,
            &ports,
            &ports,
            &ports,
        )
        .await
    })
}
