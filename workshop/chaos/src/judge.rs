//! Judges a run by its history and the final table. Each key is a register of its order's id, and porcupine says
//! whether responses, readings and the final row fit together; a failover with asynchronous replication may lose it.
//! What remains is compared one by one: bodies with requests and rows, the healing of lost orders, 409 and 412.

mod conditional;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use porcupine_rs::Operation;
use serde::Deserialize;

use crate::history::{Events, Outcome, Promotion, Read, Request};
use crate::order::Order;
use crate::register::{Register, Step, operation, violation};
use crate::verdict::{HEALING_MS, Recovery, Verdict, Violation};

/// A row of the final table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub customer: String,
    pub key: String,
    pub order_id: String,
    pub order: Order,
    /// The ETag that it was created with, if it was created with If-Match.
    pub based_on: Option<String>,
}

/// The body of a 422.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refusal {
    r#type: String,
    order_id: String,
}

impl Refusal {
    /// All orders that clients send are valid, so that there is one reason only.
    fn of(body: &str) -> Option<Self> {
        let refusal: Self = serde_json::from_str(body).ok()?;
        (refusal.r#type == "urn:problem-type:orders:idempotency-key-reused").then_some(refusal)
    }
}

/// All that is known of one customer's key.
#[derive(Default)]
struct Key<'a> {
    requests: Vec<&'a Request>,
    rows: Vec<&'a Row>,
}

/// The keys, each with its customer before it.
type Keys<'a> = BTreeMap<(&'a str, &'a str), Key<'a>>;

/// Judges a history and the table after it.
pub fn judge(events: &Events, rows: &[Row]) -> Verdict {
    let mut verdict = Verdict {
        sent: events.requests.len(),
        acknowledged: events.requests.iter().filter(|request| request.status() == Some(201)).count(),
        faults: events.faults.len(),
        promotions: [events.promotions.len() - events.losses().count(), events.losses().count()],
        recoveries: recoveries(events),
        outdated: events
            .requests
            .iter()
            .filter_map(|r| r.read.as_ref())
            .filter(|read| read.is_outdated(events))
            .count(),
        ..Verdict::default()
    };
    let mut keys = Keys::new();
    for request in &events.requests {
        keys.entry((request.customer, &request.key)).or_default().requests.push(request);
    }
    for row in rows {
        keys.entry((&row.customer, &row.key)).or_default().rows.push(row);
    }
    verdict.keys = keys.len();
    let ends_ms = events.requests.iter().map(|r| r.to_ms.max(r.read.as_ref().map_or(0, |read| read.to_ms)));
    let end_ms = ends_ms.max().unwrap_or_default() + 1;
    let ended_ms = events.faults_ended_ms.unwrap_or(u64::MAX);
    for ((customer, name), key) in &keys {
        let mut note = |kind, why: &str| verdict.note(kind, format!("key {name} of {customer}: {why}"));
        if key.rows.len() > 1 {
            note(Violation::Duplicate, "several rows");
        }
        judge_bodies(key, events, &mut note);
        let operations = operations(key, events, end_ms);
        if let Some(kind) = violation(&operations) {
            let steps: Vec<_> = operations.iter().map(|o| (o.call_time / 2, o.return_time / 2, &o.op)).collect();
            note(kind, &format!("no order of these steps is possible: {steps:?}"));
        }
        let is_final = |request: &&Request| ended_ms <= request.from_ms && matches!(request.status(), Some(201 | 422));
        if !key.requests.is_empty() && !key.requests.iter().any(is_final) {
            note(Violation::Unanswered, "neither 201 nor 422 after the faults");
        }
    }
    judge_healing(&keys, events, &mut verdict);
    conditional::judge(&keys, events, &mut verdict);
    verdict
}

/// By kind of fault.
fn recoveries(events: &Events) -> BTreeMap<String, Recovery> {
    let acknowledged = events.requests.iter().filter(|request| request.status() == Some(201));
    let mut acknowledged_ms: Vec<u64> = acknowledged.map(|request| request.to_ms).collect();
    acknowledged_ms.sort();
    let mut recoveries: BTreeMap<String, Recovery> = BTreeMap::new();
    for fault in &events.faults {
        let others = events.faults.iter().filter(|other| (other.from_ms..other.to_ms).contains(&fault.to_ms));
        let end_ms = others.map(|other| other.to_ms).max().unwrap_or(fault.to_ms);
        let recovery = recoveries.entry(fault.name.clone()).or_default();
        recovery.faults += 1;
        let next = acknowledged_ms.partition_point(|acknowledged| *acknowledged < end_ms);
        if let Some(next_ms) = acknowledged_ms.get(next) {
            recovery.longest_ms = recovery.longest_ms.max(next_ms - end_ms);
        }
    }
    recoveries
}

