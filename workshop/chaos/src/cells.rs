//! Chaos with cells: two databases with hosts and a Redis each, and a program that moves customers between them, which
//! is killed and run again. Each request goes to a random host of both: every map that a gateway could have, a new one
//! and an outdated one, is a part of that.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use devstack::process::Process;
use devstack::{Postgres, workspace};
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{Client, Shared, send_all_again};
use crate::deployment::{Deployment, connect};
use crate::fault::{Fault, Sequence};
use crate::history::History;
use crate::judge::{Row, judge};
use crate::run::{Options, Report, finish, millis};
use crate::shop::FAULTS;
use crate::verdict::Violation;

/// How often the end of a move is looked for.
const POLL: Duration = Duration::from_millis(10);

/// How often a move is run again that was killed, or whose servers were down.
const MOST_TRIES: usize = 20;

/// Whose rows are a cell's own, and no copies of what was moved away.
const OWNED: &str = "SELECT DISTINCT customer_id FROM orders WHERE slot_of(customer_id) <@ owned_slots('orders')";

/// Runs moves, faults and clients, and judges what became of it.
pub async fn run(options: &Options, folder: &Path) -> Result<Report> {
    eprintln!("Starting two cells, each with Redis, Postgres and three hosts, on {} ...", options.host);
    let variables = [("redis_key_prefix", "chaos:".to_owned()), ("identity", "header".to_owned())];
    let manifest = workspace::root().join("spin.toml");
    let folders = ["a", "b"].map(|name| folder.join(name));
    let [a, b] = &folders;
    let mut cells = [
        Deployment::start(options, a, &manifest, &[], &variables).await?,
        Deployment::start(options, b, &manifest, &[], &variables).await?,
    ];
    for (cell, slots) in cells.iter().zip(["{[0,1024)}", "{}"]) {
        let fence = format!("SELECT own_slots('orders', '{slots}')");
        connect(&cell.postgres).await?.batch_execute(&fence).await?;
    }
    let history = Arc::new(History::begin());
    history.events().has_cells = true;
    let hosts = cells.iter().flat_map(|cell| &cell.hosts);
    let bases = hosts.map(|linked| linked.host.app.base_url()).collect();
    let shared = Arc::new(Shared::new(history.clone(), bases, options.clients)?);
    let mut clients = JoinSet::new();
    for number in 0..options.clients {
        clients.spawn_on(Client::new(shared.clone(), number, options.seed).run(), &options.background);
    }

    eprintln!("{} clients, moves for {} s, seed {}", options.clients, options.duration.as_secs(), options.seed);
    let mut rng = StdRng::seed_from_u64(options.seed);
    let mut faults = Sequence::shuffled(FAULTS.to_vec(), &mut rng);
    let (mut moves, mut killed, mut stuck) = (0, 0, Vec::new());
    while history.elapsed() < options.duration {
        if rng.random_bool(0.5) {
            cells.reverse();
        }
        let [from, to] = &mut cells;
        let first = rng.random_range(0..1024);
        let range = format!("{{[{first},{})}}", rng.random_range(first + 1..=1024));
        let slots = format!("SELECT (owned_slots('orders') * '{range}')::text");
        let slots: String = connect(&from.postgres).await?.query_one(&slots, &[]).await?.try_get(0)?;
        if slots == "{}" {
            continue;
        }
        let kind = rng.random_bool(0.5).then(|| faults.next(&[], &mut rng)).flatten();
        let fault = kind.map(|kind| Fault::random(kind, &mut rng));
        let urls = [from.postgres.url("postgres"), to.postgres.url("postgres")];
        let disturbed = if rng.random_bool(0.5) { from } else { to };
        if let Some(fault) = &fault {
            fault.begin(disturbed, &history).await?;
        }
        let patience = rng.random_bool(0.6).then(|| millis(&mut rng, 0, 300));
        let mut is_complete = run_move(&urls, &slots, patience).await?;
        if let Some(fault) = &fault {
            fault.end(disturbed).await?;
        }
        killed += usize::from(!is_complete);
        for _ in 0..MOST_TRIES {
            if !is_complete {
                is_complete = run_move(&urls, &slots, None).await?;
            }
        }
        if !is_complete {
            stuck.push(slots);
            break;
        }
        moves += 1;
        sleep(millis(&mut rng, 0, 500)).await;
    }

    let now = history.now();
    history.events().faults_ended_ms = Some(now);
    eprintln!("All moves have ended; clients complete what they have begun ...");
    shared.stop();
    finish(clients).await?;
    let mut all = 0;
    for cell in &cells {
        let count = "SELECT count(*) FROM generate_series(0, 1023) AS slot WHERE slot <@ owned_slots('orders')";
        all += connect(&cell.postgres).await?.query_one(count, &[]).await?.try_get::<_, i64>(0)?;
    }
    options.background.spawn(send_all_again(shared.clone(), options.seed)).await.context("a client failed")??;

    let (mut rows, mut copies) = (BTreeMap::new(), Vec::new());
    for cell in &cells {
        let owned = connect(&cell.postgres).await?.query(OWNED, &[]).await?;
        let owned = owned.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<Vec<String>>>()?;
        for row in cell.orders().await? {
            match owned.contains(&row.customer) {
                true => {
                    rows.insert((row.customer.clone(), row.key.clone()), row).map_or((), |twice| copies.push(twice))
                }
                false => copies.push(row),
            }
        }
    }
    let events = history.events();
    let stored: Vec<Row> = rows.values().cloned().collect();
    let mut verdict = judge(&events, &stored);
    let mut second = 0;
    if all != 1024 || !stuck.is_empty() {
        verdict.note(Violation::Unanswered, format!("the databases have {all} of 1024 slots; not moved: {stuck:?}"));
    }
    for copy in copies {
        match rows.get(&(copy.customer.clone(), copy.key.clone())) {
            Some(row) if *row == copy => {}
            Some(row) => {
                second += 1;
                verdict.note(Violation::Duplicate, format!("{row:?} is {copy:?} in the other cell"));
            }
            None => verdict.note(Violation::Lost, format!("the cell does not have {copy:?}")),
        }
    }
    if !verdict.violations.is_empty() {
        events.write(&folder.join("history.jsonl"))?;
    }
    let refused = events.requests.iter().filter(|request| request.status() == Some(421)).count();
    let [duplicates, lost, others] = [
        verdict.count(Violation::Duplicate),
        verdict.count(Violation::Lost),
        verdict.violations.values().map(Vec::len).sum::<usize>(),
    ];
    let text = format!(
        "cells: sent {}, acknowledged {}, refused with 421 {refused}, keys {}; moves {moves}, killed or failed first \
         {killed}\nduplicates {duplicates}, lost {lost}, second orders {second}, other violations {}",
        verdict.sent,
        verdict.acknowledged,
        verdict.keys,
        others - duplicates - lost,
    );
    drop(cells);
    for folder in &folders {
        Postgres::remove_all(folder)?;
    }
    Ok(Report { text, examples: verdict.examples() })
}

/// Runs the program that moves slots, and kills it after that time. Whether it has completed the move.
async fn run_move([from, to]: &[String; 2], slots: &str, patience: Option<Duration>) -> Result<bool> {
    let mut command = Command::new(workspace::tool("migrator"));
    command.args(["move", "--slots", slots]).env("FROM_DATABASE_URL", from).env("TO_DATABASE_URL", to);
    let mut process = Process::start("a move", &mut command, Signal::SIGKILL)?;
    if let Some(patience) = patience {
        sleep(patience).await;
        process.kill()?;
    }
    loop {
        match process.exited()? {
            Some(status) => return Ok(status.success()),
            None => sleep(POLL).await,
        }
    }
}
