//! What the checker knows about one key.

use super::Row;
use crate::history::Condition;
use crate::order::Order;

/// The state of one key. What depends on whether an order survives a failover is judged at the next promotion, or at
/// the end of the history.
#[derive(Default)]
pub struct Key {
    /// Its rows in the final table.
    pub rows: Vec<Row>,
    /// When its first request was sent.
    pub first_sent_ms: Option<u64>,
    /// When its order was first acknowledged; forgotten when the order is lost, as is what follows.
    pub first_acknowledged_ms: Option<u64>,
    /// The body of the first acknowledgement, and its order id.
    pub acknowledged: Option<(String, String)>,
    /// Whether another order id was acknowledged.
    pub ids_differ: bool,
    /// Acknowledgements that are not marked as replays.
    pub acknowledged_as_new: u64,
    /// The same of the order that was lost last.
    pub lost_acknowledged_as_new: u64,
    /// Whether it lacks an acknowledged order for which no failover is an excuse.
    pub lost: bool,
    /// The order that a failover has lost and no retry has created again so far.
    pub unhealed: Option<Unhealed>,
    /// Whether a request that was sent after all faults ended was answered.
    pub answered_after_faults: bool,
    /// Responses that are not judged yet.
    pub unjudged: Vec<Response>,
}

/// An acknowledged order that a failover has lost.
pub struct Unhealed {
    /// Its old id.
    pub order_id: String,
    /// Since when its client can know: from the promotion, or from an acknowledgement that was on its way during it.
    pub since_ms: u64,
    /// The number of promotions up to the one that lost it.
    pub era: usize,
}

/// A response that is judged later.
pub struct Response {
    /// The number of the HTTP request.
    pub request: u64,
    /// Its status and what belongs to it.
    pub kind: Kind,
}

/// The kinds of responses that are judged later.
pub enum Kind {
    /// 201
    Acknowledged {
        /// What it acknowledges; without `based_on`.
        row: Row,
        /// Whether it is marked as a replay.
        replayed: bool,
        /// `If-Match` of the request.
        condition: Option<Condition>,
    },
    /// 422
    Refused {
        /// The order in the request.
        sent: Order,
        /// The id of the stored order that it names.
        order_id: Option<String>,
        /// Its body.
        body: String,
    },
    /// 412
    Stale {
        /// `If-Match` of the request.
        condition: Condition,
        /// The customer.
        customer: String,
        /// When it was received.
        t_ms: u64,
    },
}
