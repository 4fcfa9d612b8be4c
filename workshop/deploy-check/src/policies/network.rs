//! Pods reach what they need and nothing else, and routes reach a Service.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Findings;
use super::application::Application;
use super::pods::{is_selected, pods, port};
use crate::render::{Object, Overlay, Stage, elements, text};

/// Ports that a pod may connect to: DNS, Redis, Postgres and OTLP.
const ALLOWED: [u64; 5] = [53, 6379, 5432, 4317, 4318];
/// Those that the application cannot do without.
const NEEDED: [u64; 3] = [53, 6379, 5432];

pub fn check(found: &mut Findings, overlay: &Overlay, application: Option<&Application<'_>>) {
    for route in overlay.of_kind("HTTPRoute") {
        for (n, rule) in elements(route.at("spec.rules")).enumerate() {
            for backend in elements(&rule["backendRefs"]) {
                let has_port = |object: &&Object| match object.kind() {
                    "Service" => elements(object.at("spec.ports")).any(|entry| entry["port"] == backend["port"]),
                    // spin-operator makes its Service.
                    kind => kind == "SpinApp" && backend["port"] == 80,
                };
                let mut named = overlay.objects.iter().filter(|o| o.name() == backend["name"]);
                let reason = format!("there is no Service {} with port {}", backend["name"], backend["port"]);
                let field = format!("spec.rules.{n}.backendRefs");
                found.when(!named.any(|object| has_port(&object)), route, &field, reason);
            }
        }
    }
    if overlay.stage == Stage::Laptop {
        return;
    }
    for pod in pods(overlay) {
        let policies: Vec<&Object> = overlay
            .of_kind("NetworkPolicy")
            .filter(|policy| is_selected(pod, policy.at("spec.podSelector.matchLabels")))
            .collect();
        for direction in ["Ingress", "Egress"] {
            let types = policies
                .iter()
                .flat_map(|policy| elements(policy.at("spec.policyTypes")));
            let is_limited = types.clone().any(|kind| kind == direction);
            let reason = format!("no NetworkPolicy limits {direction} of these pods");
            found.when(!is_limited, pod, "metadata.labels", reason);
        }
        let mut open = BTreeSet::new();
        for policy in &policies {
            for (rule, entry) in ports(found, policy, "egress") {
                let number = entry["port"].as_u64().unwrap_or(0);
                let is_allowed = ALLOWED.contains(&number) && entry["endPort"].is_null();
                let reason = format!("lets out to {}: only {ALLOWED:?} are needed", entry["port"]);
                found.when(!is_allowed, policy, &rule, reason);
                open.insert(number);
            }
            for (rule, entry) in ports(found, policy, "ingress") {
                let reason = format!("{} is no port of {}/{}", entry["port"], pod.kind(), pod.name());
                found.when(port(pod, &entry["port"]).is_none(), policy, &rule, reason);
            }
        }
        let is_application = application.is_some_and(|a| std::ptr::eq(a.object, pod));
        for needed in NEEDED.iter().filter(|port| is_application && !open.contains(port)) {
            let reason = format!("nothing lets these pods out to port {needed}, which they need");
            found.when(!policies.is_empty(), pod, "metadata.labels", reason);
        }
    }
}

/// The ports of all rules of a direction, with the path of each. A rule without ports allows every one.
fn ports<'a>(found: &mut Findings, policy: &'a Object, direction: &str) -> Vec<(String, &'a Value)> {
    let mut all = Vec::new();
    for (n, rule) in elements(policy.at(&format!("spec.{direction}"))).enumerate() {
        let field = format!("spec.{direction}.{n}.ports");
        let ports = elements(&rule["ports"]);
        found.when(ports.len() == 0, policy, &field, "is missing, which allows every port");
        all.extend(ports.enumerate().map(|(m, port)| (format!("{field}.{m}"), port)));
    }
    all
}

/// With identity "header", a client must not be able to send the header itself.
pub fn customer_header(found: &mut Findings, overlay: &Overlay, header: &str) {
    let is_it = |name: &Value| text(name).eq_ignore_ascii_case(header);
    // Envoy Gateway removes it here, before it authenticates.
    let removed = "spec.headers.earlyRequestHeaders.remove";
    if overlay
        .of_kind("ClientTrafficPolicy")
        .any(|policy| elements(policy.at(removed)).any(is_it))
    {
        return;
    }
    if overlay.of_kind("HTTPRoute").next().is_none() {
        let reason = format!("identity is header, and there is no HTTPRoute that removes the client's own {header}");
        found.0.push(overlay.finding("components", reason));
    }
    for route in overlay.of_kind("HTTPRoute") {
        for (n, rule) in elements(route.at("spec.rules")).enumerate() {
            let is_handled = elements(&rule["filters"]).any(|filter| {
                let modifier = &filter["requestHeaderModifier"];
                elements(&modifier["remove"]).any(is_it) || elements(&modifier["set"]).any(|set| is_it(&set["name"]))
            });
            let reason = format!("identity is header, and this rule lets the client's own {header} pass");
            found.when(!is_handled, route, &format!("spec.rules.{n}.filters"), reason);
        }
    }
}
