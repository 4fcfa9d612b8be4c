//! The program behind `cargo xtask test`: builds everything, starts the stores that tests share, runs all tests and a
//! minute of chaos, and the simulation beside them.

use std::fs::File;
use std::io::{Read, Write};
use std::panic::resume_unwind;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use devstack::install::find_or_install_pgbouncer;
use devstack::process::Process;
use devstack::workspace::{self, Workspace};
use devstack::{Browser, Postgres, Programs, Redis, examples};
use fixtures::Shared;
use fixtures::debezium::Debezium;
use fixtures::kafka::Kafka;
use nix::sys::signal::Signal;
use openapi_check::tools::{node_tools, schemathesis};

/// The partitions of `orders` in the second run of the tests over HTTP.
const PARTITIONS: u32 = 8;

/// How many seconds the simulation runs. Its exhaustive part always runs to its end.
const SIMULATION_SECONDS: &str = "45";

/// How often the simulation's output is read.
const POLL: Duration = Duration::from_millis(200);

/// Runs all tests, the simulation and a minute of chaos, with everything they need.
#[derive(Parser)]
#[command(name = "cargo xtask test", bin_name = "cargo xtask test")]
struct Arguments {
    /// Fail rather than install a missing Redis or Postgres with apt.
    #[arg(long)]
    no_install: bool,
    /// Leave out chaos at the end; so do names of tests.
    #[arg(long)]
    no_chaos: bool,
    /// With names of tests: install a browser, Node's packages, Schemathesis, Kafka and Debezium as well, which some
    /// tests need. A run of all tests installs them.
    #[arg(long)]
    tools: bool,
    /// Passed on to the test programs: parts of test names, or options such as `-- --nocapture`.
    rest: Vec<String>,
}

// Children are tied to the thread that starts them, so everything stays on this one.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    devstack::exit_code(test(Arguments::parse()).await)
}

async fn test(arguments: Arguments) -> Result<()> {
    let start = Instant::now();
    let may_install = !arguments.no_install;
    // A run with named tests runs only those.
    let is_whole = arguments.rest.is_empty();
    let programs = Programs::find_or_install(may_install)?;
    workspace::ensure_wasm_target()?;
    std::thread::scope(|scope| {
        if is_whole || arguments.tools {
            scope.spawn(|| install_tools(may_install));
        }
        // One of the two builds often has work for one processor only.
        let components = scope.spawn(build_components);
        workspace::build_all()?;
        if is_whole {
            workspace::build_simulation()?;
        }
        components.join().unwrap_or_else(|panic| resume_unwind(panic))
    })?;

    let folder = workspace::stack_folder().join(format!("test-{}", std::process::id()));
    eprintln!("Starting Redis and Postgres for the tests ...");
    let redis = Redis::start(&programs, &folder.join("redis"))?;
    let postgres = Postgres::start(&programs, &folder.join("postgres"))?;
    let shared = Shared {
        folder: folder.clone(),
        redis_url: redis.url(),
        postgres_url: postgres.url("postgres"),
        partitions: 0,
        embedded: false,
    };
    let partitioned = Shared { partitions: PARTITIONS, ..shared.clone() };
    let embedded = Shared { embedded: true, ..shared.clone() };
    shared.create_template().await?;
    partitioned.create_template().await?;

    let simulation = is_whole.then(|| Simulation::start(&folder)).transpose()?;
    let mut passed = passes(Workspace::Product, &[], &shared, &arguments.rest)?;
    passed &= passes(Workspace::Showcase, &["--workspace", "--lib"], &shared, &arguments.rest)?;
    let all = [&workspace::TESTED[..], &["--no-fail-fast"]].concat();
    passed &= passes(Workspace::Workshop, &all, &shared, &arguments.rest)?;
    let simulation_tests = ["--package", "simulation", "--profile", "simulation"];
    passed &= passes(Workspace::Workshop, &simulation_tests, &shared, &arguments.rest)?;
    eprintln!("\nThe tests over HTTP once more, on tables of {PARTITIONS} hash partitions:");
    let over_http = [&workspace::TESTED[..5], &["--test", "api"]].concat();
    passed &= passes(Workspace::Workshop, &over_http, &partitioned, &arguments.rest)?;
    eprintln!("\nThe tests over HTTP once more, on the embedded store:");
    passed &= passes(Workspace::Workshop, &over_http, &embedded, &arguments.rest)?;
    ensure!(passed, "tests failed; the servers' and applications' logs are in {}", folder.display());
    if is_whole && !arguments.no_chaos {
        chaos(&["--shop", "--seconds", "20"])?;
        chaos(&["--seconds", "40"])?;
        chaos(&["--seconds", "20", "--replay-during-outage"])?;
    }
    drop(redis);
    drop(postgres);
    Postgres::remove(&folder.join("postgres"))?;
    if let Some(simulation) = simulation {
        eprintln!("\nThe simulation, which has run beside the tests and chaos:");
        simulation.finish()?;
    }
    std::fs::remove_dir_all(&folder)?;
    eprintln!("All tests passed in {} s.", start.elapsed().as_secs());
    Ok(())
}

