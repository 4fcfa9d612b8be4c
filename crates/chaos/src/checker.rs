//! Checks a run by its history and the final table alone. Rows never change, so the final table determines which
//! responses were correct at any time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde::Deserialize;

use crate::history::{Event, What};
use crate::order::{Item, Order};

/// The number of violations of one kind that the verdict describes.
const MAX_EXAMPLES: usize = 5;

/// A row of the final table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `Idempotency-Key`.
    pub key: String,
    /// The order id.
    pub order_id: String,
    /// The order.
    pub order: Order,
    /// Its total, in minor units.
    pub total: i64,
    /// The ETag that it was created with, if it was created with If-Match.
    pub based_on: Option<String>,
}

/// How the system recovered from faults of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The number of faults.
    pub faults: u64,
    /// The longest time from the end of a fault, and of those that overlapped it, to the next acknowledgement.
    pub longest_ms: u64,
}

/// The result of the check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// HTTP requests sent.
    pub sent: u64,
    /// HTTP requests with an acknowledgement (201).
    pub acknowledged: u64,
    /// Faults.
    pub faults: u64,
    /// Keys with more than one order in the table, with more than one acknowledged order id, or with more than
    /// one acknowledgement that is not marked as a replay.
    pub duplicates: u64,
    /// Keys with an acknowledged order that is not in the table, or differs from the table.
    pub lost: u64,
    /// Responses that contradict another response, their own request or the table, or that must not occur.
    pub disagreeing: u64,
    /// Keys without a 201 or 422 to any request sent after all faults ended.
    pub unanswered: u64,
    /// By kind of fault.
    pub recoveries: BTreeMap<String, Recovery>,
    /// Descriptions of the first violations of each kind.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Whether there is no violation.
    pub fn is_clean(&self) -> bool {
        self.duplicates == 0 && self.lost == 0 && self.disagreeing == 0 && self.unanswered == 0
    }

    /// The longest time from the end of a fault, and of those that overlapped it, to the next acknowledgement by
    /// any host.
    pub fn longest_recovery_ms(&self) -> u64 {
        let each = self.recoveries.values().map(|recovery| recovery.longest_ms);
        each.max().unwrap_or_default()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "sent {}, acknowledged {}, faults {}, duplicates {}, lost {}, disagreeing {}, unanswered after \
             faults ended {}",
            self.sent,
            self.acknowledged,
            self.faults,
            self.duplicates,
            self.lost,
            self.disagreeing,
            self.unanswered
        )?;
        write!(
            f,
            "longest time from the end of a fault to the next acknowledgement: {} ms",
            self.longest_recovery_ms()
        )
    }
}

/// Checks a history, and the table after the run.
///
/// # Errors
/// The first error of `events`.
pub fn check<E>(
    events: impl IntoIterator<Item = Result<Event, E>>,
    rows: &[Row],
) -> Result<Verdict, E> {
    let mut checker = Checker::default();
    let mut followed = HashSet::new();
    for row in rows {
        if row.based_on.is_some() && !followed.insert(&row.based_on) {
            checker.verdict.duplicates += 1;
            checker.example(
                "duplicate",
                &format!("a second order was created with the same ETag: {row:?}"),
            );
        }
        checker.key(&row.key).rows.push(row.clone());
    }
    for event in events {
        checker.add(event?);
    }
    Ok(checker.verdict())
}

/// The body of a 201.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Acknowledgement {
    order_id: String,
    currency: String,
    items: Vec<Item>,
    note: Option<String>,
    total: i64,
}

/// The body of a 422.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refusal {
    r#type: String,
    order_id: Option<String>,
}

/// The state of one key.
#[derive(Default)]
struct Key {
    rows: Vec<Row>,
    sent: bool,
    /// The body of the first acknowledgement, and its order id.
    acknowledged: Option<(String, String)>,
    ids_differ: bool,
    acknowledged_as_new: u64,
    lost: bool,
    answered_after_faults: bool,
}

/// An HTTP request without a response so far.
struct Open {
    order: Order,
    condition: Option<String>,
    after_faults: bool,
}

#[derive(Default)]
struct Checker {
    verdict: Verdict,
    keys: HashMap<String, Key>,
    open: HashMap<u64, Open>,
    /// The number of active faults.
    active_faults: usize,
    /// Faults that ended while another was active: their recovery is measured from the end of that one.
    overlapped: Vec<String>,
    /// Faults without an acknowledgement since their end, and the time of their end.
    ended: Vec<(String, u64)>,
    faults_ended: bool,
}

impl Checker {
    fn key(&mut self, key: &str) -> &mut Key {
        self.keys.entry(key.to_owned()).or_default()
    }

    fn example(&mut self, kind: &str, text: &str) {
        let examples = &mut self.verdict.examples;
        if examples.iter().filter(|e| e.starts_with(kind)).count() < MAX_EXAMPLES {
            examples.push(format!("{kind}: {text}"));
        }
    }

    fn disagrees(&mut self, request: u64, key: &str, why: &str) {
        self.verdict.disagreeing += 1;
        self.example(
            "disagreeing",
            &format!("request {request} of key {key}: {why}"),
        );
    }

