//! `cargo xtask test`, which has built all programs and the application's components: builds those of the examples,
//! starts the stores that tests share, runs all tests and chaos for a minute, with the longest test beside the last of
//! them and the simulation beside all of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use devstack::process::Process;
use devstack::{Browser, Postgres, Programs, Redis, examples, workspace};
use fixtures::Shared;
use fixtures::debezium::Debezium;
use fixtures::kafka::Kafka;
use nix::sys::signal::Signal;
use openapi_check::tools::{NodeTools, Schemathesis};
use serde_json::{Value, json};

use crate::simulate::BesideTests;

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

/// What these tests show needs Redis or Postgres, or has its like in `embedded::`.
const NOT_EMBEDDED: [&str; 42] = [
    // Covered by the first run: no store is asked, or a server is watched meanwhile.
    "bad_input::",
    "identity::a_bad_token_is_refused_before_any_store_is_asked",
    "security::without_a_key_nothing_invites_to_repeat_blindly",
    "validation::bad_requests_are_refused_and_reserve_nothing",
    // Redis: its faults, its records and its lock.
    "redis_faults::",
    "concurrency::duplicates_without_redis_all_get_the_same_order",
    "conditional::a_value_without_an_expiry_is_not_a_lock",
    "conditional::while_the_lock_is_held_other_creations_get_retry_after",
    "conditional_races::a_lock_expires_while_its_holder_is_still_creating",
    "conditional_races::of_ten_at_once_without_redis_one_creates",
    "conditional_races::of_two_hundred_on_three_hosts_one_creates_while_redis_is_killed",
    "conditional_races::one_creates_while_locks_are_lost_all_the_time",
    "creation::a_replay_survives_a_flush_of_redis",
    "creation::a_replay_survives_the_expiry_of_its_record",
    "identity::customers_never_meet",
    "key_reuse::a_reservation_of_a_dead_request_refuses_no_other_order",
    "keys::a_key_is_unknown_then_completed_whatever_redis_contains",
    "keys::a_refused_condition_leaves_no_key_in_progress",
    "keys::a_reserved_key_is_in_progress_until_its_order_exists",
    "keys::the_state_of_a_key_needs_postgres_and_not_redis",
    // Histories: no record outlives a row.
    "history::",
    // Postgres: its faults, roles, schema and SQL.
    "postgres_faults::",
    "retention::",
    "roles::",
    "tls::",
    "changed_rules::a_retry_without_the_condition_that_is_required_by_now_gets_the_order",
    "concurrency::a_host_killed_during_requests_loses_and_duplicates_no_order",
    "conditional_races::a_creation_waits_for_the_transaction_on_the_same_state",
    "conditional_races::plain_orders_do_not_queue_up_behind_a_conditional_one",
    "creation::a_finished_order_is_replayed_without_postgres",
    "creation::a_replay_survives_a_restart_of_everything",
    "events::nothing_is_shown_beyond_an_order_that_is_not_committed",
    "events::postgres_that_stops_during_a_wait_ends_in_503_and_the_cursor_stays_valid",
    "hosting::a_request_aborted_by_a_stop_is_repaired_by_its_retry",
    "hosting::connections_outside_allowed_outbound_hosts_are_refused",
    "hosting::secrets_appear_in_no_log",
    "listing::an_order_that_appears_below_the_newest_changes_the_tag",
    "logging::",
    "reading::a_database_",
    "reading::health_asks_no_store_and_readiness_asks_both",
    "host_calls::",
    "trips::",
];

/// The longest test, and the program that has it. In a run of all tests it runs beside chaos and the tests before it:
/// all of them often wait.
const LONGEST: (&str, &str) = (
    "tests/rollout/main.rs",
    "live::a_large_table_is_migrated_under_load",
);

/// The program that has the tests over HTTP.
const OVER_HTTP: &str = "tests/api/main.rs";

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
    let programs = Programs::find_or_install(!arguments.no_install)?;
    // One waits for the network, the other computes.
    std::thread::scope(|scope| {
        scope.spawn(|| install_tools(!arguments.no_install));
        workspace::build_for_wasm(workspace::Workspace::Showcase, &["order-by-key"])?;
        workspace::build_for_wasm(workspace::Workspace::Showcase, &examples::packages("shop"))
    })?;

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

    // A run with named tests runs only those.
    let is_whole = arguments.rest.is_empty();
    let simulation = is_whole.then(|| BesideTests::start(&folder)).transpose()?;
    let [over_http, longest] = test_programs([OVER_HTTP, LONGEST.0])?;
    let mut everything = cargo_test();
    everything.args(["--no-fail-fast", "--"]);
    if is_whole {
        everything.args(["--skip", LONGEST.1]);
    }
    let passed = passes(everything, &shared, &arguments.rest)?;
    let longest = is_whole
        .then(|| start_longest(&longest, &shared))
        .transpose()?;
    eprintln!("\nThe tests over HTTP once more, on tables of {PARTITIONS} hash partitions:");
    let without = |names: &[&str]| {
        let mut tests = Command::new(&over_http);
        tests.args(names.iter().flat_map(|name| ["--skip", name]));
        tests
    };
    let tests = without(&NOT_ON_PARTITIONS);
    let passed_on_partitions = passes(tests, &partitioned, &arguments.rest)?;
    eprintln!("\nThe tests over HTTP once more, on the embedded store. These do not apply to it:");
    eprintln!("  {}", NOT_EMBEDDED.join("\n  "));
    let embedded = Shared {
        embedded: true,
        ..shared.clone()
    };
    let passed_embedded = passes(without(&NOT_EMBEDDED), &embedded, &arguments.rest)?;

    let failed = || {
        let folder = folder.display();
        format!("tests failed; the servers' and applications' logs are in {folder}")
    };
    ensure!(passed && passed_on_partitions && passed_embedded, failed());
    if is_whole && !arguments.no_chaos {
        crate::chaos::for_test(programs).await?;
    }
    if let Some(mut longest) = longest {
        eprintln!("\nWaiting for the longest test, {} ...", LONGEST.1);
        ensure!(longest.wait()?.success(), failed());
    }
    drop(redis);
    drop(postgres);
    Postgres::remove(&folder.join("postgres"))?;
    if let Some(simulation) = simulation {
        eprintln!("\nThe simulation, which has run beside the tests and chaos:");
        simulation.finish()?;
    }
    std::fs::remove_dir_all(&folder)?;
    eprintln!("All tests passed in {} s.", start.elapsed().as_secs());
    Ok(())
}

