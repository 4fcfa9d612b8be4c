//! `cargo xtask test`: builds everything, starts the stores that tests share, runs all tests, and then the
//! simulation, and chaos for a minute.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use devstack::{Browser, Postgres, Programs, Redis, Shared, workspace};

/// The partitions of `orders` in the second run of the tests over HTTP.
const PARTITIONS: u32 = 8;

/// What these tests show is the same whatever the table is like, or needs the table that the migrations create.
const NOT_ON_PARTITIONS: [&str; 10] = [
    "bad_input::",
    "hosting::",
    "identity::",
    "logging::",
    "postgres_faults::",
    "redis_faults::",
    "roles::",
    "security::",
    "tls::",
    "validation::",
];

/// The number of orders in the table that is migrated under load; without this variable, it is smaller.
const ROLLOUT_ROWS: (&str, &str) = ("ROLLOUT_ROWS", "1000000");

#[derive(clap::Args)]
pub struct Arguments {
    /// Fail rather than install a missing Redis or Postgres with apt.
    #[arg(long)]
    no_install: bool,
    /// Leave out the minute of `cargo xtask chaos` at the end; so do names of tests.
    #[arg(long)]
    no_chaos: bool,
    /// Passed on to the test programs: parts of test names, or options such as `-- --nocapture`.
    rest: Vec<String>,
}

pub async fn test(arguments: Arguments) -> Result<()> {
    let start = Instant::now();
    workspace::ensure_wasm_target()?;
    let programs = Programs::find_or_install(!arguments.no_install)?;
    // Only the console's tests need it, and they say that they are skipped.
    if let Err(why) = Browser::find_or_install(!arguments.no_install) {
        eprintln!("The console will not be tested in a browser: {why:#}");
    }
    workspace::build_components()?;
    workspace::build_for_wasm(&["order-by-key", "order-by-etag"])?;
    workspace::build_runner()?;

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
    shared.create_template().await?;
    let partitioned = Shared {
        partitions: PARTITIONS,
        ..shared.clone()
    };
    partitioned.create_template().await?;

    let everything = ["test", "--workspace", "--no-fail-fast", "--"];
    let passed = cargo(&shared, &everything, &arguments.rest)?;
    eprintln!("\nThe tests over HTTP once more, on tables of {PARTITIONS} hash partitions:");
    let over_http = ["test", "--package", "orders", "--test", "api", "--"];
    let skipped = NOT_ON_PARTITIONS.iter().flat_map(|name| ["--skip", name]);
    let over_http: Vec<_> = over_http.into_iter().chain(skipped).collect();
    let passed_on_partitions = cargo(&partitioned, &over_http, &arguments.rest)?;

    drop(redis);
    drop(postgres);
    ensure!(
        passed && passed_on_partitions,
        "tests failed; the servers' and applications' logs are in {}",
        folder.display()
    );
    Postgres::remove(&folder.join("postgres"))?;
    std::fs::remove_dir_all(&folder)?;
    // A run with named tests runs only those.
    if arguments.rest.is_empty() {
        crate::simulate::simulate_in_tests()?;
        if !arguments.no_chaos {
            crate::chaos::for_test(programs).await?;
        }
    }
    eprintln!("All tests passed in {} s.", start.elapsed().as_secs());
    Ok(())
}

/// Runs cargo for tests on these stores; says whether they passed.
fn cargo(shared: &Shared, command: &[&str], rest: &[String]) -> Result<bool> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut tests = Command::new(cargo);
    shared.tell(&mut tests);
    if rest.is_empty() {
        tests.env(ROLLOUT_ROWS.0, ROLLOUT_ROWS.1);
    }
    let status = tests
        .args(command)
        .args(rest)
        .current_dir(workspace::root())
        // For the runners that tests start: some assert how often the stores were asked.
        .env("RUNNER_COUNT_CALLS", "true")
        .status();
    Ok(status.context("running cargo test")?.success())
}
