//! Measures the share of the runner's processor time that a component's own code takes. The runner samples
//! at intervals whether its threads run component code.

use anyhow::{Context, Result, bail};
use devstack::Host;
use serde::Deserialize;

use crate::contestants::{CREATE, Contestant, REPLAY, ROWS, Row, Workload};
use crate::environment::{Environment, complete_replayed_keys};
use crate::figures::GuestShare;
use crate::generator::{Requests, wrk};
use crate::options::{GOAL_CONNECTIONS, Options};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Samples {
    samples: u64,
    guest_samples: u64,
}

/// The shares of all components on the runner. Spin cannot measure them.
pub async fn measure(options: &Options, environment: &Environment) -> Result<Vec<GuestShare>> {
    let is_wanted = |row: &Row| !options.quick || [CREATE, REPLAY].contains(&row.name);
    let is_runner = |host: &&Host| matches!(host, Host::Runner(_));
    let mut shares = Vec::new();
    for host in options.hosts.iter().filter(is_runner) {
        for row in ROWS.into_iter().filter(is_wanted) {
            if matches!(row.contestant, Contestant::Component(_)) {
                let share = share(options, environment, host, row).await?;
                shares.push(GuestShare { row, share });
            }
        }
    }
    Ok(shares)
}

async fn share(options: &Options, environment: &Environment, host: &Host, row: Row) -> Result<f64> {
    let Contestant::Component(component) = row.contestant else {
        bail!("{} is not a component", row.name);
    };
    let storage = environment.storage(&format!("{} guest", row.name)).await?;
    let app = environment.serve_with(host, component, &storage, |command| {
        command.env("RUNNER_MEASURE_GUESTS", "true");
    })?;
    let url = app.base_url();
    let requests = Requests::default();
    if row.workload == Workload::Replay {
        complete_replayed_keys(&url, &requests).await?;
    }
    let load = |seconds| {
        let workload = row.workload;
        wrk(
            &options.wrk,
            &url,
            workload,
            &requests,
            GOAL_CONNECTIONS,
            seconds,
        )
    };
    load(1)?;
    let before = samples(&url).await?;
    load(if options.quick { 2 } else { 5 })?;
    let after = samples(&url).await?;
    let guest = after.guest_samples - before.guest_samples;
    Ok(guest as f64 / (after.samples - before.samples).max(1) as f64)
}

async fn samples(base_url: &str) -> Result<Samples> {
    let response = reqwest::get(format!("{base_url}/.well-known/runner/calls")).await?;
    serde_json::from_str(&response.text().await?)
        .context("the runner does not return its samples of guest code")
}
