//! The project's commands. Each does all it needs on a fresh machine: see `cargo xtask --help`. Those that need much more than
//! servers and a build are in `workshop/tasks`, so that `up` compiles as little as it can.

mod clean;
mod migrate;
mod up;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::panic::resume_unwind;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use devstack::workspace;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "The project's commands"
)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Serve the application, with everything it needs, until Ctrl-C.
    Up(up::Arguments),
    /// Run all tests, the simulation and a minute of chaos, with everything they need.
    #[command(disable_help_flag = true)]
    Test(PassedOn),
    /// Run the protocol through every schedule of a few requests and faults, and many at random.
    #[command(disable_help_flag = true)]
    Simulate(PassedOn),
    /// Break a real deployment in every way we know while clients retry, and check what became of it.
    #[command(disable_help_flag = true)]
    Chaos(PassedOn),
    /// Measure the component against its host's floor, a bare and a naive component and a native service.
    #[command(disable_help_flag = true)]
    Bench(PassedOn),
    /// Bring a database of your own to the current schema, while components of two releases may run.
    Migrate(migrate::Arguments),
    /// Check the manifests in deploy/ without a cluster.
    #[command(disable_help_flag = true)]
    Deploy(PassedOn),
    /// Remove the data of `up` and what tests left behind.
    Clean,
}

/// What `workshop/tasks` parses.
#[derive(clap::Args)]
struct PassedOn {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<OsString>,
}

// Children are tied to the thread that starts them, so everything stays on this one.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    match Arguments::parse().command {
        Task::Up(arguments) => up::up(arguments).await,
        Task::Migrate(arguments) => migrate::migrate(&arguments),
        Task::Clean => clean::clean(),
        Task::Test(_) => {
            workspace::ensure_wasm_target()?;
            // The components' build often has work for one processor only.
            std::thread::scope(|scope| {
                let components = scope.spawn(workspace::build_components);
                workspace::build_all()?;
                components
                    .join()
                    .unwrap_or_else(|panic| resume_unwind(panic))
            })?;
            become_tasks(Command::new(workspace::target().join("debug/tasks")))
        }
        Task::Simulate(_) | Task::Chaos(_) | Task::Deploy(_) => become_tasks(cargo_run("tasks")),
        Task::Bench(PassedOn { arguments }) => {
            let failed = cargo_run("bench").args(arguments).exec();
            Err(failed).context("running workshop/bench")
        }
    }
}

/// Builds and runs one program of the workshop, without the tests.
fn cargo_run(program: &str) -> Command {
    let mut cargo = workspace::cargo_command();
    cargo
        .args(["run", "--quiet", "--package", program, "--manifest-path"])
        .arg(workspace::root().join("workshop/Cargo.toml"))
        .arg("--");
    cargo
}

/// Becomes `workshop/tasks` with the same arguments. It returns only when that fails.
fn become_tasks(mut tasks: Command) -> Result<()> {
    let failed = tasks.args(std::env::args_os().skip(1)).exec();
    Err(failed).context("running workshop/tasks")
}
