//! What must hold after every step.

use std::collections::BTreeMap;
use std::fmt;

use orders::customer::Customer;
use orders::http::{Problem, Response};
use orders::idempotency::{Progress, Record, Slot};
use orders::order::{Draft, representation};
use orders::ports::StoredOrder;
use orders::reading::ListState;

use crate::scenario::{Condition, Outcome, Wish};
use crate::world::{Row, World};

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A key has more than one order.
    TwoOrders(Slot),
    /// A row changed.
    RowChanged(Slot),
    /// An order was acknowledged that is not stored, or not so.
    NotAsAcknowledged(Slot),
    /// Two acknowledgements of one key differ.
    Disagreement(Slot),
    /// A request was refused although the stored order does not differ, or not as it was told.
    WronglyRefused(Slot),
    /// More than one request was told that it created the order.
    CreatedTwice(Slot),
    /// Two orders were created on one state of the list.
    TwoFollow(Slot),
    /// A request was refused for a state that the list is in.
    WronglyStale(Slot),
    /// Redis holds a finished record of an order that does not exist.
    FalseRecord(Slot),
    /// A call has taken a finished record back.
    Unfinished(Slot),
    /// With all faults over, a retry did not succeed at once.
    Stuck(Wish),
    /// An answer that this API does not give.
    UnexpectedAnswer(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, slot) = match self {
            Self::TwoOrders(slot) => ("a key has more than one order", slot),
            Self::RowChanged(slot) => ("a stored order changed", slot),
            Self::NotAsAcknowledged(slot) => {
                ("an acknowledged order is not stored as acknowledged", slot)
            }
            Self::Disagreement(slot) => ("acknowledgements of one key differ", slot),
            Self::WronglyRefused(slot) => {
                ("refused, though the stored order does not differ", slot)
            }
            Self::CreatedTwice(slot) => ("two requests were told that they created it", slot),
            Self::TwoFollow(slot) => ("two orders were created on one state of a list", slot),
            Self::WronglyStale(slot) => ("refused, though the list has not moved on", slot),
            Self::FalseRecord(slot) => ("Redis calls an order finished that is not stored", slot),
            Self::Unfinished(slot) => ("a call took a finished record back", slot),
            Self::Stuck(wish) => return write!(f, "no success at once after all faults: {wish:?}"),
            Self::UnexpectedAnswer(answer) => return write!(f, "unexpected answer: {answer}"),
        };
        write!(
            f,
            "{what}: {} of {}",
            slot.key.as_str(),
            slot.customer.as_str()
        )
    }
}

/// What was seen of a run so far.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    acknowledged: BTreeMap<Slot, String>,
    created: BTreeMap<Slot, u32>,
    /// States that an order was said to be created on.
    followed: Vec<(Customer, ListState)>,
    rows_seen: Vec<(Slot, StoredOrder)>,
    drafts: BTreeMap<u8, Draft>,
}

impl Checker {
    /// Judges the stores.
    pub fn world(&mut self, world: &World) -> Result<(), Violation> {
        if let Some(slot) = &world.unfinished {
            return Err(Violation::Unfinished(slot.clone()));
        }
        let rows = world.rows();
        for (index, row) in rows.iter().enumerate() {
            match self.rows_seen.get(index) {
                Some((slot, order)) if *slot == row.slot && *order == row.order => continue,
                Some((slot, _)) => return Err(Violation::RowChanged(slot.clone())),
                None => {}
            }
            if self.rows_seen.iter().any(|(slot, _)| *slot == row.slot) {
                return Err(Violation::TwoOrders(row.slot.clone()));
            }
            let mut before = rows.iter().take(index);
            let is_second = |other: &Row| {
                other.slot.customer == row.slot.customer && other.follows == row.follows
            };
            if row.follows.is_some() && before.any(is_second) {
                return Err(Violation::TwoFollow(row.slot.clone()));
            }
            self.rows_seen.push((row.slot.clone(), row.order.clone()));
        }
        if let Some((slot, _)) = self.rows_seen.get(rows.len()) {
            return Err(Violation::RowChanged(slot.clone()));
        }
        for (slot, bytes) in world.records() {
            let Some(record) = Record::decode(bytes) else {
                continue;
            };
            let stored = world.order_of(slot);
            let is_true = stored.is_some_and(|order| {
                order.order_id == record.order_id && order.fingerprint == record.fingerprint
            });
            if record.progress == Progress::Finished && !is_true {
                return Err(Violation::FalseRecord(slot.clone()));
            }
        }
        Ok(())
    }

