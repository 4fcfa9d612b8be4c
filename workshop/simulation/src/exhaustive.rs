//! Runs all schedules of a scenario within a bound on faults and preemptions, one after the other.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::broken::Break;
use crate::coverage::Coverage;
use crate::fault::Fault;
use crate::run::{Actor, Driver, Enabled, Failure, Step, run};
use crate::scenario::Scenario;

/// Which schedules are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Faults in one run, at most.
    pub faults: u32,
    /// Which faults.
    pub kinds: &'static [Fault],
    /// Preemptions in one run, at most: another request takes a step although the last one could continue. `None`: any
    /// number.
    pub preemptions: Option<u32>,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (faults, kinds) = (self.faults, self.kinds.len());
        write!(f, "{faults} faults of {kinds} kinds and ")?;
        match self.preemptions {
            Some(preemptions) => write!(f, "{preemptions} preemptions"),
            None => f.write_str("any number of preemptions"),
        }
    }
}

/// The path to one leaf of the tree of schedules: each choice, and the number of its options.
#[derive(Default)]
struct Path {
    choices: Vec<(usize, usize)>,
    position: usize,
}

impl Path {
    fn choose(&mut self, count: usize) -> usize {
        if self.position == self.choices.len() {
            self.choices.push((0, count));
        }
        let chosen = self.choices.get(self.position).map_or(0, |c| c.0);
        self.position += 1;
        chosen
    }

    /// Goes on to the next leaf; `false` after the last one.
    fn advance(&mut self) -> bool {
        self.position = 0;
        while let Some((chosen, count)) = self.choices.pop() {
            if chosen + 1 < count {
                self.choices.push((chosen + 1, count));
                return true;
            }
        }
        false
    }
}

struct PathDriver<'p> {
    path: &'p mut Path,
    faults: u32,
    kinds: &'static [Fault],
    preemptions: Option<u32>,
    last: Option<Actor>,
    /// For each client, an earlier one that is equal to it until one of the two takes a step.
    twins: &'p [Option<usize>],
    /// The clients that have taken a step.
    moved: Vec<usize>,
}

/// For each client of a scenario the one before it with the same request, if their instances are alike as well.
fn twins(scenario: &Scenario) -> Vec<Option<usize>> {
    let requests = &scenario.requests;
    let alike = scenario.in_turn == 0 && (scenario.instances == 1 || scenario.instances >= requests.len());
    let twin = |(client, request)| {
        let mut before = requests.iter().take(client);
        before.rposition(|other| other == request).filter(|_| alike)
    };
    requests.iter().enumerate().map(twin).collect()
}

impl PathDriver<'_> {
    fn faults_at(&self, enabled: &Enabled) -> impl Iterator<Item = Fault> + use<> {
        let enabled = *enabled;
        let kinds = self.kinds.iter().copied();
        kinds.filter(move |fault| enabled.allows(*fault))
    }

    /// Whether a schedule in which the client's twin takes the first step is this one with the two exchanged.
    fn is_mirrored(&self, actor: Actor, enabled: &[Enabled]) -> bool {
        let Actor::Client(client) = actor else {
            return false;
        };
        let twin = self.twins.get(client).copied().flatten();
        let can_step = |twin| enabled.iter().any(|e| e.actor == Actor::Client(twin));
        twin.is_some_and(|twin| !self.moved.contains(&twin) && can_step(twin))
    }
}

impl Driver for PathDriver<'_> {
    fn next(&mut self, enabled: &[Enabled]) -> Option<Step> {
        // A request that waits for another does not continue.
        let goes_on = |e: &Enabled| Some(e.actor) == self.last && !e.waits();
        let going_on = enabled.iter().find(|e| goes_on(e));
        let may_preempt = self.preemptions != Some(0);
        let options: Vec<&Enabled> = going_on
            .into_iter()
            .chain(enabled.iter().filter(|e| {
                let is_delayed = matches!(e.actor, Actor::Delayed(_));
                let can_step = !e.blocked || self.faults > 0 && self.faults_at(e).next().is_some();
                !goes_on(e)
                    && can_step
                    && !self.is_mirrored(e.actor, enabled)
                    && (is_delayed || going_on.is_none() || may_preempt)
            }))
            .collect();
        let chosen = *options.get(self.path.choose(options.len()))?;
        if let (Some(_), Actor::Client(_)) = (going_on, chosen.actor)
            && Some(chosen.actor) != self.last
        {
            self.preemptions = self.preemptions.map(|left| left.saturating_sub(1));
        }
        if let Actor::Client(client) = chosen.actor {
            self.last = Some(chosen.actor);
            self.moved.push(client);
        }
        let faults: Vec<Fault> = match self.faults {
            0 => Vec::new(),
            _ => self.faults_at(chosen).collect(),
        };
        // A blocked request can do nothing else.
        let others = usize::from(!chosen.blocked);
        let fault = match self.path.choose(faults.len() + others) {
            n if n < others => None,
            n => faults.get(n - others).copied(),
        };
        self.faults -= u32::from(fault.is_some());
        Some(Step { actor: chosen.actor, fault })
    }
}

/// Runs all schedules, or as many as it can until `stop` is set. Of schedules that differ only in which of two equal
/// clients is which, one is run.
///
/// # Errors
/// The first failure.
pub fn exhaust(
    mistake: Option<Break>,
    scenario: &Scenario,
    bound: Bound,
    coverage: &mut Coverage,
    stop: &AtomicBool,
) -> Result<(), Box<Failure>> {
    let mut path = Path::default();
    let twins = twins(scenario);
    while !stop.load(Ordering::Relaxed) {
        let mut driver = PathDriver {
            path: &mut path,
            faults: bound.faults,
            kinds: bound.kinds,
            preemptions: bound.preemptions,
            last: None,
            twins: &twins,
            moved: Vec::new(),
        };
        run(mistake, scenario, &mut driver, coverage, false)?;
        if !path.advance() {
            break;
        }
    }
    Ok(())
}
