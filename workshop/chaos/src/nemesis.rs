//! Injects faults at random times, determined by a seed, and adds them to the history.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::client::{Shared, heal};
use crate::deployment::Deployment;
use crate::failover::Failover;
use crate::fault::{Damage, Fault, Kind, Sequence, Store};
use crate::history::{self, History};
use crate::run::millis;

/// The probability that another fault begins during a fault.
const AT_ONCE: f64 = 0.4;
/// The number of faults that overlap.
const MOST_AT_ONCE: usize = 3;

/// Injects faults, while clients send on another runtime: some calls block the thread.
pub struct Nemesis {
    pub deployment: Deployment,
    pub history: Arc<History>,
    pub clients: Arc<Shared>,
    pub background: Handle,
    pub seed: u64,
}

impl Nemesis {
    /// Injects faults of these kinds until the time is up and each failover among them has occurred, and removes all of
    /// them.
    pub async fn run(&mut self, kinds: Vec<Kind>, until: Duration) -> Result<()> {
        let mut missing = Kind::failovers();
        missing.retain(|kind| kinds.contains(kind));
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut sequence = Sequence::shuffled(kinds, &mut rng);
        while self.history.elapsed() < until || !missing.is_empty() {
            let mut kinds: Vec<_> = sequence.next(&[], &mut rng).into_iter().collect();
            while kinds.len() < MOST_AT_ONCE && rng.random_bool(AT_ONCE) {
                let Some(another) = sequence.next(&kinds, &mut rng) else { break };
                kinds.push(another);
            }
            missing.retain(|kind| !kinds.contains(kind));
            let is_stalled = kinds.contains(&Kind::Link(Store::Postgres, Damage::Stalled));
            let hold = match is_stalled && rng.random_bool(0.5) {
                // Longer than the service's deadline of 5 s: a statement sent before may commit after the 503.
                true => millis(&mut rng, 5500, 8000),
                false => millis(&mut rng, 200, 3000),
            };
            let faults: Vec<_> = kinds.into_iter().map(|kind| Fault::random(kind, &mut rng)).collect();
            self.inject(&faults, hold).await?;
            sleep(millis(&mut rng, 100, 1500)).await;
        }
        let now = self.history.now();
        self.history.events().faults_ended_ms = Some(now);
        Ok(())
    }

    /// Injects one fault, or several that overlap. They are removed in the order in which they began.
    async fn inject(&mut self, faults: &[Fault], hold: Duration) -> Result<()> {
        let mut begun = Vec::new();
        let mut healing = None;
        for fault in faults {
            eprintln!("{:7.1} s  begins: {fault:?}", self.history.elapsed().as_secs_f64());
            begun.push(self.history.now());
            fault.begin(&mut self.deployment, &self.history).await?;
            if fault.kind == Kind::PostgresFailover(Failover::Asynchronous) {
                healing = self.heal();
            }
            sleep(hold / 2).await;
            fault.repeat(&mut self.deployment, &self.history).await?;
        }
        sleep(hold / 2).await;
        if let Some(healing) = healing {
            // No other fault may delay it.
            healing.await.context("a client failed")??;
        }
        for (fault, from_ms) in faults.iter().zip(begun) {
            fault.end(&mut self.deployment).await?;
            eprintln!("{:7.1} s  ended:  {:?}", self.history.elapsed().as_secs_f64(), fault.kind);
            let fault = history::Fault { name: format!("{:?}", fault.kind), from_ms, to_ms: self.history.now() };
            self.history.events().faults.push(fault);
        }
        Ok(())
    }

    /// Begins to retry the orders that were acknowledged and did not survive the last promotion.
    fn heal(&mut self) -> Option<JoinHandle<Result<()>>> {
        let loss = self.history.events().promotions.last()?.clone();
        Some(self.background.spawn(heal(self.clients.clone(), loss, self.seed)))
    }
}
