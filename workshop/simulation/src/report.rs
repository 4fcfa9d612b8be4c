//! The whole simulation, as `cargo xtask simulate` runs it: all schedules within the bounds, then seeds until the
//! deadline.

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use exactly_once::create::ReplayPolicy;

use crate::broken::Break;
use crate::client_request::{
    ANY, CONDITIONAL, CONDITIONAL_REFUND, ClientRequest, KEYLESS, MISSING, OTHER_ANY, OTHER_CONDITIONAL,
    OTHER_CONDITIONAL_ORDER, OTHER_CUSTOMER, OTHER_KEY, OTHER_ORDER, REFUND, SAME, THIRD_KEY,
};
use crate::coverage::Coverage;
use crate::exhaustive::{Bound, exhaust};
use crate::fault::Fault;
use crate::minimise::minimise;
use crate::random::{run_seed, scenario};
use crate::run::Failure;
use crate::scenario::{DEFAULT, KEY_REPLAYS, STRICT, Scenario};

/// Two requests, before anything else: most mistakes show within this small bound.
pub const FIRST: Bound = Bound { faults: 1, kinds: Fault::ALL, preemptions: Some(1) };
/// Two requests: every interleaving, with at most two faults.
pub const TWO: Bound = Bound { faults: 2, kinds: &Fault::WITHOUT_LOSS, preemptions: None };
/// Three requests: at most one preemption and two faults.
pub const THREE: Bound = Bound { faults: 2, kinds: &Fault::WITHOUT_LOSS, preemptions: Some(1) };
/// Three requests: at most three preemptions and one fault.
pub const THREE_INTERLEAVED: Bound = Bound { faults: 1, kinds: &Fault::WITHOUT_LOSS, preemptions: Some(3) };
/// Two conditional requests, which take more calls: every interleaving, with at most one fault.
pub const CONDITIONAL_INTERLEAVED: Bound = Bound { faults: 1, kinds: Fault::ALL, preemptions: None };
/// Two requests and failovers: at most one preemption and two faults.
pub const FAILOVERS: Bound = Bound { faults: 2, kinds: &Fault::WITH_LOSS, preemptions: Some(1) };
/// Three conditional requests whose statements wait for one another: at most two preemptions and two faults.
pub const WAITS: Bound = Bound { faults: 2, kinds: &Fault::OF_WAITS, preemptions: Some(2) };

/// Four requests that arrive one after the other at one instance: it learns of a failover, and then of nothing.
pub const OUTAGES: Bound = Bound { faults: 2, kinds: &Fault::WITH_LOSS, preemptions: Some(0) };

/// Two requests and a failover with synchronous replication: at most one preemption and two faults.
pub const REPLICATION: Bound = Bound { faults: 2, kinds: &Fault::OF_REPLICATION, preemptions: Some(1) };

/// Retries that come at the same time to an instance that has not heard of the database for long: at most one
/// preemption and two faults.
pub const QUESTIONS: Bound = Bound { faults: 2, kinds: &Fault::OF_QUESTIONS, preemptions: Some(1) };

/// The shortest time for which seeds are run.
const MIN_RANDOM: Duration = Duration::from_secs(5);

