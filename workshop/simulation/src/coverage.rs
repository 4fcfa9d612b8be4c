//! How often each fault was placed at each call, and the events that followed.

use std::collections::BTreeMap;
use std::fmt;

use crate::fault::{Fault, Point};
use crate::texts::texts;

texts! {
    /// An event that follows from faults. Its count shows that the runs reach it.
    Event {
        Lost = "acknowledged resources lost by a failover",
        CreatedAgain = "... created again by a retry",
        LostMeanwhile = "... lost before the answer",
        ReplayedWhileTrusted = "... replayed within 3 s of the failover",
        ReplayedInOutage = "... replayed in an outage",
        Waited = "statements that waited for another's commit",
        NotSent = "statements not sent: the time was over",
        TooLate = "answers after the request's time",
        LandedLate = "insertions after the request had given up",
        RefusedButLanded = "refusals (412) beside an earlier attempt",
        Resent = "commands sent again over a new connection",
        Repeated = "statements repeated",
        BreakerOpen = "requests that found the breaker open",
        ConnectionKept = "batches over a connection that was kept",
        ConnectionDead = "... that Postgres had closed",
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
        let of_fault = |fault: &'static Fault| Point::ALL.iter().map(move |point| (*fault, *point));
        let cells = Fault::ALL.iter().flat_map(of_fault);
        let cells = cells.filter(|(fault, point)| fault.applies_at(*point));
        cells.filter(|cell| !self.placed.contains_key(cell)).collect()
    }

    /// Events that never came.
    pub fn missed(&self) -> Vec<Event> {
        let events = Event::ALL.iter().copied();
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
        for fault in Fault::ALL.iter().copied() {
            write!(f, "{fault:<32}")?;
            for point in Point::ALL.iter().copied() {
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
            let count = self.events.get(event).copied().unwrap_or(0);
            writeln!(f, "{event:<46}{count:>14}")?;
        }
        Ok(())
    }
}
