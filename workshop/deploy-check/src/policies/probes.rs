//! Probes ask for what the application answers, at the port that it listens on.

use serde_json::Value;

use super::pods::pods;
use crate::application::{Application, elements, text};
use crate::{Deployment, Finding};

/// Says that the process is alive. Probes that restart a pod ask for this: restarting it does not bring a
/// store back.
const HEALTH: &str = "/healthz";
/// Says whether orders can be created.
const READINESS: &str = "/readyz";

pub fn check(deployment: &Deployment, application: &Application<'_>) -> Vec<Finding> {
    let object = application.object;
    let (prefix, probes): (&str, &[(&str, &str)]) = match application.is_spin_app() {
        true => (
            "spec.checks",
            &[("readiness", READINESS), ("liveness", HEALTH)],
        ),
        false => (
            "spec.template.spec.containers[0]",
            &[
                ("startupProbe", HEALTH),
                ("readinessProbe", READINESS),
                ("livenessProbe", HEALTH),
            ],
        ),
    };
    let parent = match application.is_spin_app() {
        true => object.at("spec.checks"),
        false => elements(object.at("spec.template.spec.containers"))
            .next()
            .unwrap_or(&Value::Null),
    };
    let mut findings = Vec::new();
    for (name, expected) in probes {
        let field = format!("{prefix}.{name}.httpGet.path");
        let probe = &parent[name];
        match probe["httpGet"]["path"].as_str() {
            None => {
                findings
                    .push(object.finding(field, format!("is missing: it must ask for {expected}")));
                continue;
            }
            Some(path) if path != *expected => findings.push(object.finding(
                field,
                format!("asks for {path}: {name} must ask for {expected}"),
            )),
            Some(path) if !deployment.manifest.routes(path) => findings
                .push(object.finding(field, format!("no trigger in spin.toml takes {path}"))),
            Some(_) => {}
        }
        if *expected == READINESS {
            findings.extend(patience(deployment, application, prefix, name, probe));
        }
        if !application.is_spin_app() {
            findings.extend(port(application, prefix, name, probe));
        }
    }
    findings
}

/// A readiness probe that gives up before the component does takes pods away for being slow.
fn patience(
    deployment: &Deployment,
    application: &Application<'_>,
    prefix: &str,
    name: &str,
    probe: &Value,
) -> Option<Finding> {
    let timeout = probe["timeoutSeconds"].as_u64().unwrap_or(1);
    let deadline = application
        .value(&deployment.manifest, "database_timeout_ms")
        .and_then(|value| value.parse::<u64>().ok())?;
    (timeout * 1000 <= deadline).then(|| {
        application.object.finding(
            format!("{prefix}.{name}.timeoutSeconds"),
            format!("{timeout} s is not longer than database_timeout_ms ({deadline} ms)"),
        )
    })
}

fn port(application: &Application<'_>, prefix: &str, name: &str, probe: &Value) -> Option<Finding> {
    let object = application.object;
    let listen = elements(object.at("spec.template.spec.containers"))
        .flat_map(|container| elements(&container["env"]))
        .find(|env| env["name"] == "SPIN_HTTP_LISTEN_ADDR")
        .and_then(|env| text(&env["value"]).rsplit_once(':'))
        .and_then(|(_, port)| port.parse::<u64>().ok());
    let overlay = crate::render::Overlay {
        folder: String::new(),
        stage: crate::render::Stage::Part,
        objects: vec![object.clone()],
    };
    let asked = &probe["httpGet"]["port"];
    let number = pods(&overlay).first().and_then(|pod| pod.port(asked));
    let field = format!("{prefix}.{name}.httpGet.port");
    match (number, listen) {
        (None, _) => Some(object.finding(field, format!("{asked} is no port of the container"))),
        (_, None) => Some(object.finding(
            format!("{prefix}.env (SPIN_HTTP_LISTEN_ADDR)"),
            "is missing: Spin would listen on 127.0.0.1 only",
        )),
        (Some(number), Some(listen)) if number != listen => Some(object.finding(
            field,
            format!("asks at port {number}, and Spin listens on {listen}"),
        )),
        _ => None,
    }
}
