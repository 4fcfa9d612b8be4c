//! The program `simulation`: the protocol in every schedule within the bounds, and then at random.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use simulation::broken::Break;
use simulation::report::{Report, THREE, THREE_INTERLEAVED, TWO, replay, simulate};

// The simulation allocates often: with this allocator it runs 1.27 times as many schedules in the same time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the protocol through every schedule of a few requests and faults, and many at random.
#[derive(Parser)]
#[command(name = "cargo xtask simulate", bin_name = "cargo xtask simulate")]
struct Arguments {
    /// How long to run in all; the exhaustive part is completed in any case.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The first seed of the random part; the following ones come after it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run only this seed, and show what happens if it fails.
    #[arg(long)]
    replay: Option<u64>,
    /// Make a mistake of `broken.rs`, such as NoUniqueConstraint, and show how it fails.
    #[arg(long, conflicts_with = "replay", value_parser = mistake)]
    mistake: Option<Break>,
}

fn mistake(name: &str) -> Result<Break, String> {
    let named = Break::ALL.iter().find(|mistake| format!("{mistake:?}") == name);
    named.copied().ok_or_else(|| format!("one of {:?}", Break::ALL))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let time = Duration::from_secs(arguments.seconds);
    let outcome = match (arguments.replay, arguments.mistake) {
        (Some(seed), _) => conclude(&replay(None, seed)),
        (None, Some(mistake)) => conclude(&simulate(Some(mistake), arguments.seed, Instant::now() + time, &|_| {})),
        (None, None) => simulate_for(time, arguments.seed),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs everything within the bounds, then seeds until the time is up.
fn simulate_for(time: Duration, seed: u64) -> Result<()> {
    eprintln!("Simulating: two requests within {TWO:?}, three within {THREE:?} and {THREE_INTERLEAVED:?},");
    eprintln!("then seeds from {seed} on ...");
    let progress = |line: &str| eprintln!("  {line}");
    let report = simulate(None, seed, Instant::now() + time, &progress);
    eprintln!("The exhaustive part took {:.1} s.", report.exhaustive_took.as_secs_f64());
    println!("{}", report.coverage);
    conclude(&report)?;
    let (gaps, missed) = (report.coverage.gaps(), report.coverage.missed());
    ensure!(gaps.is_empty(), "no fault was placed at {gaps:?}; give it more time");
    ensure!(missed.is_empty(), "never seen: {missed:?}; give it more time");
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
