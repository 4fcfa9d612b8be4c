//! The history: every request, every answer and every fault, one JSON object a line, in the order in which
//! they happened as far as this process can tell.

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
    /// What happened then.
    #[serde(flatten)]
    pub what: What,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub enum What {
    /// A request is about to be sent.
    Request {
        /// Who sends it.
        client: usize,
        /// What it is part of: one wish of one client, retried until answered.
        op: u64,
        /// This request; its answer bears the same number.
        request: u64,
        /// The host that is asked.
        runner: usize,
        /// `Idempotency-Key`.
        key: String,
        /// What is asked for.
        order: Order,
        /// `If-Match`, where the order is to follow a state of its customer's list.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        condition: Option<String>,
    },
    /// An answer was read to its end.
    Answer {
        /// Who read it.
        client: usize,
        /// What it is part of.
        op: u64,
        /// The request that it answers.
        request: u64,
        /// The host that answered.
        runner: usize,
        /// `Idempotency-Key` of the request.
        key: String,
        /// HTTP status.
        status: u16,
        /// Whether it says of itself that it is a replay.
        replayed: bool,
        /// The id in its body, for whoever reads the history; the checker reads the body.
        order_id: Option<String>,
        /// Its body, byte for byte.
        body: String,
    },
    /// No answer was read: the connection failed, time was up, or the client gave up.
    NoAnswer {
        /// Who waited for it.
        client: usize,
        /// What it is part of.
        op: u64,
        /// The request that was not answered.
        request: u64,
        /// The host that was asked.
        runner: usize,
        /// `Idempotency-Key` of the request.
        key: String,
        /// Why there is none.
        reason: String,
        /// The status, if that much was read.
        status: Option<u16>,
        /// Whether what was read says that it is a replay.
        replayed: bool,
    },
    /// A fault begins.
    FaultBegin {
        /// Its number.
        fault: u64,
        /// Its sort.
        name: String,
        /// What exactly.
        detail: String,
    },
    /// A fault has ended, and what it broke runs again.
    FaultEnd {
        /// Its number.
        fault: u64,
        /// Its sort.
        name: String,
    },
    /// No fault is left, and none will begin.
    FaultsEnded,
}

/// A history that is being written.
pub struct History {
    start: Instant,
    file: Mutex<BufWriter<File>>,
}

impl History {
    /// Begins one in a new file.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self {
            start: Instant::now(),
            file: Mutex::new(BufWriter::new(file)),
        })
    }

    /// How long it has been going on.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Adds what happens now.
    pub fn add(&self, what: What) -> Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that times never go back from one line to the next.
        let t_ms = u64::try_from(self.elapsed().as_millis())?;
        serde_json::to_writer(&mut *file, &Event { t_ms, what })?;
        file.write_all(b"\n").context("writing the history")
    }

    /// Makes sure that all of it is in the file.
    pub fn flush(&self) -> Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.flush().context("writing the history")
    }
}

/// Reads a history, line by line: one of a long run need not fit into memory.
pub fn read(path: &Path) -> Result<impl Iterator<Item = Result<Event>>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    Ok(BufReader::new(file)
        .lines()
        .map(|line| serde_json::from_str(&line?).context("not a line of a history")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let path = std::env::temp_dir().join(format!("history-{}.jsonl", std::process::id()));
        let order = Order {
            currency: "EUR".to_owned(),
            items: Vec::new(),
            note: Some("„ring\ntwice“".to_owned()),
        };
        let written = [
            What::Request {
                client: 1,
                op: 2,
                request: 3,
                runner: 0,
                key: "k".to_owned(),
                order,
                condition: Some("\"a\"".to_owned()),
            },
            What::FaultBegin {
                fault: 0,
                name: "n".to_owned(),
                detail: "d".to_owned(),
            },
            What::FaultsEnded,
        ];
        let history = History::create(&path).unwrap();
        for what in &written {
            history.add(what.clone()).unwrap();
        }
        history.flush().unwrap();
        let events: Vec<Event> = read(&path).unwrap().collect::<Result<_>>().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            events.into_iter().map(|e| e.what).collect::<Vec<_>>(),
            written
        );
    }
}
