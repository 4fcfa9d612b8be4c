//! The clients of a run, and what serves them: the protocol, or a broken variant of it.

use std::pin::Pin;

use exactly_once::ListState;
use exactly_once::create::{KeyReuse, OutageReplay, ReplayPolicy};
use exactly_once_http::{Host, Response, respond};

use crate::broken::{Break, BrokenHost};
use crate::client_request::ClientRequest;
use crate::host::{SimulatedBody, SimulatedHead, SimulatedHost};

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
    /// How the instances respond to retries.
    pub policy: ReplayPolicy,
    /// How many clients' first requests arrive one after the other, each after the response to the one before. Those of
    /// the other clients arrive at once, [`PAUSE`](crate::fault::PAUSE) later.
    pub in_turn: usize,
}

/// The strict policies: a key that returns with another document is rejected, and in an outage no record is believed.
pub const STRICT: ReplayPolicy = ReplayPolicy { key_reuse: KeyReuse::Reject, outage: OutageReplay::Unavailable };
/// The default ones: in an outage records are believed.
pub const DEFAULT: ReplayPolicy = ReplayPolicy { outage: OutageReplay::FromRecord, ..STRICT };
/// A key that returns with another document gets the first one.
pub const KEY_REPLAYS: ReplayPolicy = ReplayPolicy { key_reuse: KeyReuse::Replay, ..DEFAULT };

/// Starts what the component runs for a request of a client that knows this state of its list.
pub fn start(request: &ClientRequest, known: ListState, host: SimulatedHost, mistake: Option<Break>) -> Running {
    match mistake {
        None => run(request, known, host),
        Some(mistake) => run(request, known, BrokenHost::new(host, mistake)),
    }
}

fn run(request: &ClientRequest, known: ListState, host: impl Host + 'static) -> Running {
    let head = SimulatedHead::new(request, &known);
    let body = SimulatedBody(request.body());
    let resource = request.kind.resource();
    Box::pin(async move { respond(resource, &head, body, &host).await })
}
