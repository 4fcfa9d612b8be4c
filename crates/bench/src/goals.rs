//! What the project set out to reach, and whether it did.

use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::contestants::{CREATE, FLOOR, NAIVE_CREATE, NATIVE_CREATE, REPLAY};
use crate::guest::GuestShare;
use crate::report::find;
use crate::rounds::Measurement;
use crate::stage::Stage;
use crate::statistics::median_ratio;
use crate::{GOAL_CONNECTIONS, Options, crowd, large, sizes};

/// A goal, and what was measured for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Goal {
    /// What it is about.
    pub name: String,
    /// What it must be.
    pub bound: Bound,
    /// The unit of both.
    pub unit: String,
    /// What was measured; nothing if this run left it out.
    pub measured: Option<f64>,
}

/// What a figure must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Bound {
    /// That or more.
    AtLeast(f64),
    /// That or less.
    AtMost(f64),
}

impl Goal {
    /// A goal with its figure.
    pub fn new(name: &str, bound: Bound, unit: &str, measured: Option<f64>) -> Self {
        Self {
            name: name.to_owned(),
            bound,
            unit: unit.to_owned(),
            measured,
        }
    }

    /// Whether it is reached, if that is known.
    pub fn is_reached(&self) -> Option<bool> {
        self.measured.map(|measured| match self.bound {
            Bound::AtLeast(bound) => measured >= bound,
            Bound::AtMost(bound) => measured <= bound,
        })
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, bound) = match self.bound {
            Bound::AtLeast(bound) => (">=", bound),
            Bound::AtMost(bound) => ("<=", bound),
        };
        let digits = if bound.fract() == 0.0 { 0 } else { 2 };
        let bound = format!("{sign} {bound}{}", self.unit);
        let measured = match self.measured {
            // A small figure under a round bound still has something to say.
            Some(measured) if measured.abs() < 10.0 && measured.fract() != 0.0 => {
                format!("{measured:.2}{}", self.unit)
            }
            Some(measured) => format!("{measured:.digits$}{}", self.unit),
            None => "left out".to_owned(),
        };
        let reached = match self.is_reached() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        write!(f, "{:<66} {bound:>10} {measured:>12}  {reached}", self.name)
    }
}

/// Measures what the rounds have not, and holds everything against its goal.
pub async fn measure(
    options: &Options,
    stage: &Stage,
    rounds: &[Measurement],
    guests: &[GuestShare],
) -> Result<Vec<Goal>> {
    let mut goals = compared(rounds);
    let guest = guests.iter().find(|guest| guest.row.name == CREATE);
    goals.push(Goal::new(
        "the guest's share of its host's processor time on create",
        Bound::AtMost(10.0),
        " %",
        guest.map(|guest| guest.share * 100.0),
    ));
    goals.push(crowd::goal(options, stage).await?);
    goals.push(large::goal(options, stage).await?);
    goals.extend(sizes::goals(options, stage).await?);
    Ok(goals)
}

/// Those that compare two rows.
fn compared(rounds: &[Measurement]) -> Vec<Goal> {
    let host = rounds.iter().find_map(|m| m.host.clone());
    let get = |name, host: &Option<String>, connections| find(rounds, name, host, connections);
    let rates = |ours, theirs, theirs_on: &Option<String>| {
        let ours = get(ours, &host, GOAL_CONNECTIONS)?.rates();
        median_ratio(&ours, &get(theirs, theirs_on, GOAL_CONNECTIONS)?.rates())
    };
    let alone = || {
        let ours = get(CREATE, &host, 1)?.p50s();
        median_ratio(&ours, &get(NATIVE_CREATE, &None, 1)?.p50s())
    };
    vec![
        Goal::new(
            "create, 64 clients, against naive on the same host",
            Bound::AtLeast(2.5),
            "x",
            rates(CREATE, NAIVE_CREATE, &host),
        ),
        Goal::new(
            "create, 64 clients, against native",
            Bound::AtLeast(0.8),
            "x",
            rates(CREATE, NATIVE_CREATE, &None),
        ),
        Goal::new(
            "replay, 64 clients, against the host's floor",
            Bound::AtLeast(0.7),
            "x",
            rates(REPLAY, FLOOR, &host),
        ),
        Goal::new(
            "create p50, 1 client, against native",
            Bound::AtMost(1.5),
            "x",
            alone(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive_and_what_was_left_out_is_neither() {
        let reached = |bound, measured| Goal::new("", bound, "", measured).is_reached();
        assert_eq!(reached(Bound::AtLeast(2.5), Some(2.5)), Some(true));
        assert_eq!(reached(Bound::AtLeast(2.5), Some(2.4)), Some(false));
        assert_eq!(reached(Bound::AtMost(1.5), Some(1.5)), Some(true));
        assert_eq!(reached(Bound::AtMost(1.5), Some(1.6)), Some(false));
        assert_eq!(reached(Bound::AtMost(1.5), None), None);
    }
}
