//! Breaks things and mends them, by seed, and tells everything it does.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use crate::deployment::Deployment;
use crate::fault::{Damage, Deck, Fault, Kind, Store};
use crate::history::{History, What};

/// How often one fault begins while another goes on.
const TWO_AT_ONCE: f64 = 0.3;

/// Breaks things until the time is up; then everything is mended. Some of it blocks: no client may run on
/// this thread.
pub async fn rage(
    deployment: &mut Deployment,
    history: &Arc<History>,
    seed: u64,
    until: Duration,
) -> Result<()> {
    let mut nemesis = Nemesis {
        deployment,
        history,
        faults: 0,
    };
    let mut rng = StdRng::seed_from_u64(seed);
    let mut deck = Deck::shuffled(&mut rng);
    while history.elapsed() < until {
        let mut faults = Vec::new();
        if let Some(kind) = deck.draw(None, &mut rng) {
            faults.push(Fault::random(kind, &mut rng));
            if rng.random_bool(TWO_AT_ONCE)
                && let Some(second) = deck.draw(Some(kind), &mut rng)
            {
                faults.push(Fault::random(second, &mut rng));
            }
        }
        let stalled = Kind::Link(Store::Postgres, Damage::Stalled);
        let hold = if faults.iter().any(|fault| fault.kind == stalled) && rng.random_bool(0.5) {
            // Beyond the service's deadline of 5 s: what was sent before lands after its 503.
            millis(&mut rng, 5500, 8000)
        } else {
            millis(&mut rng, 200, 3000)
        };
        let pause = millis(&mut rng, 100, 1500);
        nemesis.inflict(&faults, hold).await?;
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
    faults: u64,
}

impl Nemesis<'_> {
    /// One fault, or several that overlap: first broken, first mended.
    async fn inflict(&mut self, faults: &[Fault], hold: Duration) -> Result<()> {
        let first = self.faults;
        for (fault, number) in faults.iter().zip(first..) {
            self.tell(&format!("begins: {fault}"));
            self.history.add(What::FaultBegin {
                fault: number,
                name: fault.kind.name(),
                detail: fault.to_string(),
            })?;
            self.faults += 1;
            fault.begin(self.deployment)?;
            sleep(hold / 2).await;
            fault.repeat(self.deployment)?;
        }
        sleep(hold / 2).await;
        for (fault, number) in faults.iter().zip(first..) {
            fault.end(self.deployment)?;
            self.tell(&format!("ended:  {fault}"));
            self.history.add(What::FaultEnd {
                fault: number,
                name: fault.kind.name(),
            })?;
        }
        Ok(())
    }

    fn tell(&self, what: &str) {
        eprintln!("{:7.1} s  {what}", self.history.elapsed().as_secs_f64());
    }
}
