//! The program `chaos`: injects faults into a real deployment, and prints what became of it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use chaos::{Faults, Options};
use clap::Parser;
use devstack::workspace::{self, Workspace};
use devstack::{Host, Programs, examples};
use tokio::runtime::Runtime;

/// Breaks a real deployment in every way we know while clients retry, and checks what became of it.
#[derive(Parser)]
#[command(name = "cargo xtask chaos", bin_name = "cargo xtask chaos")]
struct Arguments {
    /// How long faults are injected, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Repeat the faults and the client requests of another run; by default the seed is random.
    #[arg(long)]
    seed: Option<u64>,
    /// The number of clients.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// Inject failovers only: of Postgres with synchronous and asynchronous replication, and of Redis.
    #[arg(long)]
    failover: bool,
    /// Replay completed orders from Redis while Postgres does not respond, as is the default of the component. Leaves
    /// out failovers with asynchronous replication.
    #[arg(long)]
    replay_during_outage: bool,
    /// Break the shop instead: from order to payment and notification, once each.
    #[arg(long, conflicts_with_all = ["failover", "clients", "replay_during_outage"])]
    shop: bool,
    /// Move customers between two databases instead, while each request goes to a random pod of both.
    #[arg(long, conflicts_with_all = ["failover", "shop", "replay_during_outage"])]
    cells: bool,
    /// Fail rather than install a missing Redis or Postgres with apt.
    #[arg(long)]
    no_install: bool,
    /// The components and the host are built.
    #[arg(long, hide = true)]
    built: bool,
}

// Children are tied to the thread that starts them, so everything stays on this one.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    devstack::exit_code(chaos(Arguments::parse()).await)
}

async fn chaos(arguments: Arguments) -> Result<()> {
    let Arguments { seconds, clients, failover, replay_during_outage, shop, cells, .. } = arguments;
    let programs = Programs::find_or_install(!arguments.no_install)?;
    if !arguments.built {
        workspace::ensure_wasm_target()?;
        match shop {
            true => workspace::build_for_wasm(Workspace::Showcase, &examples::packages("shop"))?,
            false => workspace::build_components()?,
        }
        workspace::build_tools(&["runner", "migrator"])?;
    }
    // 32 bits are short enough to type.
    let seed = arguments.seed.unwrap_or_else(|| rand::random::<u32>().into());
    let (host, background) = (Host::chosen()?, Runtime::new()?);
    let options = Options {
        faults: match (shop, failover, cells) {
            (true, ..) => Faults::Shop,
            (_, true, _) => Faults::Failovers,
            (.., true) => Faults::Moves,
            _ => Faults::All,
        },
        replay_during_outage,
        duration: Duration::from_secs(seconds),
        seed,
        clients: clients.into(),
        programs,
        host,
        background: background.handle().clone(),
    };
    let report = chaos::run(&options).await;
    // A runtime must not wait for another one.
    background.shutdown_background();
    let report = report?;
    println!("{}", report.text);
    if report.examples.is_empty() {
        return Ok(());
    }
    for example in &report.examples {
        eprintln!("{example}");
    }
    let mut again: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--built").collect();
    if arguments.seed.is_none() {
        again.push(format!("--seed {seed}"));
    }
    bail!("chaos found violations with seed {seed}; the same faults again: cargo xtask chaos {}", again.join(" "));
}
