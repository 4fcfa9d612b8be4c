//! The commands that `cargo xtask` passes on: they link the simulation, chaos and the check of `deploy/`, which
//! `cargo xtask up` does not have to wait for.

mod chaos;
mod deploy;
mod simulate;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    /// Run all tests, the simulation and a minute of chaos, with everything they need.
    Test(test::Arguments),
    /// Run the protocol through every schedule of a few requests and faults, and many at random.
    Simulate(simulate::Arguments),
    /// Break a real deployment in every way we know while clients retry, and check what became of it.
    Chaos(chaos::Arguments),
    /// Check the manifests in deploy/ without a cluster.
    #[command(subcommand)]
    Deploy(deploy::Arguments),
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
        Task::Test(arguments) => test::test(arguments).await,
        Task::Simulate(arguments) => simulate::run(&arguments),
        Task::Chaos(arguments) => chaos::chaos(arguments).await,
        Task::Deploy(arguments) => deploy::deploy(&arguments),
    }
}
