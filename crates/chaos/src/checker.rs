//! Judges a run from its history and the final table alone. Rows never change, so the final table says what
//! each answer should have been, whenever it was given.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde::Deserialize;

use crate::history::{Event, What};
use crate::order::{Item, Order};

/// How many violations of one sort are told in words.
const MAX_EXAMPLES: usize = 5;

/// A row of the final table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `Idempotency-Key`.
    pub key: String,
    /// The order's id.
    pub order_id: String,
    /// The order.
    pub order: Order,
    /// Its total.
    pub total: i64,
    /// The tag of the list that it was created on, if it was on one.
    pub follows: Option<String>,
}

/// What became of the system after faults of one sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// How many there were.
    pub faults: u64,
    /// The longest time from the end of one, and of those that overlapped it, to the first good answer that
    /// followed.
    pub longest_ms: u64,
}

/// The judgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Requests that were sent.
    pub sent: u64,
    /// Requests whose order was acknowledged (201).
    pub acknowledged: u64,
    /// Faults.
    pub faults: u64,
    /// Keys with more than one order, in the table or by what was acknowledged, or said to be new twice.
    pub duplicates: u64,
    /// Keys with an acknowledged order that is not in the table, or not as it was acknowledged.
    pub lost: u64,
    /// Answers that contradict another answer, their own request or the table, or that may not occur.
    pub disagreeing: u64,
    /// Keys of which no request that was sent after the faults was answered 201 or 422.
    pub unanswered: u64,
    /// By sort of fault.
    pub recoveries: BTreeMap<String, Recovery>,
    /// The first violations of each sort, in words.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.duplicates == 0 && self.lost == 0 && self.disagreeing == 0 && self.unanswered == 0
    }

    /// The longest time from the end of a fault, and of those that overlapped it, to the first good answer
    /// that followed, whoever gave it.
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
            "longest time from the end of a fault to the first good answer: {} ms",
            self.longest_recovery_ms()
        )
    }
}

/// Judges a history, read from its beginning to its end, and the table as it is after all of it.
///
/// # Errors
/// The first one that reading the history gives.
pub fn check<E>(
    events: impl IntoIterator<Item = Result<Event, E>>,
    rows: &[Row],
) -> Result<Verdict, E> {
    let mut checker = Checker::default();
    let mut followed = HashSet::new();
    for row in rows {
        if row.follows.is_some() && !followed.insert(&row.follows) {
            checker.verdict.duplicates += 1;
            checker.example(
                "duplicate",
                &format!("a second order follows a list: {row:?}"),
            );
        }
        checker.key(&row.key).rows.push(row.clone());
    }
    for event in events {
        checker.see(event?);
    }
    Ok(checker.verdict())
}

/// An acknowledgement's body.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Acknowledgement {
    order_id: String,
    currency: String,
    items: Vec<Item>,
    note: Option<String>,
    total: i64,
}

/// A refusal's body.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refusal {
    r#type: String,
    order_id: Option<String>,
}

/// What is known of one key.
#[derive(Default)]
struct Key {
    rows: Vec<Row>,
    sent: bool,
    /// The body of the first acknowledgement, and its order's id.
    acknowledged: Option<(String, String)>,
    ids_differ: bool,
    said_new: u64,
    lost: bool,
    answered_at_last: bool,
}

/// A request without an answer so far.
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
    /// How many faults go on.
    going_on: usize,
    /// Faults that ended while another went on: what that one breaks is not theirs to answer for.
    overlapped: Vec<String>,
    /// Faults that ended without a good answer since, and when.
    ended: Vec<(String, u64)>,
    faults_ended: bool,
}

impl Checker {
    fn key(&mut self, key: &str) -> &mut Key {
        self.keys.entry(key.to_owned()).or_default()
    }

    fn example(&mut self, sort: &str, text: &str) {
        let examples = &mut self.verdict.examples;
        if examples.iter().filter(|e| e.starts_with(sort)).count() < MAX_EXAMPLES {
            examples.push(format!("{sort}: {text}"));
        }
    }

