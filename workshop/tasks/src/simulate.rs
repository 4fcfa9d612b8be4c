//! `cargo xtask simulate`: the protocol in every schedule within the bounds, and then at random.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use devstack::process::Process;
use nix::sys::signal::Signal;
use simulation::report::{Report, THREE, THREE_INTERLEAVED, TWO, replay, simulate};
use simulation::scenario::Real;

/// How many seconds `cargo xtask test` lets it run. The exhaustive part always runs to its end.
const SECONDS_IN_TESTS: &str = "45";
/// How often its output is read.
const POLL: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub struct Arguments {
    /// How long to run in all; the exhaustive part is completed in any case.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The first seed of the random part; the following ones come after it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run only this seed, and show what happens if it fails.
    #[arg(long)]
    replay: Option<u64>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    match arguments.replay {
        Some(seed) => conclude(&replay(&Real, seed)),
        None => simulate_for(Duration::from_secs(arguments.seconds), arguments.seed),
    }
}

/// A simulation beside the tests, in a process that gets only the processor time that the tests leave: they often wait
/// for a store or for time to pass. It always has the same seeds, so that a change is what makes a difference.
pub struct BesideTests {
    process: Process,
    output: File,
}

impl BesideTests {
    /// Starts it; its output goes to a file in that folder.
    pub fn start(folder: &Path) -> Result<Self> {
        let output = folder.join("simulation.log");
        let written = File::create(&output)?;
        let mut simulate = Command::new("nice");
        simulate
            .args(["-n", "19"])
            .arg(std::env::current_exe()?)
            .args(["simulate", "--seconds", SECONDS_IN_TESTS])
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
    pub fn finish(mut self) -> Result<()> {
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

/// Runs everything within the bounds, then seeds until the time is up.
fn simulate_for(time: Duration, seed: u64) -> Result<()> {
    eprintln!(
        "Simulating: two requests within {TWO:?}, three within {THREE:?} and {THREE_INTERLEAVED:?},"
    );
    eprintln!("then seeds from {seed} on ...");
    let progress = |line: &str| eprintln!("  {line}");
    let report = simulate(&Real, seed, Instant::now() + time, &progress);
    eprintln!(
        "The exhaustive part took {:.1} s.",
        report.exhaustive_took.as_secs_f64()
    );
    println!("{}", report.coverage);
    conclude(&report)?;
    let gaps = report.coverage.gaps();
    ensure!(
        gaps.is_empty(),
        "no fault was placed at {gaps:?}; give it more time"
    );
    Ok(())
}

fn conclude(report: &Report) -> Result<()> {
    if let Some(finding) = &report.finding {
        println!("{}", finding.text);
    }
    let violations = u32::from(report.finding.is_some());
    println!(
        "schedules {}, steps {}, faults {}, violations {violations}",
        report.coverage.schedules,
        report.coverage.steps,
        report.coverage.faults(),
    );
    ensure!(violations == 0, "the protocol was violated");
    Ok(())
}