/// The scenarios that are run exhaustively, and their bounds.
pub fn exhaustive_part() -> Vec<(Scenario, Bound)> {
    // Requests with one key compete in the stores. Requests with different keys interact only within an instance.
    let pairs = [
        ([SAME, OTHER_ORDER], 2),
        ([SAME, OTHER_CUSTOMER], 2),
        ([SAME, REFUND], 2),
        ([SAME, OTHER_KEY], 1),
        ([SAME, SAME], 2),
        ([SAME, OTHER_CUSTOMER], 1),
        ([SAME, REFUND], 1),
        ([SAME, OTHER_KEY], 2),
        ([SAME, SAME], 1),
        ([SAME, OTHER_ORDER], 1),
    ];
    // Conditional requests that know the same state compete, also with different keys. Small trees come first: each
    // broken variant is caught in the first part that shows its mistake.
    let few_schedules = [[MISSING, SAME], [MISSING, CONDITIONAL], [ANY, OTHER_KEY], [CONDITIONAL, OTHER_KEY]];
    let conditional = [
        [CONDITIONAL, SAME],
        [CONDITIONAL, OTHER_CONDITIONAL],
        [CONDITIONAL, CONDITIONAL],
        [CONDITIONAL, KEYLESS],
        [CONDITIONAL, CONDITIONAL_REFUND],
        [ANY, OTHER_ANY],
        [ANY, CONDITIONAL],
    ];
    let mut part = Vec::new();
    part.extend(pairs.map(|(pair, instances)| of(&pair, instances, DEFAULT, FIRST)));
    // A creation without a response, its retry, and one more.
    for requests in [[SAME, SAME, SAME], [CONDITIONAL, CONDITIONAL, CONDITIONAL]] {
        let (mut scenario, bound) = of(&requests, 1, STRICT, REPLICATION);
        scenario.in_turn = requests.len();
        part.push((scenario, bound));
    }
    part.extend(few_schedules.map(|pair| of(&pair, 1, DEFAULT, CONDITIONAL_INTERLEAVED)));
    // A creation, a retry that completes the record, a request that hears of a failover, and a retry.
    let outages = [SAME, SAME, OTHER_KEY, SAME];
    for policy in [STRICT, DEFAULT] {
        let (mut scenario, bound) = of(&outages, 1, policy, OUTAGES);
        scenario.in_turn = outages.len();
        part.push((scenario, bound));
    }
    // A creation, a retry that completes the record, and later two retries at the same time.
    let questions = [SAME, SAME, SAME, SAME];
    for policy in [STRICT, DEFAULT] {
        let (mut scenario, bound) = of(&questions, 1, policy, QUESTIONS);
        scenario.in_turn = 2;
        part.push((scenario, bound));
    }
    part.extend(conditional.map(|pair| of(&pair, 1, DEFAULT, CONDITIONAL_INTERLEAVED)));
    for pair in [[SAME, OTHER_ORDER], [CONDITIONAL, OTHER_CONDITIONAL_ORDER], [MISSING, OTHER_ORDER]] {
        part.push(of(&pair, 2, KEY_REPLAYS, CONDITIONAL_INTERLEAVED));
    }
    for policy in [STRICT, DEFAULT] {
        for instances in [1, 2] {
            part.push(of(&[SAME, SAME], instances, policy, FAILOVERS));
        }
        part.push(of(&[SAME, OTHER_ORDER], 2, policy, FAILOVERS));
        part.push(of(&[SAME, OTHER_KEY], 1, policy, FAILOVERS));
        part.push(of(&[CONDITIONAL, SAME], 1, policy, FAILOVERS));
        part.push(of(&[CONDITIONAL, OTHER_CONDITIONAL], 2, policy, FAILOVERS));
    }
    let waiting = [CONDITIONAL, OTHER_CONDITIONAL, THIRD_KEY];
    part.push(of(&waiting, 2, DEFAULT, WAITS));
    part.push(of(&[SAME, SAME, OTHER_KEY], 1, DEFAULT, THREE_INTERLEAVED));
    part.extend(pairs.map(|(pair, instances)| of(&pair, instances, DEFAULT, TWO)));
    part.push(of(&[CONDITIONAL, OTHER_CONDITIONAL], 1, DEFAULT, THREE));
    for bound in [THREE_INTERLEAVED, THREE] {
        part.push(of(&[SAME, SAME, SAME], 3, DEFAULT, bound));
        part.push(of(&[SAME, SAME, OTHER_ORDER], 3, DEFAULT, bound));
    }
    part
}

fn of(requests: &[ClientRequest], instances: usize, policy: ReplayPolicy, bound: Bound) -> (Scenario, Bound) {
    let scenario = Scenario { requests: requests.to_vec(), retries: 0, instances, policy, in_turn: 0 };
    (scenario, bound)
}

