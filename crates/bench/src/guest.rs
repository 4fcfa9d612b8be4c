//! How much of its host's processor time a component's own code takes, told by a runner that looks every so
//! often.

use anyhow::{Context, Result, bail};
use devstack::Host;
use serde::Deserialize;

use crate::contestants::{CREATE, Contestant, REPLAY, ROWS, Row, Workload};
use crate::generator::wrk;
use crate::stage::{Stage, finish_replayed_keys};
use crate::{GOAL_CONNECTIONS, Options};

/// What was found for one row.
pub struct GuestShare {
    /// Which.
    pub row: Row,
    /// The guest's part of the host's processor time, 0 to 1.
    pub share: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Calls {
    samples: u64,
    guest_samples: u64,
}

/// The shares of all components. Only the runner can tell; on Spin there are none.
pub async fn measure(options: &Options, stage: &Stage) -> Result<Vec<GuestShare>> {
    let is_wanted = |row: &Row| !options.quick || [CREATE, REPLAY].contains(&row.name);
    let mut shares = Vec::new();
    for host in options
        .hosts
        .iter()
        .filter(|h| matches!(h, Host::Runner(_)))
    {
        for row in ROWS.into_iter().filter(is_wanted) {
            if matches!(row.contestant, Contestant::Component(_)) {
                shares.push(GuestShare {
                    row,
                    share: share(options, stage, host, row).await?,
                });
            }
        }
    }
    Ok(shares)
}

async fn share(options: &Options, stage: &Stage, host: &Host, row: Row) -> Result<f64> {
    let Contestant::Component(component) = row.contestant else {
        bail!("{} has no guest", row.name);
    };
    let place = stage.place(&format!("{} guest", row.name)).await?;
    let app = stage.serve(
        host,
        component,
        &place,
        &[("RUNNER_MEASURE_GUESTS", "true")],
    )?;
    let url = app.base_url();
    if row.workload == Workload::Replay {
        finish_replayed_keys(&url).await?;
    }
    let load = |seconds| wrk(&options.wrk, &url, row.workload, GOAL_CONNECTIONS, seconds);
    load(1)?;
    let before = looks(&url).await?;
    load(if options.quick { 2 } else { 5 })?;
    let after = looks(&url).await?;
    let guest = after.guest_samples - before.guest_samples;
    Ok(guest as f64 / (after.samples - before.samples).max(1) as f64)
}

async fn looks(base_url: &str) -> Result<Calls> {
    let answer = reqwest::get(format!("{base_url}/.well-known/runner/calls")).await?;
    serde_json::from_str(&answer.text().await?)
        .context("the runner does not say what it found in guests")
}
