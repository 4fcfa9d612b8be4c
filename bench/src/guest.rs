//! How much of its host's processor time the component's own code takes. Told by a runner that reads a clock
//! at every change between guest and host.

use std::time::Duration;

use anyhow::{Context, Result};
use devstack::{App, Host};
use serde::Deserialize;

use crate::contestants::{Component, Workload};
use crate::generator::wrk;
use crate::goals::{Bound, Goal};
use crate::stage::Stage;
use crate::statistics::median;
use crate::{GOAL_CONNECTIONS, Options, cpu};

/// How long each of the two hosts has its turn, and how often.
const SECONDS: u64 = 1;
const TURNS: usize = 3;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Calls {
    guest_nanoseconds: u64,
}

/// The guest's share on creation. Spin cannot tell, so it is the runner's.
pub async fn goal(options: &Options, stage: &Stage) -> Result<Goal> {
    let runner = options.hosts.iter().find(|h| matches!(h, Host::Runner(_)));
    let share = match runner {
        Some(runner) => share(options, stage, runner).await?,
        None => None,
    };
    Ok(Goal::new(
        "the guest's share of its host's processor time on create",
        Bound::AtMost(10.0),
        " %",
        share.map(|share| share * 100.0),
    ))
}

/// The guest's time per answer comes from a host that reads clocks, the host's from one that does not.
async fn share(options: &Options, stage: &Stage, runner: &Host) -> Result<Option<f64>> {
    let place = stage.place("guest").await?;
    let serve =
        |environment: &[(&str, &str)]| stage.serve(runner, Component::Ours, &place, environment);
    let (plain, measuring) = (serve(&[])?, serve(&[("RUNNER_MEASURE_GUESTS", "true")])?);
    let load = |app: &App| {
        let (url, workload) = (app.base_url(), Workload::Create);
        wrk(&options.wrk, &url, workload, GOAL_CONNECTIONS, SECONDS)
    };
    for app in [&plain, &measuring] {
        load(app)?;
    }
    let mut shares = Vec::new();
    for _ in 0..TURNS {
        let before = cpu::of_tree(plain.process_id());
        let answers = load(&plain)?.requests as f64;
        let after = cpu::of_tree(plain.process_id());
        let (Some(before), Some(after)) = (before, after) else {
            return Ok(None);
        };
        let host = after.saturating_sub(before).as_secs_f64() / answers;
        let before = guest(&measuring.base_url()).await?;
        let answers = load(&measuring)?.requests as f64;
        let spent = guest(&measuring.base_url()).await?.saturating_sub(before);
        shares.push(spent.as_secs_f64() / answers / host);
    }
    Ok(median(shares))
}

async fn guest(base_url: &str) -> Result<Duration> {
    let answer = reqwest::get(format!("{base_url}/.well-known/runner/calls")).await?;
    let calls: Calls = serde_json::from_str(&answer.text().await?)
        .context("the runner does not say what guests take")?;
    Ok(Duration::from_nanos(calls.guest_nanoseconds))
}
