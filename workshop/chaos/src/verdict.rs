//! What the judge has found, and how it is printed.

use std::collections::BTreeMap;
use std::fmt;

/// How long after a promotion, in milliseconds, an instance may replay lost orders from records, and how long
/// after its first retry such an order must be there again.
pub const HEALING_MS: u64 = 5000;

/// The kinds of violations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A key with more than one row, acknowledged order id, or acknowledgement that is not marked as a replay; a state
    /// of a list that two orders are based on. What was acknowledged before a failover that lost the order does not
    /// count.
    Duplicate,
    /// A key with an acknowledged order that is not in the table, or differs from the table. Orders that a failover
    /// with asynchronous replication lost are [`Losses`] instead.
    Lost,
    /// A response that contradicts another response, its own request or the table, or that must not occur.
    Disagreeing,
    /// A key whose order was acknowledged and did not exist: `GET` returned 404.
    Phantom,
    /// An order that a failover has lost and that no retry has created again within [`HEALING_MS`] of the first.
    Unhealed,
    /// A key without a 201 or 422 to any request sent after all faults ended.
    Unanswered,
}

/// Failovers of Postgres with asynchronous replication, and the orders that they lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Orders that were acknowledged and did not survive. One whose acknowledgement was on its way during the promotion
    /// is counted if it is not among the survivors: its client must ask again.
    pub lost: usize,
    /// Those that a retry created again and that were read then.
    pub healed: usize,
    /// Those healed with their old order id.
    pub with_old_id: usize,
    /// Those whose key was taken by another order, which a client sent with the same key after the loss.
    pub taken: usize,
    /// The longest time from the first retry of a lost order until it was read again.
    pub longest_ms: u64,
    /// Replays of lost orders within [`HEALING_MS`] after the promotion. Later ones are violations.
    pub early_phantoms: usize,
}

/// How the system recovered from faults of one kind: how many there were, and the longest time from the end of one, and
/// of those that overlapped it, to the next acknowledgement by any host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    pub faults: usize,
    pub longest_ms: u64,
}

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// HTTP requests sent, and those with an acknowledgement (201).
    pub sent: usize,
    pub acknowledged: usize,
    /// The keys that porcupine has checked.
    pub keys: usize,
    pub faults: usize,
    /// Descriptions, by kind.
    pub violations: BTreeMap<Violation, Vec<String>>,
    /// Promotions with synchronous and with asynchronous replication.
    pub promotions: [usize; 2],
    pub losses: Losses,
    /// Responses 412 and 409, and those 412 that were not checked because of a failover.
    pub stale: usize,
    pub not_judged: usize,
    pub locked: usize,
    /// Orders that were not found within [`HEALING_MS`] after a switchover: the old primary may have served the read.
    pub outdated: usize,
    pub recoveries: BTreeMap<String, Recovery>,
}

impl Verdict {
    /// Notes a violation.
    pub fn note(&mut self, kind: Violation, text: String) {
        self.violations.entry(kind).or_default().push(text);
    }

    /// The first violations of each kind.
    pub fn examples(&self) -> Vec<String> {
        let first = |(kind, all): (&Violation, &Vec<String>)| {
            all.iter().take(5).map(|why| format!("{kind:?}: {why}")).collect::<Vec<_>>()
        };
        self.violations.iter().flat_map(first).collect()
    }

    /// How many violations of this kind there are.
    pub fn count(&self, kind: Violation) -> usize {
        self.violations.get(&kind).map_or(0, Vec::len)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Violation::{Disagreeing, Duplicate, Lost, Phantom, Unanswered, Unhealed};
        let [duplicates, lost, disagreeing, phantoms, unhealed, unanswered] =
            [Duplicate, Lost, Disagreeing, Phantom, Unhealed, Unanswered].map(|kind| self.count(kind));
        let Self { sent, acknowledged, faults, keys, stale, not_judged, locked, outdated, .. } = self;
        let ([synchronous, asynchronous], healing_s) = (self.promotions, HEALING_MS / 1000);
        let Losses { lost: lost_there, healed, with_old_id, taken, longest_ms, early_phantoms } = self.losses;
        for (name, recovery) in &self.recoveries {
            let Recovery { faults, longest_ms } = recovery;
            writeln!(f, "{faults:3} x {name}: next acknowledgement within {longest_ms} ms after its end")?;
        }
        write!(
            f,
            "sent {sent}, acknowledged {acknowledged}, faults {faults}, duplicates {duplicates}, lost {lost}, \
             disagreeing {disagreeing}, phantom replays {phantoms}, unanswered after faults ended {unanswered}\n\
             keys judged by porcupine: {keys}; conditional requests: 412 {stale} (of these not judged {not_judged}), \
             409 {locked}\n\
             postgres failovers, synchronous: {synchronous}; acknowledged orders lost {lost}, not found within \
             {healing_s} s after a switchover {outdated}\n\
             postgres failovers, asynchronous: {asynchronous}; acknowledged orders lost {lost_there}, healed by their \
             retries {healed} (with their old id {with_old_id}), key taken by another order {taken}, not healed within \
             {healing_s} s {unhealed}; longest {longest_ms} ms; replays of lost orders in that time {early_phantoms}",
        )
    }
}