/// A violation, described for a person.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The seed of its run; `None` if the exhaustive part found it.
    pub seed: Option<u64>,
    /// The description, with the shortest trace found.
    pub text: String,
}

/// The result of the simulation.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was run.
    pub coverage: Coverage,
    /// The first violation.
    pub finding: Option<Finding>,
    /// How long the exhaustive part took.
    pub exhaustive_took: Duration,
}

/// Runs the exhaustive part, and then seeds from `first_seed` on until `deadline`, but at least for a few seconds, on
/// two threads.
pub fn simulate(
    mistake: Option<Break>,
    first_seed: u64,
    deadline: Instant,
    progress: &(dyn Fn(&str) + Sync),
) -> Report {
    let start = Instant::now();
    let part = exhaustive_part();
    let (next, next_seed) = (AtomicUsize::new(0), AtomicU64::new(first_seed));
    let found = AtomicBool::new(false);
    let report = Mutex::new(Report::default());
    let file = |coverage: &Coverage, finding: Option<Finding>| {
        if finding.is_some() {
            found.store(true, Ordering::Relaxed);
        }
        if let Ok(mut report) = report.lock() {
            report.coverage.add(coverage);
            report.finding = report.finding.take().or(finding);
        }
    };
    let all_exhausted = AtomicUsize::new(0);
    let work = || {
        while !found.load(Ordering::Relaxed) {
            let Some((scenario, bound)) = part.get(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let mut coverage = Coverage::default();
            let outcome = exhaust(mistake, scenario, *bound, &mut coverage, &found);
            let finding = outcome.err().map(|failure| describe(mistake, scenario, None, failure));
            let requests: Vec<String> = scenario.requests.iter().map(ToString::to_string).collect();
            progress(&format!(
                "all of {} in {} instances, {:?}, within {bound}: {}",
                requests.join(" and "),
                scenario.instances,
                scenario.policy,
                coverage.schedules
            ));
            file(&coverage, finding);
            if all_exhausted.fetch_add(1, Ordering::Relaxed) + 1 == part.len()
                && let Ok(mut report) = report.lock()
            {
                report.exhaustive_took = start.elapsed();
            }
        }
        let deadline = deadline.max(Instant::now() + MIN_RANDOM);
        while !found.load(Ordering::Relaxed) && Instant::now() < deadline {
            let seed = next_seed.fetch_add(1, Ordering::Relaxed);
            let mut coverage = Coverage::default();
            let outcome = run_seed(mistake, seed, &mut coverage);
            let finding = outcome.err().map(|failure| describe(mistake, &scenario(seed), Some(seed), failure));
            file(&coverage, finding);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    report.into_inner().unwrap_or_default()
}

/// Runs one seed, and describes the violation if there is one.
pub fn replay(mistake: Option<Break>, seed: u64) -> Report {
    let mut report = Report::default();
    let outcome = run_seed(mistake, seed, &mut report.coverage);
    report.finding = outcome.err().map(|failure| describe(mistake, &scenario(seed), Some(seed), failure));
    report
}

fn describe(mistake: Option<Break>, scenario: &Scenario, seed: Option<u64>, failure: Box<Failure>) -> Finding {
    let (smaller, failure) = minimise(mistake, scenario, failure);
    let mut text = format!("VIOLATION by {}: {}\n", mistake.map_or("the protocol", Break::text), failure.violation);
    for (client, request) in smaller.requests.iter().enumerate() {
        let _ = writeln!(text, "  client {client} requests {request}");
    }
    for (number, line) in failure.trace.iter().enumerate() {
        let _ = writeln!(text, "  {:>3} {line}", number + 1);
    }
    let again = " (its exhaustive part finds it again)".to_owned();
    let again = seed.map_or(again, |seed| format!(" --replay {seed}"));
    let _ = writeln!(text, "replay with: cargo xtask simulate{again}");
    Finding { seed, text }
}
