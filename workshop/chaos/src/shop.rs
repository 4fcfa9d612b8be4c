//! Chaos in the shop (showcase/shop): customers register, log in, pay in and order while hosts, stores and pullers
//! fail, and events are delivered again and out of order. At the end everything is delivered, and the money is counted.

mod client;
mod verdict;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use devstack::examples;
use devstack::scheduler::{self, Puller};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::client::Shop;
use self::verdict::Verdict;
use crate::deployment::{Deployment, HOSTS, connect};
use crate::fault::{Fault, Kind, Sequence};
use crate::history::History;
use crate::run::{Options, Report, finish, millis};

/// The operator's tokens.
const TOKEN: &str = "operator";
const EVENTS_TOKEN: &str = "events-token-of-a-laptop-or-a-test";
/// How long clients may take to complete what they have begun, and deliveries, after the faults.
const FINISHING: Duration = Duration::from_secs(60);

/// Some faults, besides those of the pullers.
pub const FAULTS: [Kind; 6] = {
    use Kind::{HostKilled, HostPaused, PostgresRestarted, PostgresStopped, RedisKilled, RedisLost};
    [HostKilled, HostPaused, PostgresRestarted, PostgresStopped, RedisKilled, RedisLost]
};

/// Runs faults and clients, delivers everything, and counts.
pub async fn run(options: &Options, folder: &Path) -> Result<Report> {
    eprintln!("Starting Redis, Postgres and {HOSTS} shops on {} ...", options.host);
    let manifest = examples::folder("shop").join("spin.toml");
    let variables = [
        ("operator_token", TOKEN.to_owned()),
        ("events_token", EVENTS_TOKEN.to_owned()),
        ("signing_keys", examples::SIGNING_KEYS.to_owned()),
    ];
    let mut deployment = Deployment::start(options, folder, &manifest, &examples::migrated("shop"), &variables).await?;
    let shop = Arc::new(Shop::new(deployment.hosts.iter().map(|linked| linked.host.address).collect())?);
    let mut clients = JoinSet::new();
    for number in 0..client::CUSTOMERS {
        clients.spawn_on(client::customer(shop.clone(), number, options.seed), &options.background);
    }
    clients.spawn_on(client::deliver_out_of_order(shop.clone(), options.seed), &options.background);

    eprintln!("Faults in the shop for {} s, seed {}", options.duration.as_secs(), options.seed);
    let (history, mut rng) = (History::begin(), StdRng::seed_from_u64(options.seed));
    let mut sequence = Sequence::shuffled(FAULTS.to_vec(), &mut rng);
    let mut faults: BTreeMap<String, usize> = BTreeMap::new();
    // One puller alone shows what it forgets; two at once show that they do no harm.
    let start_pullers = |count: usize| -> Vec<Puller> {
        shop.hosts.iter().take(count).map(|address| Puller::start(*address, TOKEN)).collect()
    };
    let mut pullers = start_pullers(1);
    let mut cursors = Vec::new();
    while history.elapsed() < options.duration {
        let database = connect(&deployment.postgres).await?;
        let stored = database.query("SELECT cursor FROM cursors", &[]).await?;
        cursors.extend(stored.iter().map(|row| row.try_get::<_, String>(0)).collect::<Result<Vec<_>, _>>()?);
        let hold = millis(&mut rng, 100, 1500);
        let name = match rng.random_range(0..4) {
            0 => {
                pullers.clear();
                sleep(hold).await;
                pullers = start_pullers(rng.random_range(1..=HOSTS));
                "PullersStopped".to_owned()
            }
            1 => {
                // As if a puller had died after many deliveries, before it stored the cursor. Not far, or all time
                // would go by with repeated deliveries.
                let recent = cursors.get(cursors.len().saturating_sub(3)..).unwrap_or_default();
                if let Some(cursor) = recent.choose(&mut rng) {
                    database.execute("UPDATE cursors SET cursor = $1", &[cursor]).await?;
                }
                "CursorSetBack".to_owned()
            }
            _ => {
                let kind = sequence.next(&[], &mut rng).context("no fault")?;
                let fault = Fault::random(kind, &mut rng);
                fault.begin(&mut deployment, &history).await?;
                sleep(hold).await;
                fault.end(&mut deployment).await?;
                format!("{kind:?}")
            }
        };
        *faults.entry(name).or_default() += 1;
        sleep(millis(&mut rng, 200, 1000)).await;
    }

    eprintln!("All faults have ended; clients complete their requests ...");
    shop.stop();
    timeout(FINISHING, finish(clients)).await.context("clients have not finished")??;
    pullers.clear();
    deliver_everything(&shop).await?;
    let acknowledged = shop.acknowledged().clone();
    let accounts = shop.accounts().clone();
    let verdict = Verdict::of(&acknowledged, &accounts, faults, &connect(&deployment.postgres).await?).await?;
    Ok(Report { text: verdict.to_string(), examples: verdict.examples.into_iter().take(20).collect() })
}

/// Pulls until nothing is left to deliver.
async fn deliver_everything(shop: &Shop) -> Result<()> {
    let start = Instant::now();
    let address = shop.hosts.first().context("no host")?;
    while start.elapsed() < FINISHING {
        match scheduler::pull(*address, TOKEN, 0) {
            Ok(answer) if answer == r#"{"delivered":0,"refused":0}"# => return Ok(()),
            Ok(_) => {}
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
    bail!("deliveries do not come to an end");
}
