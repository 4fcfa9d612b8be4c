//! Shortens a failing schedule as far as possible, so that a person can read it.

use crate::broken::Break;
use crate::coverage::Coverage;
use crate::run::{Driver, Enabled, Failure, Step, run};
use crate::scenario::Scenario;

/// Takes the given steps and skips those that are not enabled. After them, the run continues without faults.
struct StepsDriver<'s> {
    steps: std::slice::Iter<'s, Step>,
}

impl Driver for StepsDriver<'_> {
    fn next(&mut self, enabled: &[Enabled]) -> Option<Step> {
        for step in self.steps.by_ref() {
            let Some(found) = enabled.iter().find(|e| e.actor == step.actor) else {
                continue;
            };
            let placed = step.fault.filter(|fault| found.allows(*fault));
            if found.blocked && placed.is_none() {
                continue;
            }
            return Some(Step { actor: step.actor, fault: placed });
        }
        None
    }
}

fn replay(mistake: Option<Break>, scenario: &Scenario, steps: &[Step], traced: bool) -> Option<Box<Failure>> {
    let mut driver = StepsDriver { steps: steps.iter() };
    run(mistake, scenario, &mut driver, &mut Coverage::default(), traced).err()
}

/// Removes retries, steps and faults one at a time while the run still fails. The result has a trace.
pub fn minimise(mistake: Option<Break>, scenario: &Scenario, failure: Box<Failure>) -> (Scenario, Box<Failure>) {
    let mut scenario = scenario.clone();
    let mut best = failure;
    loop {
        let before = (best.steps.len(), faults(&best.steps), scenario.retries);
        if scenario.retries > 0 {
            let fewer = Scenario { retries: scenario.retries - 1, ..scenario.clone() };
            if let Some(found) = replay(mistake, &fewer, &best.steps, false) {
                (scenario, best) = (fewer, found);
            }
        }
        let mut index = best.steps.len();
        while index > 0 {
            index -= 1;
            let mut shorter = best.steps.clone();
            shorter.remove(index);
            let mut milder = best.steps.clone();
            if let Some(step) = milder.get_mut(index) {
                step.fault = None;
            }
            let found = replay(mistake, &scenario, &shorter, false)
                .filter(|found| found.steps.len() < best.steps.len())
                .or_else(|| {
                    replay(mistake, &scenario, &milder, false)
                        .filter(|found| faults(&found.steps) < faults(&best.steps))
                });
            if let Some(found) = found {
                best = found;
                index = index.min(best.steps.len());
            }
        }
        if before == (best.steps.len(), faults(&best.steps), scenario.retries) {
            break;
        }
    }
    let traced = replay(mistake, &scenario, &best.steps, true);
    (scenario, traced.unwrap_or(best))
}

fn faults(steps: &[Step]) -> usize {
    steps.iter().filter(|step| step.fault.is_some()).count()
}