/// Compares each response with its request, with the row, and with the other responses of the same order.
fn judge_bodies(key: &Key, events: &Events, note: &mut impl FnMut(Violation, &str)) {
    let mut first: HashMap<String, &str> = HashMap::new();
    for request in &key.requests {
        let Outcome::Answer { status, replayed, body } = &request.outcome else {
            continue;
        };
        let mut disagrees = |why: &str| note(Violation::Disagreeing, &format!("{status} {body}: {why}"));
        match status {
            201 => {
                let Some(response) = request.acknowledged() else {
                    disagrees("not an order");
                    continue;
                };
                if response.order != request.order || Some(response.total) != request.order.total() {
                    disagrees("acknowledges another order than the request contained");
                }
                let earlier = first.entry(response.order_id.clone()).or_insert(body);
                if earlier != body {
                    disagrees(&format!("acknowledged earlier as {earlier}"));
                }
                if request.read.as_ref().and_then(|read| read.found.as_ref()).is_some_and(|read| read != body) {
                    disagrees("the order that was read differs");
                }
                let Some(row) = key.rows.iter().find(|row| row.order_id == response.order_id) else {
                    continue;
                };
                // Only the statement that inserts reports a new order, and that statement compares the ETag. A lost
                // order may have been created again without.
                let is_lost =
                    |loss: &Promotion| request.from_ms <= loss.to_ms && !loss.survivors.contains(&row.order_id);
                if !replayed
                    && !events.losses().any(is_lost)
                    && row.based_on != request.condition.as_ref().map(|condition| condition.tag.clone())
                {
                    disagrees("created with another ETag than the request contained");
                }
                if row.order != response.order {
                    note(Violation::Lost, &format!("stored as {row:?}, acknowledged as {body}"));
                }
            }
            422 => match Refusal::of(body).map(|refusal| (refusal.order_id, &request.order)) {
                None => disagrees("another reason than the key's use"),
                Some(same) if orders(key).any(|order| order == same) => disagrees("the request contained that order"),
                Some(_) => {}
            },
            409 | 412 if request.condition.is_none() => disagrees("to a request without If-Match"),
            503 | 409 | 412 => {}
            421 if events.has_cells => {}
            _ => disagrees("must not occur"),
        }
    }
}

/// The orders that are stored or were acknowledged, with their ids.
fn orders<'a>(key: &'a Key) -> impl Iterator<Item = (String, &'a Order)> {
    let acknowledged =
        key.requests.iter().filter_map(|request| Some((request.acknowledged()?.order_id, &request.order)));
    acknowledged.chain(key.rows.iter().map(|row| (row.order_id.clone(), &row.order)))
}

