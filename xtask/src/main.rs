//! The project's commands. Each does all it needs on a fresh machine: see `cargo xtask --help`.

mod bench;
mod chaos;
mod clean;
mod deploy;
mod migrate;
mod simulate;
mod test;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

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
    Test(test::Arguments),
    /// Run the protocol through every schedule of a few requests and faults, and many at random.
    Simulate(simulate::Arguments),
    /// Break a real deployment in every way we know while clients retry, and check what became of it.
    Chaos(chaos::Arguments),
    /// Measure the component against its host's floor, a naive component and native services.
    Bench(bench::Arguments),
    /// Bring a database of your own to the current schema, while components of two releases may run.
    Migrate(migrate::Arguments),
    /// Check the manifests in deploy/ without a cluster.
    #[command(subcommand)]
    Deploy(deploy::Arguments),
    /// Remove the data of `up` and what tests left behind.
    Clean,
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
        Task::Test(arguments) => test::test(arguments).await,
        Task::Simulate(arguments) => simulate::run(&arguments),
        Task::Chaos(arguments) => chaos::chaos(arguments).await,
        Task::Bench(arguments) => bench::bench(arguments).await,
        Task::Migrate(arguments) => migrate::migrate(arguments).await,
        Task::Deploy(arguments) => deploy::deploy(&arguments),
        Task::Clean => clean::clean(),
    }
}