    /// Judges an answer. `Ok(true)`: it settled the matter for the client.
    pub fn answer(
        &mut self,
        wish: &Wish,
        known: &ListState,
        outcome: &Outcome,
        world: &World,
    ) -> Result<bool, Violation> {
        let slot = wish.slot();
        match outcome {
            Ok(response) if response.status == 201 => {
                let slot = match wish.condition {
                    Condition::Keyless => slot_of(&response.body, world).unwrap_or(slot),
                    _ => slot,
                };
                self.acknowledgement(wish, known, slot, response, world)?;
                Ok(true)
            }
            Err(Problem::PreconditionFailed { current }) if wish.condition != Condition::None => {
                let now = world.list_state(&slot.customer);
                if current == known || now == *known {
                    return Err(Violation::WronglyStale(slot));
                }
                Ok(true)
            }
            Err(Problem::CollectionLocked { .. }) if wish.condition != Condition::None => Ok(false),
            Err(Problem::OrdersUnavailable) if wish.condition == Condition::Keyless => Ok(false),
            Err(Problem::KeyReused { order_id, differs }) => {
                let asked = self.draft(wish);
                let told = world.order_of(&slot).is_some_and(|stored| {
                    let really = stored.draft.differences(asked);
                    stored.order_id == *order_id && !really.is_empty() && really == *differs
                });
                if told {
                    Ok(true)
                } else {
                    Err(Violation::WronglyRefused(slot))
                }
            }
            Err(Problem::CreationUndecided) => Ok(false),
            other => Err(Violation::UnexpectedAnswer(format!("{other:?}"))),
        }
    }

    /// Judges a 201 for a slot.
    fn acknowledgement(
        &mut self,
        wish: &Wish,
        known: &ListState,
        slot: Slot,
        response: &Response,
        world: &World,
    ) -> Result<(), Violation> {
        let acknowledged = self.acknowledged.entry(slot.clone());
        if *acknowledged.or_insert_with(|| response.body.clone()) != response.body {
            return Err(Violation::Disagreement(slot));
        }
        // Stored as acknowledged, and what was asked for. It stays so: rows are seen not to change.
        let asked = self.draft(wish);
        let stored = world.order_of(&slot).is_some_and(|order| {
            order.draft == *asked && representation(&order.order_id, &order.draft) == response.body
        });
        if !stored {
            return Err(Violation::NotAsAcknowledged(slot));
        }
        let replayed = ("idempotent-replayed", "true".to_owned());
        if response.headers.contains(&replayed) {
            return Ok(());
        }
        let created = self.created.entry(slot.clone()).or_default();
        *created += 1;
        if *created > 1 {
            return Err(Violation::CreatedTwice(slot));
        }
        if wish.condition != Condition::None {
            let followed = (slot.customer.clone(), *known);
            if self.followed.contains(&followed) {
                return Err(Violation::TwoFollow(slot));
            }
            self.followed.push(followed);
        }
        Ok(())
    }

    /// The order that a wish asks for.
    fn draft(&mut self, wish: &Wish) -> &Draft {
        self.drafts.entry(wish.order).or_insert_with(|| {
            #[allow(clippy::expect_used, reason = "wishes are valid orders")]
            orders::json::parse(wish.body().as_bytes())
                .ok()
                .and_then(|json| Draft::from_json(&json).ok())
                .expect("a valid order")
        })
    }
}

/// The slot that the order of an answer has in the stores.
fn slot_of(body: &str, world: &World) -> Option<Slot> {
    let is_it = |row: &&Row| representation(&row.order.order_id, &row.order.draft) == body;
    Some(world.rows().iter().find(is_it)?.slot.clone())
}