    fn disagrees(&mut self, request: u64, key: &str, why: &str) {
        self.verdict.disagreeing += 1;
        self.example(
            "disagreeing",
            &format!("request {request} of key {key}: {why}"),
        );
    }

    fn see(&mut self, event: Event) {
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
                // Somebody else may be told the same: what was half read counts.
                if status == Some(201) && !replayed {
                    self.key(&key).said_new += 1;
                }
            }
            What::FaultBegin { name, .. } => {
                self.verdict.faults += 1;
                self.going_on += 1;
                self.verdict.recoveries.entry(name).or_default().faults += 1;
            }
            What::FaultEnd { name, .. } => {
                self.going_on = self.going_on.saturating_sub(1);
                self.overlapped.push(name);
                if self.going_on == 0 {
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
            return self.disagrees(request, key, "answered, and never sent");
        };
        if matches!(status, 201 | 422) && open.after_faults {
            self.key(key).answered_at_last = true;
        }
        match status {
            201 => {
                self.recovered(t_ms);
                self.acknowledged(request, key, &open, replayed, body);
            }
            422 => self.refused(request, key, &open.order, &body),
            503 => {}
            // Locked, or no longer as expected.
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

    fn acknowledged(
        &mut self,
        request: u64,
        key: &str,
        asked: &Open,
        replayed: bool,
        body: String,
    ) {
        self.verdict.acknowledged += 1;
        let Ok(said) = serde_json::from_str::<Acknowledgement>(&body) else {
            return self.disagrees(request, key, &format!("not an order: {body}"));
        };
        let row = Row {
            key: key.to_owned(),
            order_id: said.order_id,
            order: Order {
                currency: said.currency,
                items: said.items,
                note: said.note,
            },
            total: said.total,
            follows: None,
        };
        if row.order != asked.order || Some(row.total) != asked.order.total() {
            self.disagrees(
                request,
                key,
                &format!("acknowledges another order than was asked for: {body}"),
            );
        }
        let known = self.key(key);
        known.said_new += u64::from(!replayed);
        let stored = known.rows.iter().find(|stored| {
            let follows = row.follows.clone();
            Row {
                follows,
                ..(*stored).clone()
            } == row
        });
        let is_lost = stored.is_none();
        // Only its own statement says that an order is new, and that one has compared the tag.
        let strays = !replayed && stored.is_some_and(|stored| stored.follows != asked.condition);
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
        if strays {
            self.disagrees(
                request,
                key,
                "created on another state of the list than was asked for",
            );
        }
        if newly_lost {
            self.example(
                "lost",
                &format!("request {request} of key {key}: not in the table: {body}"),
            );
        }
    }

    fn refused(&mut self, request: u64, key: &str, asked: &Order, body: &str) {
        let refusal = serde_json::from_str::<Refusal>(body)
            .ok()
            .filter(|refusal| {
                // Every order that is sent is valid.
                refusal.r#type == "urn:problem-type:orders:idempotency-key-reused"
            });
        let Some(refusal) = refusal else {
            return self.disagrees(request, key, &format!("a refusal of another kind: {body}"));
        };
        let rows = &self.key(key).rows;
        if rows.iter().any(|row| row.order == *asked) {
            self.disagrees(request, key, "refused, and asked for the stored order");
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
            if known.rows.len() > 1 || known.ids_differ || known.said_new > 1 {
                self.verdict.duplicates += 1;
                let told = format!(
                    "key {key}: {} rows, said to be new {} times, ids {}",
                    known.rows.len(),
                    known.said_new,
                    if known.ids_differ { "differ" } else { "agree" }
                );
                self.example("duplicate", &told);
            }
            if known.sent && !known.answered_at_last {
                self.verdict.unanswered += 1;
                self.example("unanswered after faults ended", &format!("key {key}"));
            }
        }
        self.verdict
    }
}

#[cfg(test)]
mod tests;
