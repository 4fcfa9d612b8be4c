//! How often each fault was placed at each call.

use std::collections::BTreeMap;
use std::fmt;

use crate::fault::{Fault, Point};

/// Counts of runs, steps and faults.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// Runs.
    pub schedules: u64,
    /// Steps in them.
    pub steps: u64,
    placed: BTreeMap<(Fault, Point), u64>,
}

impl Coverage {
    /// Counts a fault.
    pub fn place(&mut self, fault: Fault, point: Point) {
        *self.placed.entry((fault, point)).or_default() += 1;
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
        Ok(())
    }
}
