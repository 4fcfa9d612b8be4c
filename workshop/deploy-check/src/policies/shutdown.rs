//! A pod that ends has answered everything: Spin ends at SIGTERM without finishing requests, so preStop must
//! last until the last request has been answered.

use serde_json::Value;

use crate::application::{Application, elements};
use crate::{Deployment, Finding};

/// How long a request's body may take to arrive: the component's `BODY_DEADLINE`.
const BODY_SECONDS: u64 = 10;
/// How long gateways may go on sending requests to a pod that is ending.
const PROPAGATION_SECONDS: u64 = 5;
/// What the process needs to end.
const END_SECONDS: u64 = 5;

pub fn check(deployment: &Deployment, application: &Application<'_>) -> Vec<Finding> {
    // A SpinApp has no field for any of this.
    if application.is_spin_app() {
        return Vec::new();
    }
    let object = application.object;
    let milliseconds = |name: &str| -> u64 {
        let value = application.value(&deployment.manifest, name);
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    let stores =
        (milliseconds("database_timeout_ms") + milliseconds("redis_timeout_ms")).div_ceil(1000);
    let needed = PROPAGATION_SECONDS + BODY_SECONDS + stores;

    let mut findings = Vec::new();
    let container = elements(object.at("spec.template.spec.containers"))
        .next()
        .unwrap_or(&Value::Null);
    let field = "spec.template.spec.containers[0].lifecycle.preStop.sleep.seconds";
    let pre_stop = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
    match pre_stop {
        None => findings.push(object.finding(
            field,
            "is missing: Spin ends at SIGTERM in the middle of requests",
        )),
        Some(seconds) if seconds < needed => findings.push(object.finding(
            field,
            format!(
                "{seconds} s is less than a request may take: {PROPAGATION_SECONDS} s until no more come, \
                 {BODY_SECONDS} s for a body and {stores} s for the stores"
            ),
        )),
        Some(_) => {}
    }
    let grace = object
        .at("spec.template.spec.terminationGracePeriodSeconds")
        .as_u64()
        .unwrap_or(30);
    let pre_stop = pre_stop.unwrap_or(0);
    if grace < pre_stop + END_SECONDS {
        findings.push(object.finding(
            "spec.template.spec.terminationGracePeriodSeconds",
            format!("{grace} s is less than preStop ({pre_stop} s) and {END_SECONDS} s to end"),
        ));
    }
    let unavailable = object.at("spec.strategy.rollingUpdate.maxUnavailable");
    if unavailable != 0 {
        findings.push(object.finding(
            "spec.strategy.rollingUpdate.maxUnavailable",
            format!("is {unavailable}: must be 0, so that a rollout never serves with fewer pods"),
        ));
    }
    findings
}
