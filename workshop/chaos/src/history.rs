//! The history: every request, response and fault as one JSON object per line, in the order in which this process
//! saw them.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::order::Order;

/// One line of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since the history began.
    pub t_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// The kinds of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum What {
    /// A request is about to be sent.
    Request {
        /// The number of the client that sends it.
        client: usize,
        /// The number of the client request that it belongs to. A client sends a client request in one or more
        /// HTTP requests.
        op: u64,
        /// The number of this HTTP request; its response has the same number.
        request: u64,
        /// The number of the host that receives it.
        runner: usize,
        /// The customer.
        customer: String,
        /// `Idempotency-Key`.
        key: String,
        /// The order in its body.
        order: Order,
        /// `If-Match`, if the request has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        condition: Option<Condition>,
    },
    /// A complete response was read.
    Answer {
        /// The number of the client that read it.
        client: usize,
        /// The number of the client request that it belongs to.
        op: u64,
        /// The number of the HTTP request.
        request: u64,
        /// The number of the host that responded.
        runner: usize,
        /// `Idempotency-Key` of the request.
        key: String,
        /// HTTP status.
        status: u16,
        /// Whether it is marked as a replay.
        replayed: bool,
        /// The order id in its body, for people who read the history; the checker reads the body.
        order_id: Option<String>,
        /// Its body, byte for byte.
        body: String,
    },
    /// No complete response was read: the connection failed, the time was up, or the client hung up.
    NoAnswer {
        /// The number of the client that waited for it.
        client: usize,
        /// The number of the client request that it belongs to.
        op: u64,
        /// The number of the HTTP request.
        request: u64,
        /// The number of the host that received the request.
        runner: usize,
        /// `Idempotency-Key` of the request.
        key: String,
        /// The reason.
        reason: String,
        /// The status, if the response's head was read.
        status: Option<u16>,
        /// Whether a head was read that is marked as a replay.
        replayed: bool,
    },
    /// The order of a 201 was requested, and the response was 200 or 404.
    Read {
        /// The number of the HTTP request that was answered 201.
        request: u64,
        /// `Idempotency-Key` of that request.
        key: String,
        /// Whether the response is 200; otherwise it is 404.
        found: bool,
        /// Whether it has the body of the 201.
        agrees: bool,
    },
    /// A fault begins.
    FaultBegin {
        /// Its number.
        fault: u64,
        /// The name of its kind.
        name: String,
        /// The kind and the hosts concerned.
        detail: String,
    },
    /// A standby of Postgres was promoted, and the links lead to it from now on.
    Promoted {
        /// The number of the fault.
        fault: u64,
        /// Whether acknowledged orders may be lost: replication was asynchronous.
        loses: bool,
        /// The ids of all orders that are stored and that no earlier event of this kind contains.
        survivors: Vec<String>,
    },
    /// A fault has ended, and the servers and links that it concerned work again.
    FaultEnd {
        /// Its number.
        fault: u64,
        /// The name of its kind.
        name: String,
    },
    /// All faults have ended, and no other will begin.
    FaultsEnded,
}

/// The condition of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The ETag in `If-Match`.
    pub tag: String,
    /// When the list was requested that had the ETag, in milliseconds since the history began.
    pub read_ms: u64,
}

/// A history in writing.
pub struct History {
    start: Instant,
    file: Mutex<BufWriter<File>>,
}

impl History {
    /// Begins a history in a new file.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self { start: Instant::now(), file: Mutex::new(BufWriter::new(file)) })
    }

    /// The time since its beginning.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The same in milliseconds, as events have it.
    ///
    /// # Errors
    /// It does not fit.
    pub fn elapsed_ms(&self) -> Result<u64> {
        Ok(u64::try_from(self.elapsed().as_millis())?)
    }

    /// Adds an event with the current time.
    pub fn add(&self, what: What) -> Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: times must not decrease from one line to the next.
        let t_ms = self.elapsed_ms()?;
        serde_json::to_writer(&mut *file, &Event { t_ms, what })?;
        file.write_all(b"\n").context("writing the history")
    }

    /// Writes all buffered lines to the file.
    pub fn flush(&self) -> Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.flush().context("writing the history")
    }
}

/// Reads a history line by line: the history of a long run may not fit into memory.
pub fn read(path: &Path) -> Result<impl Iterator<Item = Result<Event>>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    Ok(BufReader::new(file).lines().map(|line| serde_json::from_str(&line?).context("not a line of a history")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_events_are_read_back() {
        let path = std::env::temp_dir().join(format!("history-{}.jsonl", std::process::id()));
        let order = Order { currency: "EUR".to_owned(), items: Vec::new(), note: Some("„ring\ntwice“".to_owned()) };
        let written = [
            What::Request {
                client: 1,
                op: 2,
                request: 3,
                runner: 0,
                customer: "c".to_owned(),
                key: "k".to_owned(),
                order,
                condition: Some(Condition { tag: "\"a\"".to_owned(), read_ms: 3 }),
            },
            What::FaultBegin { fault: 0, name: "n".to_owned(), detail: "d".to_owned() },
            What::FaultsEnded,
        ];
        let history = History::create(&path).unwrap();
        for what in &written {
            history.add(what.clone()).unwrap();
        }
        history.flush().unwrap();
        let events: Vec<Event> = read(&path).unwrap().collect::<Result<_>>().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(events.into_iter().map(|e| e.what).collect::<Vec<_>>(), written);
    }
}