fn build_components() -> Result<()> {
    workspace::build_components()?;
    let packages = [&examples::packages("shop")[..], &["order-by-key"]].concat();
    workspace::build_for_wasm(Workspace::Showcase, &packages)
}

/// Installs what only some tests need, which say that they are skipped without it.
fn install_tools(may_install: bool) {
    let report = |what: &str, installed: Result<()>| {
        if let Err(why) = installed {
            eprintln!("{what}: {why:#}");
        }
    };
    let browser = Browser::find_or_install(may_install).map(drop);
    report("The pages will not be tested in a browser", browser);
    let node = node_tools(may_install).map(drop);
    report("The API's description will not be linted, nor the Postman collection run", node);
    report("Schemathesis will not test the APIs", schemathesis(may_install).map(drop));
    let kafka = Kafka::find_or_install(may_install).map(drop);
    report("No orders will go to a Kafka topic", kafka);
    let debezium = Debezium::find_or_install(may_install).map(drop);
    report("Debezium will not read the change stream", debezium);
    let pgbouncer = find_or_install_pgbouncer(may_install).map(drop);
    report("No pooler will be put before Postgres", pgbouncer);
}

/// Runs tests of a workspace on these stores; says whether they passed.
fn passes(workspace: Workspace, which: &[&str], shared: &Shared, rest: &[String]) -> Result<bool> {
    let mut tests = workspace::cargo_command();
    tests.arg("test").arg("--manifest-path").arg(workspace.manifest());
    tests.arg("--target-dir").arg(workspace.target());
    tests.args(which).arg("--").args(rest);
    shared.tell(&mut tests);
    let status = tests
        .current_dir(workspace::root())
        // More than there are processors: most tests wait for a store or for time to pass.
        .env("RUST_TEST_THREADS", "3")
        // For the runners that tests start: some assert how often the stores were asked.
        .env("RUNNER_COUNT_CALLS", "true")
        .status();
    Ok(status.context("running cargo test")?.success())
}

fn chaos(options: &[&str]) -> Result<()> {
    let mut chaos = Command::new(workspace::tool("chaos"));
    let status = chaos.args(["--no-install", "--built"]).args(options).status();
    ensure!(status.context("running chaos")?.success(), "chaos failed");
    Ok(())
}

/// A simulation beside the tests, in a process that gets only the processor time that the tests leave: they often wait
/// for a store or for time to pass. It always has the same seeds, so that a change is what makes a difference.
struct Simulation {
    process: Process,
    output: File,
}

impl Simulation {
    /// Starts it; its output goes to a file in that folder.
    fn start(folder: &Path) -> Result<Self> {
        let output = folder.join("simulation.log");
        let written = File::create(&output)?;
        let mut simulate = Command::new("nice");
        simulate
            .args(["-n", "19"])
            .arg(workspace::simulation())
            .args(["--seconds", SIMULATION_SECONDS])
            .stdout(written.try_clone()?)
            .stderr(written);
        Ok(Self {
            process: Process::start("the simulation", &mut simulate, Signal::SIGKILL)?,
            output: File::open(&output)?,
        })
    }

    /// Shows its output, what is there and what comes, until it ends.
    ///
    /// # Errors
    /// It found a violation, or could not run.
    fn finish(mut self) -> Result<()> {
        loop {
            let status = self.process.exited()?;
            let mut text = Vec::new();
            self.output.read_to_end(&mut text)?;
            std::io::stderr().write_all(&text)?;
            if let Some(status) = status {
                ensure!(status.success(), "the simulation failed");
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
    }
}
