//! How much of its host's processor time the component's own code takes. Measured in a run of its own, in
//! which the runner reads a clock at every change between guest and host.

use std::time::Duration;

use anyhow::{Context, Result};
use devstack::Host;
use serde::Deserialize;

use crate::contestants::{Component, Workload};
use crate::generator::wrk;
use crate::goals::{Bound, Goal};
use crate::stage::Stage;
use crate::{GOAL_CONNECTIONS, Options, cpu};

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

async fn share(options: &Options, stage: &Stage, runner: &Host) -> Result<Option<f64>> {
    let place = stage.place("guest").await?;
    let measuring = [("RUNNER_MEASURE_GUESTS", "true")];
    let app = stage.serve(runner, Component::Ours, &place, &measuring)?;
    let base_url = app.base_url();
    let load = |seconds| {
        let workload = Workload::Create;
        wrk(&options.wrk, &base_url, workload, GOAL_CONNECTIONS, seconds)
    };
    load(1)?;
    let (guest_before, host_before) = (guest(&base_url).await?, cpu::of_tree(app.process_id()));
    load(options.round_seconds())?;
    let (guest_after, host_after) = (guest(&base_url).await?, cpu::of_tree(app.process_id()));
    let (Some(before), Some(after)) = (host_before, host_after) else {
        return Ok(None);
    };
    let host = after.saturating_sub(before);
    let guest = guest_after.saturating_sub(guest_before);
    Ok(Some(guest.as_secs_f64() / host.as_secs_f64()))
}

async fn guest(base_url: &str) -> Result<Duration> {
    let answer = reqwest::get(format!("{base_url}/.well-known/runner/calls")).await?;
    let calls: Calls = serde_json::from_str(&answer.text().await?)
        .context("the runner does not say what guests take")?;
    Ok(Duration::from_nanos(calls.guest_nanoseconds))
}
