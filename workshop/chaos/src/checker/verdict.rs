//! The checker's findings, and how they are printed.

use std::collections::BTreeMap;
use std::fmt;

use crate::linearizable::Linearizability;

/// How long after a promotion, in milliseconds, an instance may answer from records of the lost orders, and their
/// retries may take to create them again.
pub const HEALING_MS: u64 = 5000;

/// How the system recovered from faults of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The number of faults.
    pub faults: u64,
    /// The longest time from the end of a fault, and of those that overlapped it, to the next acknowledgement.
    pub longest_ms: u64,
}

/// Failovers of Postgres with asynchronous replication, and the orders that they lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// The number of promotions.
    pub promotions: u64,
    /// Orders that were acknowledged and did not survive. One whose acknowledgement was on its way during the promotion
    /// is counted if it is not among the survivors: its client must ask again.
    pub lost: u64,
    /// Those that a retry created again and that were read then.
    pub healed: u64,
    /// Those healed with their old order id.
    pub with_old_id: u64,
    /// Those whose key was taken by another order, which a client sent with the same key after the loss.
    pub taken: u64,
    /// The longest time from a promotion until a lost order was read again.
    pub longest_ms: u64,
    /// Replays of lost orders within [`HEALING_MS`] after the promotion. Later ones are violations.
    pub early_phantoms: u64,
}

/// Refusals of conditional requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// 412
    pub stale: u64,
    /// 412 during a failover that loses orders: the order that has changed the list may be lost as well.
    pub not_judged: u64,
    /// 409
    pub locked: u64,
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
    /// one acknowledgement that is not marked as a replay. What was acknowledged before a failover that lost the order
    /// does not count.
    pub duplicates: u64,
    /// Keys with an acknowledged order that is not in the table, or differs from the table. Orders that a failover with
    /// asynchronous replication lost are [`Losses`] instead.
    pub lost: u64,
    /// Responses that contradict another response, their own request or the table, or that must not occur.
    pub disagreeing: u64,
    /// Acknowledgements of orders that do not exist: requesting the order gave 404.
    pub phantoms: u64,
    /// Orders that a failover has lost and that no retry has created again within [`HEALING_MS`].
    pub unhealed: u64,
    /// Keys without a 201 or 422 to any request sent after all faults ended.
    pub unanswered: u64,
    /// The judgement of a second checker, if no failover may lose orders.
    pub linearizability: Option<Linearizability>,
    /// Failovers with synchronous replication; what they lose is in [`Self::lost`].
    pub lossless_promotions: u64,
    /// Failovers with asynchronous replication.
    pub losses: Losses,
    /// Refusals of conditional requests.
    pub refusals: Refusals,
    /// By kind of fault.
    pub recoveries: BTreeMap<String, Recovery>,
    /// Descriptions of the first violations of each kind.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Whether there is no violation.
    pub fn is_clean(&self) -> bool {
        let explained = self.linearizability.as_ref().is_none_or(|judged| judged.violated.is_empty());
        let violations = [self.duplicates, self.lost, self.disagreeing, self.phantoms, self.unhealed, self.unanswered];
        explained && violations == [0; 6]
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
            "sent {}, acknowledged {}, faults {}, duplicates {}, lost {}, disagreeing {}, phantom replays {}, \
             unanswered after faults ended {}",
            self.sent,
            self.acknowledged,
            self.faults,
            self.duplicates,
            self.lost,
            self.disagreeing,
            self.phantoms,
            self.unanswered
        )?;
        if let Some(Linearizability { keys, violated }) = &self.linearizability {
            let violations = violated.len();
            writeln!(f, "judged by porcupine: {keys} keys, not linearizable {violations} {violated:?}")?;
        }
        let Refusals { stale, not_judged, locked } = self.refusals;
        writeln!(f, "conditional requests: 412 {stale} (of these not judged {not_judged}), 409 {locked}")?;
        writeln!(
            f,
            "postgres failovers, synchronous: {}; acknowledged orders lost {}",
            self.lossless_promotions, self.lost
        )?;
        let Losses { promotions, lost, healed, with_old_id, taken, longest_ms, early_phantoms } = self.losses;
        writeln!(
            f,
            "postgres failovers, asynchronous: {promotions}; acknowledged orders lost {lost}, healed by their retries \
             {healed} (with their old id {with_old_id}), key taken by another order {taken}, not healed within \
             {} s {}; longest {longest_ms} ms; replays of lost orders in that time {early_phantoms}",
            HEALING_MS / 1000,
            self.unhealed
        )?;
        write!(f, "longest time from the end of a fault to the next acknowledgement: {} ms", self.longest_recovery_ms())
    }
}
