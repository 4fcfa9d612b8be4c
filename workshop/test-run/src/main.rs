//! The program behind `cargo xtask test`, which has built everything else: starts the stores that tests share, runs all
//! tests and a minute of chaos, and beside them the tests that need no server and the simulation.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use devstack::install::{find_or_install_haproxy, find_or_install_pgbouncer};
use devstack::process::Process;
use devstack::workspace::{self, Workspace};
use devstack::{Browser, Postgres, Programs, Redis};
use fixtures::Shared;
use fixtures::debezium::Debezium;
use fixtures::kafka::Kafka;
use nix::sys::signal::Signal;
use openapi_check::tools::{node_tools, schemathesis};

/// How many seconds the simulation runs. Its exhaustive part always runs to its end.
const SIMULATION_SECONDS: &str = "45";

/// How often the output of what runs beside is read.
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
    std::thread::scope(|scope| {
        if is_whole || arguments.tools {
            scope.spawn(|| install_tools(may_install));
        }
        if is_whole { workspace::build_simulation() } else { Ok(()) }
    })?;

    let folder = workspace::stack_folder().join(format!("test-{}", std::process::id()));
    eprintln!("Starting Redis and Postgres for the tests ...");
    let redis = Redis::start(&programs, &folder.join("redis"))?;
    let postgres = Postgres::start(&programs, &folder.join("postgres"))?;
    let shared = Shared {
        folder: folder.clone(),
        redis_url: redis.url(),
        postgres_url: postgres.url("postgres"),
        table: "plain".to_owned(),
        embedded: false,
    };
    let other_tables = ["partitioned", "distributed"].map(|table| Shared { table: table.to_owned(), ..shared.clone() });
    let embedded = Shared { embedded: true, ..shared.clone() };
    shared.create_template().await?;
    for shared in &other_tables {
        shared.create_template().await?;
    }

    let without_servers = |workspace, which: &[&str]| tests(workspace, which, &shared, &arguments.rest);
    let simulation_tests = ["--package", "simulation", "--profile", "simulation"];
    let mut beside = vec![
        ("product", without_servers(Workspace::Product, &[])),
        ("showcase", without_servers(Workspace::Showcase, &["--workspace", "--lib"])),
        ("simulation-tests", without_servers(Workspace::Workshop, &simulation_tests)),
    ];
    if is_whole {
        // It always has the same seeds, so that a change is what makes a difference.
        let mut simulation = Command::new(workspace::simulation());
        simulation.args(["--seconds", SIMULATION_SECONDS]);
        beside.push(("simulation", simulation));
    }
    let beside = beside.iter().map(|(name, command)| Beside::start(name, command, &folder));
    let beside = beside.collect::<Result<Vec<_>>>()?;
    let all = [&workspace::TESTED[..], &["--no-fail-fast"]].concat();
    let mut passed = tests(Workspace::Workshop, &all, &shared, &arguments.rest).status()?.success();
    let over_http = [&workspace::TESTED[..5], &["--test", "api"]].concat();
    for shared in &other_tables {
        eprintln!("\nThe tests over HTTP once more, on a {} table:", shared.table);
        passed &= tests(Workspace::Workshop, &over_http, shared, &arguments.rest).status()?.success();
    }
    eprintln!("\nThe tests over HTTP once more, on the embedded store:");
    passed &= tests(Workspace::Workshop, &over_http, &embedded, &arguments.rest).status()?.success();
    if passed && is_whole && !arguments.no_chaos {
        chaos(&["--shop", "--seconds", "20"])?;
        chaos(&["--seconds", "40"])?;
        chaos(&["--seconds", "20", "--replay-during-outage"])?;
        chaos(&["--seconds", "20", "--cells"])?;
    }
    for tests in beside {
        eprintln!("\nRun beside the others:");
        passed &= tests.finish()?;
    }
    ensure!(passed, "tests failed; the servers' and applications' logs are in {}", folder.display());
    drop(redis);
    drop(postgres);
    Postgres::remove(&folder.join("postgres"))?;
    std::fs::remove_dir_all(&folder)?;
    eprintln!("All tests passed in {} s.", start.elapsed().as_secs());
    Ok(())
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
    let haproxy = find_or_install_haproxy(may_install).map(drop);
    report("No gateway will be put before two cells", haproxy);
}

/// The command that runs tests of a workspace on these stores.
fn tests(workspace: Workspace, which: &[&str], shared: &Shared, rest: &[String]) -> Command {
    let mut tests = workspace::cargo_command();
    tests.arg("test").arg("--manifest-path").arg(workspace.manifest());
    tests.arg("--target-dir").arg(workspace.target());
    tests.args(which).arg("--").args(rest);
    shared.tell(&mut tests);
    tests
        .current_dir(workspace::root())
        // More than there are processors: most tests wait for a store or for time to pass.
        .env("RUST_TEST_THREADS", "3")
        // For the runners that tests start: some assert how often the stores were asked.
        .env("RUNNER_COUNT_CALLS", "true");
    tests
}

fn chaos(options: &[&str]) -> Result<()> {
    let mut chaos = Command::new(workspace::tool("chaos"));
    let status = chaos.args(["--no-install", "--built"]).args(options).status();
    ensure!(status.context("running chaos")?.success(), "chaos failed");
    Ok(())
}

/// Tests that need no server, in a process that gets only the processor time that the other tests leave: they often
/// wait for a store or for time to pass.
struct Beside {
    process: Process,
    output: File,
}

impl Beside {
    /// Starts a command; its output goes to a file in that folder.
    fn start(name: &'static str, command: &Command, folder: &Path) -> Result<Self> {
        let output = folder.join(format!("{name}.log"));
        let written = File::create(&output)?;
        let mut nice = Command::new("nice");
        nice.args(["-n", "19"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => nice.env(name, value),
                None => nice.env_remove(name),
            };
        }
        nice.current_dir(workspace::root()).stdout(written.try_clone()?).stderr(written);
        let process = Process::start(name, &mut nice, Signal::SIGKILL)?;
        Ok(Self { process, output: File::open(&output)? })
    }

    /// Shows its output, what is there and what comes, until it ends; says whether it succeeded.
    fn finish(mut self) -> Result<bool> {
        loop {
            let status = self.process.exited()?;
            let mut text = Vec::new();
            self.output.read_to_end(&mut text)?;
            std::io::stderr().write_all(&text)?;
            if let Some(status) = status {
                return Ok(status.success());
            }
            std::thread::sleep(POLL);
        }
    }
}
