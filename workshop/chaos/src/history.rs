//! The history: each request with its outcome, each fault and each promotion of a standby, with their times.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::order::{Acknowledgement, Order};

/// A request to create an order. Times are milliseconds since the history began.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    pub client: usize,
    pub host: usize,
    pub customer: &'static str,
    pub key: String,
    pub order: Order,
    /// `If-Match`, if the request has it.
    pub condition: Option<Condition>,
    pub from_ms: u64,
    /// When the response was read, or the client gave up.
    pub to_ms: u64,
    pub outcome: Outcome,
    /// The reading of its order after a 201, if the response was 200 or 404.
    pub read: Option<Read>,
}

impl Request {
    /// The status of a complete response.
    pub fn status(&self) -> Option<u16> {
        match self.outcome {
            Outcome::Answer { status, .. } => Some(status),
            Outcome::NoAnswer { .. } => None,
        }
    }

    /// The order of a 201.
    pub fn acknowledged(&self) -> Option<Acknowledgement> {
        match &self.outcome {
            Outcome::Answer { status: 201, body, .. } => serde_json::from_str(body).ok(),
            _ => None,
        }
    }
}

/// `If-Match`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    pub tag: String,
    /// When the list was requested that had the ETag.
    pub read_ms: u64,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// A complete response was read.
    Answer {
        status: u16,
        /// Whether it is marked as a replay.
        replayed: bool,
        body: String,
    },
    /// No complete response was read: the connection failed, the time was up, or the client hung up.
    NoAnswer {
        reason: String,
        /// The status, and whether it is marked as a replay, if the response's head was read.
        head: Option<(u16, bool)>,
    },
}

/// A `GET` of the order that a 201 acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Read {
    pub from_ms: u64,
    /// When its response was read.
    pub to_ms: u64,
    /// The body of a 200; `None` for 404.
    pub found: Option<String>,
}

/// A fault.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    pub name: String,
    pub from_ms: u64,
    /// When the servers and links that it concerned worked again.
    pub to_ms: u64,
}

/// A standby of Postgres took over.
#[derive(Clone, Debug, Serialize)]
pub struct Promotion {
    /// Since when commits may be missing.
    pub from_ms: u64,
    /// Since when the standby takes writes.
    pub to_ms: u64,
    /// Whether acknowledged orders may be lost: replication was asynchronous.
    pub loses: bool,
    /// Whether connections to the old primary stay, which takes no writes.
    pub old_stays: bool,
    /// The ids of all orders that it has.
    #[serde(skip)]
    pub survivors: HashSet<String>,
}

/// All that happened, in the order in which it ended.
#[derive(Clone, Debug, Default)]
pub struct Events {
    pub requests: Vec<Request>,
    pub faults: Vec<Fault>,
    pub promotions: Vec<Promotion>,
    /// Whether customers are moved between two databases. Then 421 occurs, and a move changes the tag of a list.
    pub has_cells: bool,
    /// When the last fault had ended.
    pub faults_ended_ms: Option<u64>,
}

impl Events {
    /// The promotions that may have lost orders.
    pub fn losses(&self) -> impl Iterator<Item = &Promotion> + Clone {
        self.promotions.iter().filter(|promotion| promotion.loses)
    }

    /// The acknowledgements of orders that such a promotion has lost, with the orders' ids. The requests were sent
    /// before it; an acknowledgement that came later may be of the new primary.
    pub fn lost_in(&self, loss: &Promotion) -> impl Iterator<Item = (&Request, String)> {
        let earlier = self.losses().map(|earlier| earlier.to_ms).filter(|to_ms| *to_ms < loss.to_ms);
        let period = earlier.max().unwrap_or(0)..loss.to_ms;
        let sent = self.requests.iter().filter(move |request| period.contains(&request.from_ms));
        sent.filter_map(|request| {
            let id = request.acknowledged()?.order_id;
            (!loss.survivors.contains(&id)).then_some((request, id))
        })
    }

    /// Writes one JSON object per line: first the faults and promotions, then the requests.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let faults = self.faults.iter().map(serde_json::to_string);
        let promotions = self.promotions.iter().map(serde_json::to_string);
        let requests = self.requests.iter().map(serde_json::to_string);
        let lines = faults.chain(promotions).chain(requests).collect::<serde_json::Result<Vec<_>>>()?;
        std::fs::write(path, lines.join("\n")).with_context(|| format!("writing {}", path.display()))
    }
}

/// A history in the making.
pub struct History {
    start: Instant,
    events: Mutex<Events>,
}

impl History {
    /// Begins a history.
    pub fn begin() -> Self {
        Self { start: Instant::now(), events: Mutex::default() }
    }

    /// The time since its beginning.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The same in milliseconds, as events have it.
    pub fn now(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// All events so far.
    pub fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request. Says whether orders may have been lost since it was sent.
    pub fn add(&self, request: Request) -> bool {
        let mut events = self.events();
        let spans_loss = events.losses().any(|loss| loss.to_ms >= request.from_ms);
        events.requests.push(request);
        spans_loss
    }
}
