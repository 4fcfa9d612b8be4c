//! How often each fault was placed at each call, and the events that followed.

use std::collections::BTreeMap;
use std::fmt;

use crate::fault::{Fault, Point};

/// An event that follows from faults. Its count shows that the runs reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A failover has lost a resource that was acknowledged.
    Lost,
    /// A retry has created such a resource again.
    CreatedAgain,
    /// A request was acknowledged whose resource was lost while it ran.
    LostMeanwhile,
    /// A lost resource was replayed within the time for which instances believe what they have heard.
    ReplayedWhileTrusted,
    /// A lost resource was replayed while Postgres did not answer.
    ReplayedInOutage,
    /// A statement had to wait for another one's commit.
    Waited,
    /// Nothing was sent, because the request's time for the store was over.
    NotSent,
    /// An answer came after the request's time.
    TooLate,
    /// A statement inserted a resource after its request had given up or died.
    LandedLate,
    /// A request was rejected because of the list, and an earlier attempt of it inserted the resource meanwhile.
    RefusedButLanded,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Lost,
        Self::CreatedAgain,
        Self::LostMeanwhile,
        Self::ReplayedWhileTrusted,
        Self::ReplayedInOutage,
        Self::Waited,
        Self::NotSent,
        Self::TooLate,
        Self::LandedLate,
        Self::RefusedButLanded,
    ];
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Lost => "acknowledged resources lost by a failover",
            Self::CreatedAgain => "... created again by a retry",
            Self::LostMeanwhile => "... lost before the answer",
            Self::ReplayedWhileTrusted => "... replayed within 3 s of the failover",
            Self::ReplayedInOutage => "... replayed in an outage",
            Self::Waited => "statements that waited for another's commit",
            Self::NotSent => "calls not sent: the request's time was over",
            Self::TooLate => "answers after the request's time",
            Self::LandedLate => "insertions after the request had given up",
            Self::RefusedButLanded => "refusals (412) beside an earlier attempt",
        })
    }
}

/// Counts of runs, steps and faults.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// Runs.
    pub schedules: u64,
    /// Steps in them.
    pub steps: u64,
    placed: BTreeMap<(Fault, Point), u64>,
    events: BTreeMap<Event, u64>,
}

impl Coverage {
    /// Counts a fault.
    pub fn place(&mut self, fault: Fault, point: Point) {
        *self.placed.entry((fault, point)).or_default() += 1;
    }

    /// Counts an event.
    pub fn see(&mut self, event: Event) {
        *self.events.entry(event).or_default() += 1;
    }

    /// Faults in all.
    pub fn faults(&self) -> u64 {
        self.placed.values().sum()
    }

    /// Adds the counts of another coverage.
    pub fn add(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.steps += other.steps;
        for (cell, count) in &other.placed {
            *self.placed.entry(*cell).or_default() += count;
        }
        for (event, count) in &other.events {
            *self.events.entry(*event).or_default() += count;
        }
    }

    /// Pairs of a fault and a call that were never combined, although the fault applies at the call.
    pub fn gaps(&self) -> Vec<(Fault, Point)> {
        let cells = Fault::ALL
            .into_iter()
            .flat_map(|fault| Point::ALL.map(|point| (fault, point)));
        cells
            .filter(|(fault, point)| fault.applies_at(*point))
            .filter(|cell| !self.placed.contains_key(cell))
            .collect()
    }

    /// Events that never came.
    pub fn missed(&self) -> Vec<Event> {
        let events = Event::ALL.into_iter();
        events.filter(|event| !self.events.contains_key(event)).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<32}", "faults placed")?;
        for point in Point::ALL {
            write!(f, "{:>14}", format!("{point:?}"))?;
        }
        writeln!(f)?;
        for fault in Fault::ALL {
            write!(f, "{fault:<32}")?;
            for point in Point::ALL {
                let count = self.placed.get(&(fault, point)).copied().unwrap_or(0);
                if fault.applies_at(point) {
                    write!(f, "{count:>14}")?;
                } else {
                    write!(f, "{:>14}", "n/a")?;
                }
            }
            writeln!(f)?;
        }
        for event in Event::ALL {
            let count = self.events.get(&event).copied().unwrap_or(0);
            writeln!(f, "{event:<46}{count:>14}")?;
        }
        Ok(())
    }
}
