//! Pods reach what they need and nothing else.

use std::collections::BTreeSet;

use serde_json::Value;

use super::pods::{Pod, pods};
use crate::Finding;
use crate::application::{Application, elements};
use crate::render::{Object, Overlay};

/// Ports that a pod may connect to: DNS, Redis, Postgres and OTLP.
const ALLOWED: [u64; 5] = [53, 6379, 5432, 4317, 4318];
/// Those that the application cannot do without.
const NEEDED: [u64; 3] = [53, 6379, 5432];

pub fn check(overlay: &Overlay) -> Vec<Finding> {
    if !overlay.is_for_a_cluster() {
        return Vec::new();
    }
    let pods = pods(overlay);
    let application = Application::of(overlay);
    let mut findings = Vec::new();
    for pod in &pods {
        let policies: Vec<&Object> = overlay
            .of_kind("NetworkPolicy")
            .filter(|policy| pod.is_selected_by(policy.at("spec.podSelector.matchLabels")))
            .collect();
        for direction in ["Ingress", "Egress"] {
            let is_limited = policies.iter().any(|policy| {
                elements(policy.at("spec.policyTypes")).any(|kind| kind == direction)
            });
            if !is_limited {
                findings.push(pod.object.finding(
                    "metadata.labels",
                    format!("no NetworkPolicy limits these pods' {direction}"),
                ));
            }
        }
        for policy in &policies {
            findings.extend(egress(policy));
            findings.extend(ingress(policy, pod));
        }
        let is_application = application
            .as_ref()
            .is_some_and(|application| std::ptr::eq(application.object, pod.object));
        if is_application && let Some(policy) = policies.first() {
            let open: BTreeSet<u64> = policies
                .iter()
                .flat_map(|policy| open_ports(policy))
                .collect();
            for port in NEEDED.iter().filter(|port| !open.contains(port)) {
                findings.push(policy.finding(
                    "spec.egress",
                    format!("lets nothing out to port {port}, which the application needs"),
                ));
            }
        }
    }
    findings
}

fn open_ports(policy: &Object) -> Vec<u64> {
    elements(policy.at("spec.egress"))
        .flat_map(|rule| elements(&rule["ports"]))
        .filter_map(|port| port["port"].as_u64())
        .collect()
}

fn egress(policy: &Object) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (n, rule) in elements(policy.at("spec.egress")).enumerate() {
        let ports = elements(&rule["ports"]);
        if ports.len() == 0 {
            findings.push(policy.finding(
                format!("spec.egress[{n}].ports"),
                "is missing, which allows every port",
            ));
        }
        for (m, port) in ports.enumerate() {
            let is_range = !port["endPort"].is_null();
            let is_allowed = port["port"]
                .as_u64()
                .is_some_and(|port| ALLOWED.contains(&port));
            if is_range || !is_allowed {
                findings.push(policy.finding(
                    format!("spec.egress[{n}].ports[{m}]"),
                    format!("lets out to {}: only {ALLOWED:?} are needed", port["port"]),
                ));
            }
        }
    }
    findings
}

fn ingress(policy: &Object, pod: &Pod<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (n, rule) in elements(policy.at("spec.ingress")).enumerate() {
        let field = format!("spec.ingress[{n}]");
        if matches!(rule["ports"], Value::Null) {
            findings.push(policy.finding(field, "names no port, which allows every one"));
            continue;
        }
        for (m, entry) in elements(&rule["ports"]).enumerate() {
            if pod.port(&entry["port"]).is_none() {
                findings.push(policy.finding(
                    format!("{field}.ports[{m}]"),
                    format!(
                        "{} is no port of {}/{}",
                        entry["port"],
                        pod.object.kind(),
                        pod.object.name()
                    ),
                ));
            }
        }
    }
    findings
}
