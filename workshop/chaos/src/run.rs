//! One run: starts the deployment and the clients, injects faults, waits until all client requests have a response,
//! and checks the history.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use devstack::{Host, Postgres, Programs, process, workspace};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::checker::{Verdict, check};
use crate::client::{Client, Shared, send_all_again};
use crate::deployment::Deployment;
use crate::failover::Failover;
use crate::fault::Kind;
use crate::history::{self, History};
use crate::linearizable;
use crate::nemesis::{self, Clients};

/// How long clients may take to complete their client requests after all faults have ended.
const FINISHING: Duration = Duration::from_secs(60);
/// How often progress is printed.
const PROGRESS: Duration = Duration::from_secs(5);

/// Which faults are injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// All kinds.
    All,
    /// Failovers only.
    Failovers,
}

/// How to run.
pub struct Options {
    /// Which faults are injected.
    pub faults: Faults,
    /// Whether completed orders are replayed while Postgres does not answer. Then no order may be lost: no failover has
    /// asynchronous replication.
    pub replay_during_outage: bool,
    /// How long faults are injected; longer if not every failover has occurred until then.
    pub duration: Duration,
    /// Determines the faults and the client requests.
    pub seed: u64,
    /// The number of clients.
    pub clients: usize,
    /// The programs of Redis and Postgres.
    pub programs: Programs,
    /// The program that serves.
    pub host: Host,
}

/// The result of a run.
pub struct Outcome {
    /// The checker's verdict.
    pub verdict: Verdict,
    /// The path of the history; removed if the verdict is clean.
    pub history: PathBuf,
}

/// Runs faults and clients, and checks the history. Call it on the main thread: servers end with the thread that
/// starts them. Removes all data at the end, except after a run with violations.
pub async fn run(options: Options) -> Result<Outcome> {
    process::raise_file_limit();
    let folder = workspace::stack_folder().join(format!("chaos-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("history.jsonl");
    let verdict = tokio::select! {
        verdict = run_in(&options, &folder, &path) => verdict,
        interrupted = tokio::signal::ctrl_c() => match interrupted {
            Ok(()) => Err(anyhow::anyhow!("interrupted")),
            Err(error) => Err(error.into()),
        },
    };
    // The servers have stopped.
    let removed = Postgres::remove_all(&folder);
    let verdict = verdict.with_context(|| format!("see {}", folder.display()))?;
    removed?;
    if verdict.is_clean() {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(Outcome { verdict, history: path })
}

/// The threads of clients and links. The main thread waits for servers; this must not delay responses.
struct Background(Option<Runtime>);

impl Drop for Background {
    fn drop(&mut self) {
        // A runtime must not wait for another one.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

async fn run_in(options: &Options, folder: &Path, path: &Path) -> Result<Verdict> {
    let runtime = Runtime::new().context("starting threads")?;
    let handle = runtime.handle().clone();
    let _background = Background(Some(runtime));

    eprintln!("Starting Redis and Postgres, a standby of each, and {} ...", options.host);
    let mut deployment = Deployment::start(options, folder, &handle).await?;
    let history = Arc::new(History::create(path)?);
    let bases = deployment.runners.iter().map(|runner| runner.base_url());
    let shared = Arc::new(Shared::new(history.clone(), bases.collect(), options.clients)?);

    eprintln!("{} clients, faults for {} s, seed {}", options.clients, options.duration.as_secs(), options.seed);
    let _progress = handle.spawn(print_progress(shared.clone(), history.clone()));
    let mut clients = JoinSet::new();
    for number in 0..options.clients {
        let client = Client::new(shared.clone(), number, options.seed);
        clients.spawn_on(client.run(), &handle);
    }
    let injecting = Clients { shared: shared.clone(), handle: handle.clone() };
    let (seed, duration) = (options.seed, options.duration);
    let mut kinds = match options.faults {
        Faults::All => Kind::all(),
        Faults::Failovers => Kind::failovers(),
    };
    kinds.retain(|kind| !options.replay_during_outage || *kind != Kind::PostgresFailover(Failover::Asynchronous));
    nemesis::run(&mut deployment, &history, injecting, kinds, seed, duration).await?;

    eprintln!("All faults have ended; clients complete their client requests ...");
    shared.stop();
    let finished = timeout(FINISHING, async {
        while let Some(client) = clients.join_next().await {
            client.context("a client failed")??;
        }
        anyhow::Ok(())
    });
    match finished.await {
        Ok(finished) => finished?,
        // The checker reports keys that get no response even when they are sent again.
        Err(_) => eprintln!("{} clients have not finished", clients.len()),
    }
    clients.shutdown().await;
    eprintln!("Sending each of {} keys once more ...", shared.keys());
    handle.spawn(send_all_again(shared.clone(), options.seed)).await.context("a client failed")??;

    history.flush()?;
    for (number, runner) in deployment.runners.iter_mut().enumerate() {
        if let Some(status) = runner.app.exited()? {
            bail!("runner {number} ended without a fault ({status})");
        }
    }
    let rows = deployment.orders().await?;
    eprintln!("Checking {} orders ...", rows.len());
    let mut verdict = check(history::read(path)?, &rows)?;
    if verdict.losses.promotions == 0 {
        verdict.linearizability = Some(linearizable::judge(history::read(path)?, &rows)?);
    }
    Ok(verdict)
}

async fn print_progress(shared: Arc<Shared>, history: Arc<History>) -> Result<()> {
    loop {
        sleep(PROGRESS).await;
        history.flush()?;
        let (sent, acknowledged) = shared.counts();
        eprintln!("{:7.1} s  sent {sent}, acknowledged {acknowledged}", history.elapsed().as_secs_f64());
    }
}
