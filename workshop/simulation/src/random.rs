//! Long runs with many clients and many faults. A seed determines a run.

use exactly_once::create::{KeyReuse, OutageReplay, ReplayPolicy};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::broken::Break;
use crate::client_request::{ClientRequest, Condition};
use crate::coverage::Coverage;
use crate::fault::Fault;
use crate::kind::Kind;
use crate::run::{Driver, Enabled, Failure, Step, run};
use crate::scenario::Scenario;

struct RandomDriver {
    rng: StdRng,
    /// The probability of a fault in a step.
    fault_rate: f64,
}

impl Driver for RandomDriver {
    fn next(&mut self, enabled: &[Enabled]) -> Option<Step> {
        // A blocked request can only have a fault.
        let strikes = self.rng.random_bool(self.fault_rate);
        let can_step = |e: &&Enabled| strikes || !e.blocked;
        let count = enabled.iter().filter(can_step).count();
        let Some(last) = count.checked_sub(1) else {
            return self.unblock(enabled);
        };
        let chosen = enabled.iter().filter(can_step).nth(self.rng.random_range(0..=last))?;
        if chosen.blocked {
            return self.unblock(&[*chosen]);
        }
        let fault = strikes.then(|| Fault::ALL.get(self.rng.random_range(0..Fault::ALL.len()))).flatten();
        Some(Step { actor: chosen.actor, fault: fault.copied().filter(|fault| chosen.allows(*fault)) })
    }
}

impl RandomDriver {
    /// One of the faults that end the wait of a blocked request.
    fn unblock(&mut self, blocked: &[Enabled]) -> Option<Step> {
        let chosen = blocked.get(self.rng.random_range(0..blocked.len()))?;
        let faults = Fault::WHILE_WAITING;
        Some(Step { actor: chosen.actor, fault: faults.get(self.rng.random_range(0..faults.len())).copied() })
    }
}

/// The scenario of a seed: 2 to 20 clients with few keys and many retries.
pub fn scenario(seed: u64) -> Scenario {
    let mut rng = StdRng::seed_from_u64(seed);
    let keys = rng.random_range(1..=4);
    let documents = rng.random_range(1..=3);
    let customers = rng.random_range(1..=2);
    let clients = rng.random_range(2..=20);
    let conditional = f64::from(rng.random_range(0..3_u8)) / 2.0;
    let refunds = f64::from(rng.random_range(0..2_u8)) / 4.0;
    Scenario {
        requests: (0..clients)
            .map(|_| ClientRequest {
                kind: match rng.random_bool(refunds) {
                    true => Kind::Refund,
                    false => Kind::Order,
                },
                customer: rng.random_range(0..customers),
                key: rng.random_range(0..keys),
                document: rng.random_range(0..documents),
                condition: match rng.random_bool(conditional) {
                    false => Condition::None,
                    true if rng.random_bool(0.2) => Condition::Keyless,
                    true if rng.random_bool(0.2) => Condition::Any,
                    true if rng.random_bool(0.1) => Condition::Missing,
                    true => Condition::Unchanged,
                },
            })
            .collect(),
        retries: rng.random_range(0..=60),
        instances: rng.random_range(1..=4),
        policy: ReplayPolicy {
            key_reuse: match rng.random_bool(0.25) {
                true => KeyReuse::Replay,
                false => KeyReuse::Reject,
            },
            outage: match rng.random_bool(0.5) {
                true => OutageReplay::FromRecord,
                false => OutageReplay::Unavailable,
            },
        },
        in_turn: 0,
    }
}

/// Runs the schedule of a seed.
///
/// # Errors
/// The violation it leads to.
pub fn run_seed(mistake: Option<Break>, seed: u64, coverage: &mut Coverage) -> Result<(), Box<Failure>> {
    let mut rng = StdRng::seed_from_u64(!seed);
    let fault_rate = rng.random_range(0.05..0.6);
    let mut driver = RandomDriver { rng, fault_rate };
    run(mistake, &scenario(seed), &mut driver, coverage, false)
}
