//! Injects faults at random times, determined by a seed, and adds them to the history.

use std::collections::HashSet;
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
use crate::history::{History, What};

/// The probability that a second fault begins during a fault.
const TWO_AT_ONCE: f64 = 0.3;

/// The clients of a run, and the runtime that they run on.
pub struct Clients {
    /// Their state.
    pub shared: Arc<Shared>,
    /// Their runtime.
    pub handle: Handle,
}

/// Injects faults of these kinds until the time is up and each failover among them has occurred, and removes all of
/// them. Some calls block the thread: no client may run on it.
pub async fn run(
    deployment: &mut Deployment,
    history: &Arc<History>,
    clients: Clients,
    kinds: Vec<Kind>,
    seed: u64,
    until: Duration,
) -> Result<()> {
    let mut missing: HashSet<Kind> = Kind::failovers().into_iter().collect();
    missing.retain(|kind| kinds.contains(kind));
    let mut nemesis = Nemesis { deployment, history, clients, seed, faults: 0, healing: None };
    let mut rng = StdRng::seed_from_u64(seed);
    let mut sequence = Sequence::shuffled(kinds, &mut rng);
    while history.elapsed() < until || !missing.is_empty() {
        let mut faults = Vec::new();
        if let Some(kind) = sequence.next(None, &mut rng) {
            faults.push(Fault::random(kind, &mut rng));
            if rng.random_bool(TWO_AT_ONCE)
                && let Some(second) = sequence.next(Some(kind), &mut rng)
            {
                faults.push(Fault::random(second, &mut rng));
            }
        }
        let stalled = Kind::Link(Store::Postgres, Damage::Stalled);
        let hold = if faults.iter().any(|fault| fault.kind == stalled) && rng.random_bool(0.5) {
            // Longer than the service's deadline of 5 s: a statement sent before may commit after the 503.
            millis(&mut rng, 5500, 8000)
        } else {
            millis(&mut rng, 200, 3000)
        };
        let pause = millis(&mut rng, 100, 1500);
        nemesis.inject(&faults, hold).await?;
        for fault in &faults {
            missing.remove(&fault.kind);
        }
        sleep(pause).await;
    }
    history.add(What::FaultsEnded)
}

fn millis(rng: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.random_range(from..=to))
}

struct Nemesis<'a> {
    deployment: &'a mut Deployment,
    history: &'a Arc<History>,
    clients: Clients,
    seed: u64,
    faults: u64,
    /// The retries of lost orders, which are under way since the last promotion.
    healing: Option<JoinHandle<Result<()>>>,
}

impl Nemesis<'_> {
    /// Injects one fault, or several that overlap. They are removed in the order in which they began.
    async fn inject(&mut self, faults: &[Fault], hold: Duration) -> Result<()> {
        let first = self.faults;
        for (fault, number) in faults.iter().zip(first..) {
            self.print(&format!("begins: {fault}"));
            self.history.add(What::FaultBegin { fault: number, name: fault.kind.name(), detail: fault.to_string() })?;
            self.faults += 1;
            fault.begin(self.deployment, number, self.history).await?;
            if fault.kind == Kind::PostgresFailover(Failover::Asynchronous) {
                self.heal();
            }
            sleep(hold / 2).await;
            fault.repeat(self.deployment)?;
        }
        sleep(hold / 2).await;
        if let Some(healing) = self.healing.take() {
            // No other fault may delay it.
            healing.await.context("a client failed")??;
        }
        for (fault, number) in faults.iter().zip(first..) {
            fault.end(self.deployment).await?;
            self.print(&format!("ended:  {fault}"));
            self.history.add(What::FaultEnd { fault: number, name: fault.kind.name() })?;
        }
        Ok(())
    }

    /// Begins to retry the orders that were acknowledged and did not survive.
    fn heal(&mut self) {
        let Clients { shared, handle } = &self.clients;
        let healing = heal(shared.clone(), self.deployment.survivors.clone(), self.seed);
        self.healing = Some(handle.spawn(healing));
    }

    fn print(&self, message: &str) {
        eprintln!("{:7.1} s  {message}", self.history.elapsed().as_secs_f64());
    }
}
