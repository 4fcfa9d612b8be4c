//! The clients of a run, and the protocol (or a broken variant of it) that answers them.

use std::pin::Pin;

use http_api::{Response, respond};
use orders::Order;
use protocol::ListState;

use crate::client_request::ClientRequest;
use crate::host::{SimulatedBody, SimulatedHead, SimulatedHost, Stores};
use crate::kind::{Kind, Refund};
use crate::port::Port;

/// A request under way.
pub type Running = Pin<Box<dyn Future<Output = Response>>>;

/// The clients of a run, and how often each repeats its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// One per client.
    pub requests: Vec<ClientRequest>,
    /// Retries per client while there are faults.
    pub retries: u32,
    /// How many instances the clients are spread over.
    pub instances: usize,
}

/// Answers requests over a port.
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

/// Runs what the component runs, over any stores.
pub fn start(request: &ClientRequest, known: ListState, stores: impl Stores) -> Running {
    let head = SimulatedHead::new(request, &known);
    let body = SimulatedBody(request.body());
    let host = SimulatedHost::new(request, stores);
    match request.kind {
        Kind::Order => Box::pin(async move { respond::<Order>(&head, body, &host).await }),
        Kind::Refund => Box::pin(async move { respond::<Refund>(&head, body, &host).await }),
    }
}
