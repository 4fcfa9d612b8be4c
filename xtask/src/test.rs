//! `cargo xtask test`: builds everything, starts the stores that tests share, runs all tests, and then the
//! simulation, and chaos for a minute.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use devstack::shared::TEMPLATE;
use devstack::{Postgres, Programs, Redis, Shared, migrate, workspace};

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
    workspace::build_component()?;
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
    };
    migrate::create_database(&shared.postgres_url, TEMPLATE, None).await?;
    migrate::migrate(&postgres.url(TEMPLATE)).await?;

    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    shared.tell(&mut command);
    let status = command
        .args(["test", "--workspace", "--no-fail-fast", "--"])
        .args(&arguments.rest)
        .current_dir(workspace::root())
        // For the runners that tests start: some assert how often the stores were asked.
        .env("RUNNER_COUNT_CALLS", "true")
        .status()
        .context("running cargo test")?;

    drop(redis);
    drop(postgres);
    ensure!(
        status.success(),
        "tests failed; the servers' and applications' logs are in {}",
        folder.display()
    );
    Postgres::remove(&folder.join("postgres"))?;
    std::fs::remove_dir_all(&folder)?;
    // Whoever names tests wants just those.
    if arguments.rest.is_empty() {
        crate::simulate::simulate_in_tests()?;
        if !arguments.no_chaos {
            crate::chaos::for_test(programs).await?;
        }
    }
    eprintln!("All tests passed in {} s.", start.elapsed().as_secs());
    Ok(())
}
