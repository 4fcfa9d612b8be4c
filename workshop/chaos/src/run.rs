//! One run: starts the deployment and the clients, injects faults, waits until all orders have a response, and checks
//! the history.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use devstack::{Host, Postgres, Programs, process, workspace};
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::cells;
use crate::client::{Client, Shared, send_all_again};
use crate::deployment::Deployment;
use crate::failover::Failover;
use crate::fault::Kind;
use crate::history::History;
use crate::judge::judge;
use crate::nemesis::Nemesis;
use crate::shop;

/// Which faults are injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// All kinds.
    All,
    /// Failovers only.
    Failovers,
    /// Those of the shop, which is served instead of the orders.
    Shop,
    /// Moves of customers between two databases.
    Moves,
}

/// How to run.
pub struct Options {
    /// Which faults are injected.
    pub faults: Faults,
    /// Whether completed orders are replayed while Postgres does not respond. Then no order may be lost: there are no
    /// failovers with asynchronous replication.
    pub replay_during_outage: bool,
    /// How long faults are injected; longer if not every failover has occurred until then.
    pub duration: Duration,
    /// Determines the faults and the requests, but not the timing.
    pub seed: u64,
    /// The number of clients.
    pub clients: usize,
    /// The programs of Redis and Postgres.
    pub programs: Programs,
    /// The program that serves.
    pub host: Host,
    /// The threads of clients and links, which outlive the run. The main thread waits for servers; this must not delay
    /// responses.
    pub background: Handle,
}

/// What came out.
pub struct Report {
    /// The figures.
    pub text: String,
    /// Some of the violations.
    pub examples: Vec<String>,
}

/// Runs faults and clients, and checks the history. Call it on the main thread: servers end with the thread that
/// starts them. Removes all data at the end, except after a run with violations.
///
/// # Errors
/// A server does not start, or ends without a fault.
pub async fn run(options: &Options) -> Result<Report> {
    process::raise_file_limit();
    let folder = workspace::stack_folder().join(format!("chaos-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let judged = async {
        match options.faults {
            Faults::Shop => shop::run(options, &folder).await,
            Faults::Moves => cells::run(options, &folder).await,
            _ => run_in(options, &folder).await,
        }
    };
    let report = tokio::select! {
        report = judged => report,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into).and_then(|()| bail!("interrupted")),
    };
    // The servers have stopped.
    let removed = Postgres::remove_all(&folder);
    let mut report = report.with_context(|| format!("see {}", folder.display()))?;
    removed?;
    match report.examples.is_empty() {
        true => std::fs::remove_dir_all(&folder)?,
        false => report.examples.push(format!("the history and the logs are in {}", folder.display())),
    }
    Ok(report)
}

/// Waits until all have finished.
pub async fn finish(mut clients: JoinSet<Result<()>>) -> Result<()> {
    while let Some(client) = clients.join_next().await {
        client.context("a client failed")??;
    }
    Ok(())
}

/// A random time in milliseconds.
pub fn millis(rng: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.random_range(from..=to))
}

async fn run_in(options: &Options, folder: &Path) -> Result<Report> {
    eprintln!("Starting Redis, Postgres, their standbys, and {} ...", options.host);
    let Options { background, seed, replay_during_outage, .. } = options;
    let variables = [
        ("redis_key_prefix", "chaos:".to_owned()),
        ("identity", "header".to_owned()),
        ("replay_during_outage", replay_during_outage.to_string()),
    ];
    let manifest = workspace::root().join("spin.toml");
    let mut deployment = Deployment::start(options, folder, &manifest, &[], &variables).await?;
    deployment.complete_postgres().await?;
    deployment.complete_redis().await?;
    let history = Arc::new(History::begin());
    let bases = deployment.hosts.iter().map(|linked| linked.host.app.base_url()).collect();
    let shared = Arc::new(Shared::new(history.clone(), bases, options.clients)?);

    eprintln!("{} clients, faults for {} s, seed {seed}", options.clients, options.duration.as_secs());
    let (progress, since) = (shared.clone(), history.clone());
    background.spawn(async move {
        loop {
            sleep(Duration::from_secs(5)).await;
            eprintln!("{:7.1} s  sent {}", since.elapsed().as_secs_f64(), progress.counts().0);
        }
    });
    let mut clients = JoinSet::new();
    for number in 0..options.clients {
        clients.spawn_on(Client::new(shared.clone(), number, *seed).run(), background);
    }
    let mut kinds = match options.faults {
        Faults::Failovers => [Kind::failovers(), vec![Kind::PostgresStopped, Kind::StandbyCut]].concat(),
        _ => Kind::all(),
    };
    kinds.retain(|kind| !replay_during_outage || *kind != Kind::PostgresFailover(Failover::Asynchronous));
    let mut nemesis =
        Nemesis { deployment, history, clients: shared.clone(), background: background.clone(), seed: *seed };
    nemesis.run(kinds, options.duration).await?;
    let Nemesis { mut deployment, history, .. } = nemesis;

    eprintln!("All faults have ended; clients complete what they have begun ...");
    shared.stop();
    finish(clients).await?;
    eprintln!("Sending each of {} keys once more ...", shared.counts().1);
    background.spawn(send_all_again(shared.clone(), *seed)).await.context("a client failed")??;

    for (number, linked) in deployment.hosts.iter_mut().enumerate() {
        if let Some(status) = linked.host.app.exited()? {
            bail!("host {number} ended without a fault ({status})");
        }
    }
    let rows = deployment.orders().await?;
    eprintln!("Judging {} orders ...", rows.len());
    let events = history.events();
    let verdict = judge(&events, &rows);
    if !verdict.violations.is_empty() {
        events.write(&folder.join("history.jsonl"))?;
    }
    Ok(Report { text: verdict.to_string(), examples: verdict.examples() })
}