/// What happened to the register of a key. The last step reads the final table.
fn operations(key: &Key, events: &Events, end_ms: u64) -> Vec<Operation<Register>> {
    let known: HashMap<String, &Order> = orders(key).collect();
    let mut ids: BTreeSet<String> = known.keys().cloned().collect();
    ids.extend(key.requests.iter().filter_map(|request| match &request.outcome {
        Outcome::Answer { status: 422, body, .. } => Refusal::of(body).map(|refusal| refusal.order_id),
        _ => None,
    }));
    let mut all = Vec::new();
    let mut permissions: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for request in &key.requests {
        let read = request.read.as_ref().filter(|read| !read.is_outdated(events));
        let mut may_create = |id: &String| permissions.entry(id.clone()).or_default().push(request.from_ms);
        let is_this = |id: &&String| known.get(*id).is_none_or(|order| **order == request.order);
        // An order that nobody has seen was not created, or did not matter.
        let mut candidates = ids.iter().filter(is_this);
        let step = match &request.outcome {
            Outcome::Answer { status: 201, replayed, .. } => request.acknowledged().and_then(|response| {
                let id = response.order_id;
                match replayed {
                    false => Some(Step::Created(id)),
                    // It says nothing about the present.
                    true if is_early(request, events) => {
                        may_create(&id);
                        None
                    }
                    true => Some(Step::Replayed(id)),
                }
            }),
            Outcome::Answer { status: 422, body, .. } => {
                Refusal::of(body).map(|refusal| Step::Has(Some(refusal.order_id)))
            }
            Outcome::Answer { status: 409 | 412, .. } => Some(Step::Has(None)),
            // The head of a 201 is enough to know that it has created an order.
            Outcome::NoAnswer { head: Some((201, false)), .. } if candidates.clone().count() <= 1 => {
                Some(Step::Created(candidates.next().cloned().unwrap_or_default()))
            }
            _ => {
                candidates.for_each(may_create);
                None
            }
        };
        let if_wrong = match (&step, read) {
            (_, Some(Read { found: None, .. })) => Violation::Phantom,
            (Some(Step::Has(_)), _) => Violation::Disagreeing,
            _ => Violation::Duplicate,
        };
        all.extend(step.map(|step| operation(request.from_ms, request.to_ms, step, if_wrong)));
        if let (Some(read), Some(response)) = (read, request.acknowledged()) {
            let id = response.order_id;
            let (step, if_wrong) = match read.found {
                Some(_) => (Step::Has(Some(id)), Violation::Disagreeing),
                None => (Step::Lacks(id), Violation::Phantom),
            };
            all.push(operation(read.from_ms, read.to_ms, step, if_wrong));
        }
    }
    let losses = events.losses().map(|loss| {
        let survivors = ids.iter().filter(|id| loss.survivors.contains(*id)).cloned();
        operation(loss.from_ms, loss.to_ms, Step::Failover(survivors.collect()), Violation::Duplicate)
    });
    all.extend(losses);
    for (id, mut from_ms) in permissions {
        // Once is enough, and once more after each loss: each further one would double the search.
        from_ms.sort();
        let enough = from_ms.into_iter().take(1 + events.losses().count());
        all.extend(enough.map(|from_ms| operation(from_ms, u64::MAX, Step::Unknown(id.clone()), Violation::Duplicate)));
    }
    let stored = key.rows.first().map(|row| row.order_id.clone());
    all.push(operation(end_ms, end_ms, Step::Has(stored), Violation::Lost));
    all
}

impl Read {
    /// Whether the order was not found, so soon after a switchover that the old primary may have served the read.
    fn is_outdated(&self, events: &Events) -> bool {
        let mut switchovers = events.promotions.iter().filter(|promotion| promotion.old_stays);
        self.found.is_none() && switchovers.any(|it| (it.to_ms..it.to_ms + HEALING_MS).contains(&self.from_ms))
    }
}

/// Whether it is a replay so soon after a loss that it may be of a lost order.
fn is_early(request: &Request, events: &Events) -> bool {
    matches!(request.outcome, Outcome::Answer { status: 201, replayed: true, .. })
        && events.losses().any(|loss| (loss.to_ms..loss.to_ms + HEALING_MS).contains(&request.from_ms))
}

/// Counts the orders that failovers have lost, and measures how soon their retries created them again.
fn judge_healing(keys: &Keys, events: &Events, verdict: &mut Verdict) {
    let of_nothing = |request: &&Request| {
        is_early(request, events) && request.read.as_ref().is_some_and(|read| read.found.is_none())
    };
    let losses = &mut verdict.losses;
    losses.early_phantoms = events.requests.iter().filter(of_nothing).count();
    for loss in events.losses() {
        let mut lost: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (request, id) in events.lost_in(loss) {
            lost.entry((request.customer, request.key.as_str())).or_default().push(id);
        }
        losses.lost += lost.len();
        for (name, acknowledged) in lost {
            let requests = keys.get(&name).map(|key| key.requests.iter()).unwrap_or_default();
            let later = requests.filter(|request| request.from_ms >= loss.to_ms);
            let first_ms = later.clone().map(|request| request.from_ms).min().unwrap_or_default();
            let settled = later.filter_map(|request| match (request.status(), &request.read) {
                (Some(422), _) => Some((request.to_ms, None)),
                (_, Some(Read { to_ms, found: Some(_), .. })) => Some((*to_ms, Some(request.acknowledged()?.order_id))),
                _ => None,
            });
            let took_ms = match settled.min() {
                Some((_, None)) => {
                    losses.taken += 1;
                    continue;
                }
                Some((healed_ms, Some(id))) => {
                    losses.healed += 1;
                    losses.with_old_id += usize::from(acknowledged.contains(&id));
                    healed_ms.saturating_sub(first_ms)
                }
                None => u64::MAX,
            };
            if took_ms > HEALING_MS {
                let why = format!("key {} of {}: not created again within {HEALING_MS} ms", name.1, name.0);
                verdict.violations.entry(Violation::Unhealed).or_default().push(why);
            }
            losses.longest_ms = losses.longest_ms.max(took_ms);
        }
    }
}
