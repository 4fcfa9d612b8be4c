//! Pods reach what they need and nothing else, and selectors, ports and routes lead to pods that are there.

use serde_json::Value;

use super::application::Application;
use super::{Findings, is_selected, pods, port};
use crate::render::{Object, Overlay, Stage, at, elements, text};

/// Ports that the application cannot do without: DNS, Redis and Postgres.
const NEEDED: [u64; 3] = [53, 6379, 5432];

pub fn check(found: &mut Findings, overlay: &Overlay, application: Option<&Application<'_>>) {
    overlay
        .objects
        .iter()
        .for_each(|object| selector(found, overlay, object));
    for route in overlay.of_kind("HTTPRoute") {
        for (n, rule) in elements(route.at("spec.rules")).enumerate() {
            for backend in elements(&rule["backendRefs"]) {
                let has_port = |object: &Object| match object.kind() {
                    "Service" => elements(object.at("spec.ports")).any(|entry| entry["port"] == backend["port"]),
                    // spin-operator makes its Service.
                    kind => kind == "SpinApp" && backend["port"] == 80,
                };
                let is_there = overlay
                    .objects
                    .iter()
                    .any(|o| o.name() == backend["name"] && has_port(o));
                let reason = format!("there is no Service {} with port {}", backend["name"], backend["port"]);
                found.when(!is_there, route, format!("spec.rules.{n}.backendRefs"), reason);
            }
        }
    }
    if overlay.stage == Stage::Laptop {
        return;
    }
    for pod in pods(overlay) {
        let policies: Vec<_> = policies(overlay, pod).collect();
        for direction in ["Ingress", "Egress"] {
            let mut types = policies
                .iter()
                .flat_map(|policy| elements(policy.at("spec.policyTypes")));
            let reason = format!("no NetworkPolicy limits {direction} of these pods");
            found.when(!types.any(|kind| kind == direction), pod, "metadata.labels", reason);
        }
        for policy in &policies {
            for (n, entry) in rules(policy, "ingress")
                .flat_map(|rule| elements(&rule["ports"]))
                .enumerate()
            {
                let reason = format!("{} is no port of {}/{}", entry["port"], pod.kind(), pod.name());
                found.when(
                    port(pod, &entry["port"]).is_none(),
                    policy,
                    format!("spec.ingress: port {n}"),
                    reason,
                );
            }
        }
        let is_application = application.is_some_and(|a| std::ptr::eq(a.object, pod));
        for needed in NEEDED.iter().filter(|_| is_application && !policies.is_empty()) {
            let egress = policies.iter().flat_map(|policy| rules(policy, "egress"));
            let is_open = egress
                .flat_map(|rule| elements(&rule["ports"]))
                .any(|entry| entry["port"] == *needed);
            let reason = format!("nothing lets these pods out to port {needed}, which they need");
            found.when(!is_open, pod, "metadata.labels", reason);
        }
    }
}

fn policies<'a>(overlay: &'a Overlay, pod: &'a Object) -> impl Iterator<Item = &'a Object> {
    let policies = overlay.of_kind("NetworkPolicy");
    policies.filter(|policy| is_selected(pod, policy.at("spec.podSelector.matchLabels")))
}

fn rules<'a>(policy: &'a Object, direction: &str) -> std::slice::Iter<'a, Value> {
    elements(&policy.at("spec")[direction])
}

/// What an object selects is there, and has the ports that it leads to. No validator looks into two objects.
fn selector(found: &mut Findings, overlay: &Overlay, object: &Object) {
    let selector = match object.kind() {
        "Service" => "spec.selector",
        "NetworkPolicy" => "spec.podSelector.matchLabels",
        "PodDisruptionBudget" | "Deployment" | "StatefulSet" | "PodMonitor" => "spec.selector.matchLabels",
        _ => return,
    };
    let own = |pod: &&Object| pod.name() == object.name() && pod.kind() == object.kind();
    let needs_own = pods(overlay).any(|pod| own(&pod));
    let mut selected = pods(overlay).filter(|pod| !needs_own || own(pod));
    let Some(pod) = selected.find(|pod| is_selected(pod, object.at(selector))) else {
        return found.when(true, object, selector, format!("selects no pod of {}", overlay.folder));
    };
    for (n, entry) in elements(object.at("spec.ports")).enumerate() {
        let target = entry.get("targetPort").unwrap_or(&entry["port"]);
        let reason = format!("{target} is no port of {}/{}", pod.kind(), pod.name());
        found.when(
            port(pod, target).is_none(),
            object,
            format!("spec.ports.{n}.targetPort"),
            reason,
        );
    }
    for (n, spread) in elements(pod.at("spec.template.spec.topologySpreadConstraints")).enumerate() {
        let field = format!("spec.template.spec.topologySpreadConstraints.{n}.labelSelector");
        let is_own = is_selected(pod, at(spread, "labelSelector.matchLabels"));
        found.when(
            !is_own && needs_own,
            pod,
            field,
            "does not select its own pods, so nothing is spread",
        );
    }
}

/// With identity "header", a client must neither send the header itself, nor reach the pods without the gateway.
pub fn customer_header(found: &mut Findings, overlay: &Overlay, application: &Object, header: &str) {
    for policy in policies(overlay, application) {
        for (n, rule) in rules(policy, "ingress").enumerate() {
            let is_anyone = |peer: &Value| {
                let selector = peer["namespaceSelector"].as_object();
                selector.is_some_and(serde_json::Map::is_empty) && peer["podSelector"].is_null()
            };
            let is_open = rule["from"].is_null() || elements(&rule["from"]).any(is_anyone);
            let reason = "identity is header, and pods of every namespace reach these: name the gateway's namespace";
            found.when(is_open, policy, format!("spec.ingress.{n}.from"), reason);
        }
    }
    let is_it = |name: &Value| text(name).eq_ignore_ascii_case(header);
    // Envoy Gateway removes it here, before it authenticates.
    let mut early = overlay.of_kind("ClientTrafficPolicy");
    if early.any(|policy| elements(policy.at("spec.headers.earlyRequestHeaders.remove")).any(is_it)) {
        return;
    }
    if overlay.of_kind("HTTPRoute").next().is_none() {
        let reason = format!("identity is header, and there is no HTTPRoute that removes the client's own {header}");
        found.0.push(overlay.kustomization.finding("components", reason));
    }
    for route in overlay.of_kind("HTTPRoute") {
        for (n, rule) in elements(route.at("spec.rules")).enumerate() {
            let is_handled = elements(&rule["filters"]).any(|filter| {
                let modifier = &filter["requestHeaderModifier"];
                elements(&modifier["remove"]).any(is_it) || elements(&modifier["set"]).any(|set| is_it(&set["name"]))
            });
            let reason = format!("identity is header, and this rule lets the client's own {header} pass");
            found.when(!is_handled, route, format!("spec.rules.{n}.filters"), reason);
        }
    }
}
