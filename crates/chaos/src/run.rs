//! One run from nothing to its verdict: deployment, clients, nemesis, and then peace, in which everything
//! that is open must be answered.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use devstack::{Postgres, Programs, process, workspace};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::checker::{Verdict, check};
use crate::client::{Client, World, ask_all_again};
use crate::deployment::Deployment;
use crate::history::{self, History};
use crate::nemesis;

/// How long clients may take to finish what is open once all faults have ended.
const FINISHING: Duration = Duration::from_secs(60);
/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(5);

/// What to run.
pub struct Options {
    /// How long faults go on.
    pub duration: Duration,
    /// What determines the faults and what clients wish.
    pub seed: u64,
    /// How many clients there are.
    pub clients: usize,
    /// The servers' programs.
    pub programs: Programs,
    /// The host's program.
    pub runner: PathBuf,
}

/// What a run gave.
pub struct Outcome {
    /// The checker's judgement.
    pub verdict: Verdict,
    /// The history; gone if the verdict is clean.
    pub history: PathBuf,
}

/// Runs it. Must be called on the main thread, because servers are tied to the thread that starts them and
/// end with it. Everything but the history of a bad run is removed at the end.
pub async fn run(options: Options) -> Result<Outcome> {
    process::raise_file_limit();
    let folder = workspace::stack_folder().join(format!("chaos-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("history.jsonl");
    let verdict = tokio::select! {
        verdict = beat(&options, &folder, &path) => verdict,
        interrupted = tokio::signal::ctrl_c() => match interrupted {
            Ok(()) => Err(anyhow::anyhow!("interrupted")),
            Err(error) => Err(error.into()),
        },
    };
    // The servers have ended by now.
    let removed = Postgres::remove(&folder.join("postgres"));
    let verdict = verdict.with_context(|| format!("see {}", folder.display()))?;
    removed?;
    if verdict.is_clean() {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(Outcome {
        verdict,
        history: path,
    })
}

/// Clients and links run here, away from the main thread, whose waits for servers must not look like
/// slow answers.
struct Background(Option<Runtime>);

impl Drop for Background {
    fn drop(&mut self) {
        // A runtime may not be waited for from within another.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

async fn beat(
    options: &Options,
    folder: &std::path::Path,
    path: &std::path::Path,
) -> Result<Verdict> {
    let runtime = Runtime::new().context("starting threads")?;
    let handle = runtime.handle().clone();
    let _background = Background(Some(runtime));

    eprintln!("Starting Redis, Postgres and the runners ...");
    let mut deployment =
        Deployment::start(&options.programs, &options.runner, folder, &handle).await?;
    let history = Arc::new(History::create(path)?);
    let bases = deployment.runners.iter().map(|runner| runner.base_url());
    let world = Arc::new(World::new(
        history.clone(),
        bases.collect(),
        options.clients,
    )?);

    eprintln!(
        "{} clients, faults for {} s, seed {}",
        options.clients,
        options.duration.as_secs(),
        options.seed
    );
    let _progress = handle.spawn(tell_progress(world.clone(), history.clone()));
    let mut clients = JoinSet::new();
    for number in 0..options.clients {
        let client = Client::new(world.clone(), number, options.seed);
        clients.spawn_on(client.live(), &handle);
    }
    nemesis::rage(&mut deployment, &history, options.seed, options.duration).await?;

    eprintln!("All faults have ended; clients finish what is open ...");
    world.stop();
    let finished = timeout(FINISHING, async {
        while let Some(client) = clients.join_next().await {
            client.context("a client failed")??;
        }
        anyhow::Ok(())
    });
    match finished.await {
        Ok(finished) => finished?,
        // What is not answered even when asked again is the checker's to tell.
        Err(_) => eprintln!("{} clients have not finished", clients.len()),
    }
    clients.shutdown().await;
    eprintln!("Asking once more for each of {} keys ...", world.keys());
    handle
        .spawn(ask_all_again(world.clone(), options.seed))
        .await
        .context("a client failed")??;

    history.flush()?;
    for (number, runner) in deployment.runners.iter_mut().enumerate() {
        if let Some(status) = runner.app.exited()? {
            bail!("runner {number} ended by itself ({status})");
        }
    }
    let rows = deployment.orders().await?;
    eprintln!("Checking {} orders ...", rows.len());
    check(history::read(path)?, &rows)
}

async fn tell_progress(world: Arc<World>, history: Arc<History>) -> Result<()> {
    loop {
        sleep(PROGRESS).await;
        history.flush()?;
        let (sent, acknowledged) = world.counts();
        eprintln!(
            "{:7.1} s  sent {sent}, acknowledged {acknowledged}",
            history.elapsed().as_secs_f64()
        );
    }
}
