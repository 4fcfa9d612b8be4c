//! Judges responses when it is certain which orders have survived: at a promotion, and at the end of the history.

use super::key::{Key, Kind, Response, Unhealed};
use super::{Checker, Row};
use crate::history::Condition;
use crate::order::Order;

/// A period with an end that is known: the promotion, or the end of the history.
#[derive(Clone, Copy)]
pub enum End {
    /// The promotion of a standby.
    Promotion {
        /// Since when commits may be missing; `None` if none may.
        losing_since_ms: Option<u64>,
        /// When it served.
        t_ms: u64,
    },
    /// The end of the history.
    History,
}

impl End {
    fn loses(self) -> bool {
        self.losing_since_ms().is_some()
    }

    fn losing_since_ms(self) -> Option<u64> {
        match self {
            Self::Promotion { losing_since_ms, .. } => losing_since_ms,
            Self::History => None,
        }
    }
}

impl Checker {
    /// Judges all responses since the last promotion.
    pub(super) fn judge_all(&mut self, end: End) {
        let mut keys: Vec<_> = self.keys.keys().cloned().collect();
        // For the same examples in each check.
        keys.sort();
        for key in &keys {
            for response in std::mem::take(&mut self.key(key).unjudged) {
                self.judge(key, response, end);
            }
            if end.loses() {
                self.forget_if_lost(key);
            }
        }
    }

    /// Begins anew with a key without an order: what was acknowledged about the lost one says nothing about the next.
    fn forget_if_lost(&mut self, key: &str) {
        if self.survived(key) {
            return;
        }
        let known = self.key(key);
        *known = Key {
            rows: std::mem::take(&mut known.rows),
            first_sent_ms: known.first_sent_ms,
            lost_acknowledged_as_new: known.acknowledged_as_new,
            ids_differ: known.ids_differ,
            lost: known.lost,
            unhealed: known.unhealed.take(),
            answered_after_faults: known.answered_after_faults,
            ..Key::default()
        };
    }

    /// Whether the key has an order that was stored at the last promotion.
    pub(super) fn survived(&self, key: &str) -> bool {
        let Some(known) = self.keys.get(key) else {
            return false;
        };
        let acknowledged = known.acknowledged.iter().map(|(_, id)| id);
        let stored = known.rows.iter().map(|row| &row.order_id);
        stored.chain(acknowledged).any(|id| self.survivors.contains(id))
    }

    fn judge(&mut self, key: &str, response: Response, end: End) {
        let Response { request, kind } = response;
        match kind {
            Kind::Acknowledged { row, replayed, condition } => match end {
                End::Promotion { t_ms, .. } if self.is_lost(&row.order_id, end) => {
                    let era = self.promotions.len();
                    self.loses(key, &row.order_id, t_ms, era);
                }
                _ => self.judge_acknowledged(request, key, &row, replayed, condition),
            },
            Kind::Refused { sent, order_id, body } => {
                // The order that it was rejected for may be lost, and another one created since.
                if !order_id.as_ref().is_some_and(|id| self.is_lost(id, end)) {
                    self.judge_refused(request, key, &sent, order_id.as_ref(), &body);
                }
            }
            Kind::Stale { condition, customer, t_ms } => {
                let since = end.losing_since_ms();
                // The tag may be of an order that an earlier failover has lost, or the order that has changed the list
                // may be lost in this one.
                if condition.read_ms < self.served_since_loss_ms || since.is_some_and(|since| since <= t_ms) {
                    self.verdict.refusals.not_judged += 1;
                } else if !self.may_be_stale(key, &condition, &customer, t_ms) {
                    let why = format!("412, although the list was in state {}", condition.tag);
                    self.disagrees(request, key, &why);
                }
            }
        }
    }

    /// Whether the promotion has lost the order.
    fn is_lost(&self, order_id: &str, end: End) -> bool {
        end.loses() && !self.survivors.contains(order_id)
    }

    /// Notes a lost order, whose retry must create it again.
    pub(super) fn loses(&mut self, key: &str, order_id: &str, since_ms: u64, era: usize) {
        if self.key(key).unhealed.is_none() {
            self.verdict.losses.lost += 1;
        }
        self.key(key).unhealed = Some(Unhealed { order_id: order_id.to_owned(), since_ms, era });
    }

    fn judge_acknowledged(&mut self, request: u64, key: &str, row: &Row, replayed: bool, condition: Option<Condition>) {
        let known = self.key(key);
        let stored = known.rows.iter().find(|stored| {
            let based_on = row.based_on.clone();
            Row { based_on, ..(*stored).clone() } == *row
        });
        let is_lost = stored.is_none();
        // Only the statement that inserts reports a new order, and that statement compares the ETag.
        let tag = condition.map(|condition| condition.tag);
        let has_other_etag = !replayed && stored.is_some_and(|stored| stored.based_on != tag);
        let newly_lost = is_lost && !known.lost;
        known.lost |= is_lost;
        if has_other_etag {
            self.disagrees(request, key, "created with another ETag than the request contained");
        }
        if newly_lost {
            self.example("lost", &format!("request {request} of key {key}: the order is not in the table: {row:?}"));
        }
    }

    fn judge_refused(&mut self, request: u64, key: &str, sent: &Order, order_id: Option<&String>, body: &str) {
        let rows = &self.key(key).rows;
        if rows.iter().any(|row| row.order == *sent) {
            self.disagrees(request, key, "refused, although the request contained the stored order");
        } else if !rows.iter().any(|row| Some(&row.order_id) == order_id) {
            let why = format!("refused for an order that is not stored: {body}");
            self.disagrees(request, key, &why);
        }
    }

    /// Whether the list can have left the state of a tag when the 412 was received. Its client has read the tag before,
    /// so it *was* the state; an order of another key must have changed it. That is either
    /// - the order that is based on this very state (there is at most one), if it was requested before the 412; or
    /// - an order without `If-Match`, if it was requested before the 412 and was not acknowledged before the tag was
    ///   read: an order that was is part of the state.
    ///
    /// Not checked: whether such an order was committed before the 412 and not only requested.
    fn may_be_stale(&self, key: &str, condition: &Condition, customer: &str, t_ms: u64) -> bool {
        self.customers.get(customer).into_iter().flatten().any(|other| {
            let Some(known) = self.keys.get(other).filter(|_| other != key) else {
                return false;
            };
            let requested = known.first_sent_ms.is_some_and(|sent| sent <= t_ms);
            requested
                && known.rows.iter().any(|row| match &row.based_on {
                    Some(tag) => *tag == condition.tag,
                    None => known.first_acknowledged_ms.is_none_or(|acknowledged| condition.read_ms <= acknowledged),
                })
        })
    }
}