/// Starts the longest test, which the tests that cargo has run leave out.
fn start_longest(program: &Path, shared: &Shared) -> Result<Process> {
    let tests = Command::new(program).arg("--list").output()?.stdout;
    let is_there = String::from_utf8_lossy(&tests).contains(&format!("{}: test", LONGEST.1));
    ensure!(is_there, "there is no test {} in {}", LONGEST.1, LONGEST.0);
    eprintln!(
        "\nThe longest test, {}, beside all that follows:",
        LONGEST.1
    );
    let mut test = Command::new(program);
    told(test.args(["--exact", LONGEST.1]), shared, &[]);
    Process::start("the longest test", &mut test, Signal::SIGKILL)
}

/// Installs what only some tests need, which say that they are skipped without it.
fn install_tools(may_install: bool) {
    if let Err(why) = Browser::find_or_install(may_install) {
        eprintln!("The pages will not be tested in a browser: {why:#}");
    }
    if let Err(why) = NodeTools::find_or_install(may_install) {
        eprintln!(
            "The API's description will not be linted, nor the Postman collection run: {why:#}"
        );
    }
    if let Err(why) = Schemathesis::find_or_install(may_install) {
        eprintln!("Schemathesis will not test the APIs: {why:#}");
    }
    if let Err(why) = Kafka::find_or_install(may_install) {
        eprintln!("No orders will go to a Kafka topic: {why:#}");
    }
    if let Err(why) = Debezium::find_or_install(may_install) {
        eprintln!("Debezium will not read the change stream: {why:#}");
    }
}

/// Cargo's call for all tests.
fn cargo_test() -> Command {
    let mut cargo = workspace::cargo_command();
    cargo
        .arg("test")
        .arg("--manifest-path")
        .arg(workspace::Workspace::Workshop.manifest())
        .args(workspace::TESTED);
    cargo
}

/// The programs that are built from these files. Asking cargo to run only one would compile its dependencies once more,
/// as [`workspace::build_all`] says.
fn test_programs<const N: usize>(files: [&str; N]) -> Result<[PathBuf; N]> {
    let output = cargo_test()
        .args(["--no-run", "--message-format=json-render-diagnostics"])
        .current_dir(workspace::root())
        .stderr(Stdio::inherit())
        .output()
        .context("running cargo test")?;
    ensure!(output.status.success(), "the tests do not compile");
    let artifacts = output.stdout.split(|byte| *byte == b'\n');
    let artifacts: Vec<Value> = artifacts
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    let program = |file: &str| {
        let source = json!(workspace::root().join(file));
        let built = artifacts
            .iter()
            .find(|artifact| artifact.pointer("/target/src_path") == Some(&source));
        let path = built.and_then(|artifact| artifact.get("executable")?.as_str());
        path.map(PathBuf::from)
            .with_context(|| format!("cargo names no program for {file}"))
    };
    let programs: Vec<PathBuf> = files.into_iter().map(program).collect::<Result<_>>()?;
    programs
        .try_into()
        .ok()
        .context("there is one program for each file")
}

/// Runs tests on these stores; says whether they passed.
fn passes(mut tests: Command, shared: &Shared, rest: &[String]) -> Result<bool> {
    let status = told(&mut tests, shared, rest).status();
    Ok(status.context("running tests")?.success())
}

/// Tells tests their stores, and how to run.
fn told<'t>(tests: &'t mut Command, shared: &Shared, rest: &[String]) -> &'t mut Command {
    shared.tell(tests);
    if rest.is_empty() {
        tests.env(ROLLOUT_ROWS.0, ROLLOUT_ROWS.1);
    }
    tests
        .args(rest)
        .current_dir(workspace::root())
        // More than there are processors: most tests wait for a store or for time to pass.
        .env("RUST_TEST_THREADS", "3")
        // For the runners that tests start: some assert how often the stores were asked.
        .env("RUNNER_COUNT_CALLS", "true")
}
