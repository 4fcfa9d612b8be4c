//! Checks a run only by its history and the final table. Rows never change, so the final table determines which
//! responses were correct at any time. The exception is a failover with asynchronous replication: the history says
//! which orders were stored after it, and a retry must
//! create all others that were acknowledged before again, readable within 5 s.
//!
//! Conditional orders: no two are based on one state, and an order that is acknowledged as new is based on the
//! requested state. A 412 needs an order of another client that has changed the list. A retry of an acknowledged order
//! gets neither 412 nor 409. At the end, a key means nothing to another customer.

mod judging;
mod key;
mod verdict;

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use crate::history::{Condition, Event, What};
use crate::order::{Item, Order};
use judging::End;
use key::{Key, Kind, Response};
pub use verdict::{HEALING_MS, Losses, Recovery, Refusals, Verdict};

/// The number of violations of one kind that the verdict describes.
const MAX_EXAMPLES: usize = 5;

/// How long a request to the service can go on after its client has its response or has given up (5 s), and the lock of
/// its list after that if its release fails (5 s).
const LOCKED_MS: u64 = 10_000;

/// A row of the final table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The customer.
    pub customer: String,
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

/// Checks a history, and the table after the run.
///
/// # Errors
/// The first error of `events`.
pub fn check<E>(events: impl IntoIterator<Item = Result<Event, E>>, rows: &[Row]) -> Result<Verdict, E> {
    let mut checker = Checker::default();
    let mut followed = HashSet::new();
    for row in rows {
        if row.based_on.is_some() && !followed.insert(&row.based_on) {
            checker.verdict.duplicates += 1;
            checker.example("duplicate", &format!("a second order was created with the same ETag: {row:?}"));
        }
        checker.key(&row.key).rows.push(row.clone());
        let customer = checker.customers.entry(row.customer.clone());
        customer.or_default().push(row.key.clone());
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

/// An HTTP request without a response so far.
struct Open {
    sent_ms: u64,
    /// The number of promotions before it was sent.
    era: usize,
    customer: String,
    order: Order,
    condition: Option<Condition>,
    after_faults: bool,
}

/// A request that was answered 201.
struct Acknowledged {
    sent_ms: u64,
    era: usize,
    replayed: bool,
    order_id: String,
}

#[derive(Default)]
struct Checker {
    verdict: Verdict,
    keys: HashMap<String, Key>,
    /// The keys of each customer's rows.
    customers: HashMap<String, Vec<String>>,
    open: HashMap<u64, Open>,
    /// Requests that were answered 201, and whose order may be read.
    acknowledged: HashMap<u64, Acknowledged>,
    /// When the last conditional request of a customer ended that has a response or was given up.
    last_conditional_ms: HashMap<String, u64>,
    /// When each fault began.
    begun: HashMap<u64, u64>,
    /// Of each promotion of a standby: whether it may have lost orders.
    promotions: Vec<bool>,
    /// When the last standby served whose promotion may have lost orders.
    served_since_loss_ms: u64,
    /// All orders that were stored when a standby was promoted.
    survivors: HashSet<String>,
    /// The number of active faults.
    active_faults: usize,
    /// Faults that ended while another one was active. Their recovery is measured from the end of the other one.
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
        self.example("disagreeing", &format!("request {request} of key {key}: {why}"));
    }

    fn add(&mut self, event: Event) {
        match event.what {
            What::Request { request, customer, key, order, condition, .. } => {
                self.verdict.sent += 1;
                self.key(&key).first_sent_ms.get_or_insert(event.t_ms);
                let open = Open {
                    sent_ms: event.t_ms,
                    era: self.promotions.len(),
                    customer,
                    order,
                    condition,
                    after_faults: self.faults_ended,
                };
                self.open.insert(request, open);
            }
            What::Answer { request, key, status, replayed, body, .. } => {
                self.answer(event.t_ms, request, &key, status, replayed, body)
            }
            What::NoAnswer { request, key, status, replayed, .. } => {
                let open = self.open.remove(&request);
                if let Some(open) = open.as_ref().filter(|open| open.condition.is_some()) {
                    let customer = open.customer.clone();
                    self.last_conditional_ms.insert(customer, event.t_ms);
                }
                // Another client may get the same response: the head alone counts.
                if status == Some(201) && !replayed {
                    let spans_loss = open.is_some_and(|open| self.spans_loss(open.era));
                    self.acknowledged_as_new(&key, spans_loss);
                }
            }
            What::Read { request, key, found, agrees } => self.read(event.t_ms, request, &key, found, agrees),
            What::Promoted { fault, loses, survivors } => self.promoted(event.t_ms, fault, loses, survivors),
            What::FaultBegin { fault, name, .. } => {
                self.begun.insert(fault, event.t_ms);
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

    fn answer(&mut self, t_ms: u64, request: u64, key: &str, status: u16, replayed: bool, body: String) {
        let Some(open) = self.open.remove(&request) else {
            return self.disagrees(request, key, "a response to a request that was not sent");
        };
        let conditional = open.condition.is_some().then(|| open.customer.clone());
        if matches!(status, 201 | 422) && open.after_faults {
            self.key(key).answered_after_faults = true;
        }
        match status {
            201 => {
                self.recovered(t_ms);
                self.acknowledged(t_ms, request, key, open, replayed, body);
            }
            422 => self.refused(request, key, open, body),
            503 => {}
            409 => self.locked(request, key, &open, &body),
            412 => self.stale(t_ms, request, key, open, &body),
            _ => self.disagrees(request, key, &format!("status {status}: {body}")),
        }
        if let Some(customer) = conditional {
            self.last_conditional_ms.insert(customer, t_ms);
        }
    }

    fn recovered(&mut self, t_ms: u64) {
        for (name, end) in self.ended.drain(..) {
            let recovery = self.verdict.recoveries.entry(name).or_default();
            recovery.longest_ms = recovery.longest_ms.max(t_ms.saturating_sub(end));
        }
    }

    /// Whether a failover that may lose orders occurred since a request was sent: its response may be from before or
    /// after.
    fn spans_loss(&self, era: usize) -> bool {
        self.promotions.iter().skip(era).any(|loses| *loses)
    }

    /// Counts an acknowledgement that is not marked as a replay. If it may be from before a loss, it is counted there
    /// unless there was one already.
    fn acknowledged_as_new(&mut self, key: &str, spans_loss: bool) {
        let before = spans_loss && !self.survived(key);
        let known = self.key(key);
        if before && known.lost_acknowledged_as_new == 0 {
            known.lost_acknowledged_as_new = 1;
        } else {
            known.acknowledged_as_new += 1;
        }
    }

    fn acknowledged(&mut self, t_ms: u64, request: u64, key: &str, sent: Open, replayed: bool, body: String) {
        self.verdict.acknowledged += 1;
        let Ok(response) = serde_json::from_str::<Acknowledgement>(&body) else {
            return self.disagrees(request, key, &format!("the body is not an order: {body}"));
        };
        let row = Row {
            customer: sent.customer,
            key: key.to_owned(),
            order_id: response.order_id,
            order: Order { currency: response.currency, items: response.items, note: response.note },
            total: response.total,
            based_on: None,
        };
        if row.order != sent.order || Some(row.total) != sent.order.total() {
            self.disagrees(request, key, &format!("acknowledges another order than the request contained: {body}"));
        }
        let acknowledged =
            Acknowledged { sent_ms: sent.sent_ms, era: sent.era, replayed, order_id: row.order_id.clone() };
        self.acknowledged.insert(request, acknowledged);
        let spans_loss = self.spans_loss(sent.era);
        if !replayed {
            self.acknowledged_as_new(key, spans_loss);
        }
        if spans_loss && !self.survivors.contains(&row.order_id) {
            // From the old primary, and lost; or from the new one. Its client must ask again.
            return self.loses(key, &row.order_id, t_ms, self.promotions.len());
        }
        let known = self.key(key);
        known.first_acknowledged_ms.get_or_insert(t_ms);
        match &known.acknowledged {
            None => known.acknowledged = Some((body, row.order_id.clone())),
            Some((first, id)) => {
                known.ids_differ |= *id != row.order_id;
                if *first != body {
                    let why = format!("acknowledged as {body}, earlier as {first}");
                    self.disagrees(request, key, &why);
                }
            }
        }
        let kind = Kind::Acknowledged { row, replayed, condition: sent.condition };
        self.key(key).unjudged.push(Response { request, kind });
    }

    fn refused(&mut self, request: u64, key: &str, sent: Open, body: String) {
        let refusal = serde_json::from_str::<Refusal>(&body).ok().filter(|refusal| {
            // All orders that clients send are valid.
            refusal.r#type == "urn:problem-type:orders:idempotency-key-reused"
        });
        let Some(refusal) = refusal else {
            return self.disagrees(request, key, &format!("a 422 of another type: {body}"));
        };
        let spans_loss = self.spans_loss(sent.era);
        let known = self.key(key);
        if known.unhealed.as_ref().is_some_and(|lost| lost.era <= sent.era) {
            // Whether that other order is stored is judged as for every 422.
            known.unhealed = None;
            self.verdict.losses.taken += 1;
        }
        if spans_loss {
            // The order that it was rejected for may be lost.
            return;
        }
        let kind = Kind::Refused { sent: sent.order, order_id: refusal.order_id, body };
        self.key(key).unjudged.push(Response { request, kind });
    }

    /// Whether a 409 or 412 is wrong for any behaviour of other requests: the request has no condition; or its key's
    /// order was acknowledged before it was sent (and not lost since), so that it is a retry, which must get its order.
    fn is_wrong_refusal(&mut self, request: u64, key: &str, sent: &Open, refusal: &str) -> bool {
        let spans_loss = self.spans_loss(sent.era);
        let acknowledged_ms = self.key(key).first_acknowledged_ms;
        let why = if sent.condition.is_none() {
            "to a request without If-Match"
        } else if !spans_loss && acknowledged_ms.is_some_and(|before| before < sent.sent_ms) {
            "to a retry of an acknowledged order"
        } else {
            return false;
        };
        self.disagrees(request, key, &format!("{refusal} {why}"));
        true
    }

    /// A 409 says that another request holds the lock of the customer's list. Checked is that there was such a request:
    /// a conditional one of the same customer that was open at the same time, or ended so shortly before that the
    /// service may still have been at work on it, or its lock have been left to its lease.
    fn locked(&mut self, request: u64, key: &str, sent: &Open, body: &str) {
        self.verdict.refusals.locked += 1;
        if self.is_wrong_refusal(request, key, sent, &format!("409 {body}")) {
            return;
        }
        let is_rival = |open: &Open| open.customer == sent.customer && open.condition.is_some();
        let ended_ms = self.last_conditional_ms.get(&sent.customer);
        if !self.open.values().any(is_rival) && ended_ms.is_none_or(|ended| ended + LOCKED_MS < sent.sent_ms) {
            self.disagrees(request, key, "409 without a rival");
        }
    }

    fn stale(&mut self, t_ms: u64, request: u64, key: &str, sent: Open, body: &str) {
        self.verdict.refusals.stale += 1;
        if self.is_wrong_refusal(request, key, &sent, &format!("412 {body}")) {
            return;
        }
        let Some(condition) = sent.condition else {
            return;
        };
        let customer = sent.customer;
        let kind = Kind::Stale { condition, customer, t_ms };
        self.key(key).unjudged.push(Response { request, kind });
    }

    /// The order of a 201 was requested.
    fn read(&mut self, t_ms: u64, request: u64, key: &str, found: bool, agrees: bool) {
        let Some(acknowledged) = self.acknowledged.remove(&request) else {
            return self.disagrees(request, key, "an order was read that was not acknowledged");
        };
        if !found {
            return self.not_found(request, key, &acknowledged);
        }
        if !agrees {
            self.disagrees(request, key, "the order differs from its acknowledgement");
        }
        let known = self.key(key);
        let Some(lost) = known.unhealed.take_if(|lost| lost.era <= acknowledged.era) else {
            return;
        };
        let took_ms = t_ms.saturating_sub(lost.since_ms);
        let losses = &mut self.verdict.losses;
        losses.healed += 1;
        losses.with_old_id += u64::from(lost.order_id == acknowledged.order_id);
        losses.longest_ms = losses.longest_ms.max(took_ms);
        if took_ms > HEALING_MS {
            self.verdict.unhealed += 1;
            self.example("unhealed", &format!("key {key}: its lost order was created again after {took_ms} ms"));
        }
    }

    /// An order was acknowledged and does not exist, unless a failover came in between.
    fn not_found(&mut self, request: u64, key: &str, acknowledged: &Acknowledged) {
        if acknowledged.era != self.promotions.len() {
            return;
        }
        let deadline = self.served_since_loss_ms + HEALING_MS;
        if acknowledged.replayed && self.promotions.contains(&true) && acknowledged.sent_ms < deadline {
            self.verdict.losses.early_phantoms += 1;
            return;
        }
        self.verdict.phantoms += 1;
        self.example(
            "phantom",
            &format!(
                "request {request} of key {key}: order {} was acknowledged and does not exist",
                acknowledged.order_id
            ),
        );
    }

    fn promoted(&mut self, t_ms: u64, fault: u64, loses: bool, survivors: Vec<String>) {
        self.survivors.extend(survivors);
        self.promotions.push(loses);
        let begun_ms = self.begun.get(&fault).copied().unwrap_or_default();
        self.judge_all(End::Promotion { losing_since_ms: loses.then_some(begun_ms), t_ms });
        if loses {
            self.verdict.losses.promotions += 1;
            self.served_since_loss_ms = t_ms;
        } else {
            self.verdict.lossless_promotions += 1;
        }
    }

    fn verdict(mut self) -> Verdict {
        self.judge_all(End::History);
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
            if let Some(lost) = known.unhealed {
                self.verdict.unhealed += 1;
                let text = format!("key {key}: order {} was lost and not created again", lost.order_id);
                self.example("unhealed", &text);
            }
            if known.first_sent_ms.is_some() && !known.answered_after_faults {
                self.verdict.unanswered += 1;
                self.example("unanswered after faults ended", &format!("key {key}"));
            }
        }
        self.verdict
    }
}

#[cfg(test)]
mod tests;