    fn add(&mut self, event: Event) {
        match event.what {
            What::Request {
                request,
                key,
                order,
                condition,
                ..
            } => {
                self.verdict.sent += 1;
                self.key(&key).sent = true;
                let after_faults = self.faults_ended;
                let open = Open {
                    order,
                    condition,
                    after_faults,
                };
                self.open.insert(request, open);
            }
            What::Answer {
                request,
                key,
                status,
                replayed,
                body,
                ..
            } => self.answer(event.t_ms, request, &key, status, replayed, body),
            What::NoAnswer {
                request,
                key,
                status,
                replayed,
                ..
            } => {
                self.open.remove(&request);
                // Another client may get the same response: the head alone counts.
                if status == Some(201) && !replayed {
                    self.key(&key).acknowledged_as_new += 1;
                }
            }
            What::FaultBegin { name, .. } => {
                self.verdict.faults += 1;
                self.active_faults += 1;
                self.verdict.recoveries.entry(name).or_default().faults += 1;
            }
            What::FaultEnd { name, .. } => {
                self.active_faults = self.active_faults.saturating_sub(1);
                self.overlapped.push(name);
                if self.active_faults == 0 {
                    let over = self.overlapped.drain(..).map(|name| (name, event.t_ms));
                    self.ended.extend(over);
                }
            }
            What::FaultsEnded => self.faults_ended = true,
        }
    }

    fn answer(
        &mut self,
        t_ms: u64,
        request: u64,
        key: &str,
        status: u16,
        replayed: bool,
        body: String,
    ) {
        let Some(open) = self.open.remove(&request) else {
            return self.disagrees(request, key, "a response to a request that was not sent");
        };
        if matches!(status, 201 | 422) && open.after_faults {
            self.key(key).answered_after_faults = true;
        }
        match status {
            201 => {
                self.recovered(t_ms);
                self.acknowledged(request, key, &open, replayed, body);
            }
            422 => self.refused(request, key, &open.order, &body),
            503 => {}
            // The list is locked, or its ETag has changed.
            409 | 412 if open.condition.is_some() => {}
            _ => self.disagrees(request, key, &format!("status {status}: {body}")),
        }
    }

    fn recovered(&mut self, t_ms: u64) {
        for (name, end) in self.ended.drain(..) {
            let recovery = self.verdict.recoveries.entry(name).or_default();
            recovery.longest_ms = recovery.longest_ms.max(t_ms.saturating_sub(end));
        }
    }

    fn acknowledged(&mut self, request: u64, key: &str, sent: &Open, replayed: bool, body: String) {
        self.verdict.acknowledged += 1;
        let Ok(response) = serde_json::from_str::<Acknowledgement>(&body) else {
            return self.disagrees(request, key, &format!("the body is not an order: {body}"));
        };
        let row = Row {
            key: key.to_owned(),
            order_id: response.order_id,
            order: Order {
                currency: response.currency,
                items: response.items,
                note: response.note,
            },
            total: response.total,
            based_on: None,
        };
        if row.order != sent.order || Some(row.total) != sent.order.total() {
            self.disagrees(
                request,
                key,
                &format!("acknowledges another order than the request contained: {body}"),
            );
        }
        let known = self.key(key);
        known.acknowledged_as_new += u64::from(!replayed);
        let stored = known.rows.iter().find(|stored| {
            let based_on = row.based_on.clone();
            Row {
                based_on,
                ..(*stored).clone()
            } == row
        });
        let is_lost = stored.is_none();
        // Only the statement that inserts reports a new order, and that statement compares the ETag.
        let has_other_etag =
            !replayed && stored.is_some_and(|stored| stored.based_on != sent.condition);
        let newly_lost = is_lost && !known.lost;
        known.lost |= is_lost;
        match &known.acknowledged {
            None => known.acknowledged = Some((body.clone(), row.order_id)),
            Some((first, id)) => {
                known.ids_differ |= *id != row.order_id;
                if *first != body {
                    let why = format!("acknowledged as {body}, earlier as {first}");
                    self.disagrees(request, key, &why);
                }
            }
        }
        if has_other_etag {
            self.disagrees(
                request,
                key,
                "created with another ETag than the request contained",
            );
        }
        if newly_lost {
            self.example(
                "lost",
                &format!("request {request} of key {key}: the order is not in the table: {body}"),
            );
        }
    }

    fn refused(&mut self, request: u64, key: &str, sent: &Order, body: &str) {
        let refusal = serde_json::from_str::<Refusal>(body)
            .ok()
            .filter(|refusal| {
                // All orders that clients send are valid.
                refusal.r#type == "urn:problem-type:orders:idempotency-key-reused"
            });
        let Some(refusal) = refusal else {
            return self.disagrees(request, key, &format!("a 422 of another type: {body}"));
        };
        let rows = &self.key(key).rows;
        if rows.iter().any(|row| row.order == *sent) {
            self.disagrees(
                request,
                key,
                "refused, although the request contained the stored order",
            );
        } else if !rows
            .iter()
            .any(|row| Some(&row.order_id) == refusal.order_id.as_ref())
        {
            let why = format!("refused for an order that is not stored: {body}");
            self.disagrees(request, key, &why);
        }
    }

    fn verdict(mut self) -> Verdict {
        let mut keys: Vec<_> = std::mem::take(&mut self.keys).into_iter().collect();
        keys.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (key, known) in keys {
            self.verdict.lost += u64::from(known.lost);
            if known.rows.len() > 1 || known.ids_differ || known.acknowledged_as_new > 1 {
                self.verdict.duplicates += 1;
                let text = format!(
                    "key {key}: {} rows, acknowledged as new {} times, ids {}",
                    known.rows.len(),
                    known.acknowledged_as_new,
                    if known.ids_differ { "differ" } else { "agree" }
                );
                self.example("duplicate", &text);
            }
            if known.sent && !known.answered_after_faults {
                self.verdict.unanswered += 1;
                self.example("unanswered after faults ended", &format!("key {key}"));
            }
        }
        self.verdict
    }
}

#[cfg(test)]
mod tests;
