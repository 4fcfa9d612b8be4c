//! The project's commands. Each does all it needs on a fresh machine: see `cargo xtask --help`. A command that is not
//! here is a program of its own, so that nothing is compiled for another command.

mod clean;
mod migrate;
mod test;
mod up;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use devstack::workspace::{self, Workspace};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The project's commands")]
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
    /// Measure the component against its host's floor, a naive component and native services.
    #[command(disable_help_flag = true)]
    Bench(PassedOn),
    /// Bring a database of your own to the current schema, while components of two releases may run.
    Migrate(migrate::Arguments),
    /// Move customers from one database to another.
    #[command(disable_help_flag = true)]
    Move(PassedOn),
    /// Check the manifests in deploy/ without a cluster.
    #[command(disable_help_flag = true)]
    Deploy(PassedOn),
    /// Remove the data of `up` and what tests left behind.
    Clean,
}

/// What the program of the command parses.
#[derive(clap::Args)]
struct PassedOn {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<OsString>,
}

// Children are tied to the thread that starts them, so everything stays on this one.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    devstack::exit_code(run().await)
}

async fn run() -> Result<()> {
    match Arguments::parse().command {
        Task::Up(arguments) => up::up(arguments).await,
        Task::Migrate(arguments) => migrate::migrate(&arguments),
        Task::Clean => clean::clean(),
        Task::Test(passed_on) => test::test(&passed_on),
        Task::Simulate(passed_on) => become_program("simulation", "simulation", &passed_on),
        Task::Chaos(passed_on) => become_program("chaos", "dev", &passed_on),
        Task::Bench(passed_on) => become_program("bench", "dev", &passed_on),
        Task::Move(PassedOn { mut arguments }) => {
            arguments.insert(0, "move".into());
            become_program("migrator", "dev", &PassedOn { arguments })
        }
        Task::Deploy(passed_on) => become_program("deploy-check", "dev", &passed_on),
    }
}

/// Builds a program of the workshop, and becomes it. It returns only when that fails.
fn become_program(package: &str, profile: &str, PassedOn { arguments }: &PassedOn) -> Result<()> {
    let mut cargo = workspace::cargo_command();
    cargo.args(["run", "--quiet", "--package", package, "--profile", profile, "--manifest-path"]);
    cargo.arg(Workspace::Workshop.manifest());
    cargo.arg("--target-dir").arg(Workspace::Workshop.target());
    cargo.arg("--").args(arguments);
    Err(cargo.exec()).with_context(|| format!("running {package}"))
}
