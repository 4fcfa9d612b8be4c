//! Pods reach what they need and nothing else, and selectors, ports and routes lead to pods that are there. No
//! validator looks into two objects.

use serde_json::{Value, json};

use super::application::Application;
use super::{Findings, is_selected, pods, port};
use crate::render::{Object, Overlay, elements, text};

pub fn check(found: &mut Findings, overlay: &Overlay) {
    for object in &overlay.objects {
        selector(found, overlay, object);
    }
    for (route, n, rule) in route_rules(overlay) {
        for backend in elements(&rule["backendRefs"]) {
            let has_port = |object: &Object| match object.kind() {
                "Service" => elements(object.at("spec.ports")).any(|entry| entry["port"] == backend["port"]),
                // spin-operator makes its Service.
                kind => kind == "SpinApp" && backend["port"] == 80,
            };
            let mut named = overlay.objects.iter().filter(|o| o.name() == backend["name"]);
            let is_there = named.any(has_port);
            let reason = format!("there is no Service {} with port {}", backend["name"], backend["port"]);
            found.when(!is_there, route, format!("spec.rules.{n}.backendRefs"), reason);
        }
    }
    for pod in pods(overlay) {
        for policy in policies(overlay, pod) {
            for entry in ports(policy, "ingress") {
                let reason = format!("{} is no port of {}/{}", entry["port"], pod.kind(), pod.name());
                found.when(port(pod, &entry["port"]).is_none(), policy, "spec.ingress", reason);
            }
        }
    }
}

/// What the policies of an object's pods limit, to which ports they let out, and what else selects the pods, as an
/// object that rules are about.
pub fn reach(overlay: &Overlay, pod: &Object, kind: &str) -> Object {
    let types = policies(overlay, pod).flat_map(|policy| elements(policy.at("spec.policyTypes")));
    let ports = policies(overlay, pod).flat_map(|policy| ports(policy, "egress"));
    let (types, ports): (Vec<_>, Vec<_>) = (types.collect(), ports.map(|entry| &entry["port"]).collect());
    let selectors = ["spec.selector", "spec.selector.matchLabels"];
    let is_selecting = |o: &&Object| selectors.iter().any(|path| is_selected(pod, o.at(path)));
    let selecting = overlay.objects.iter().filter(is_selecting).map(Object::kind);
    // spin-operator makes the Service of a SpinApp.
    let made = (pod.kind() == "SpinApp").then_some("Service");
    let selecting: Vec<_> = selecting.chain(made).collect();
    pod.derive(kind, json!({"limited": types, "egress": ports, "selecting": selecting}))
}

fn policies<'a>(overlay: &'a Overlay, pod: &'a Object) -> impl Iterator<Item = &'a Object> {
    let policies = overlay.of_kind("NetworkPolicy");
    policies.filter(|policy| is_selected(pod, policy.at("spec.podSelector.matchLabels")))
}

fn ports<'a>(policy: &'a Object, direction: &str) -> impl Iterator<Item = &'a Value> {
    elements(&policy.at("spec")[direction]).flat_map(|rule| elements(&rule["ports"]))
}

fn route_rules(overlay: &Overlay) -> impl Iterator<Item = (&Object, usize, &Value)> {
    let routes = overlay.objects.iter().filter(|object| object.kind() == "HTTPRoute");
    routes.flat_map(|route| {
        let rules = elements(route.at("spec.rules")).enumerate();
        rules.map(move |(n, rule)| (route, n, rule))
    })
}

/// What an object selects is there, and has the ports that it leads to.
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
        let reason = format!("selects no pod of {}", overlay.folder);
        return found.when(true, object, selector, reason);
    };
    for (n, entry) in elements(object.at("spec.ports")).enumerate() {
        let target = entry.get("targetPort").unwrap_or(&entry["port"]);
        let reason = format!("{target} is no port of {}/{}", pod.kind(), pod.name());
        let field = format!("spec.ports.{n}.targetPort");
        found.when(port(pod, target).is_none(), object, field, reason);
    }
}

/// With identity "header", a client must neither send the header itself, nor reach the pods without the gateway.
pub fn customer_header(found: &mut Findings, overlays: &[Overlay], application: &Application<'_>) {
    let (overlay, header) = (application.overlay, application.value("identity_header"));
    for policy in policies(overlay, application.object) {
        for (n, rule) in elements(policy.at("spec.ingress")).enumerate() {
            let is_anyone = |peer: &Value| peer["namespaceSelector"] == json!({}) && peer["podSelector"].is_null();
            let is_open = rule["from"].is_null() || elements(&rule["from"]).any(is_anyone);
            let reason = "identity is header, and pods of every namespace reach these: name the gateway's namespace";
            found.when(is_open, policy, format!("spec.ingress.{n}.from"), reason);
        }
    }
    let is_it = |name: &Value| text(name).eq_ignore_ascii_case(header);
    // Envoy Gateway removes it here, before it authenticates; the policy is in the Gateway's namespace.
    let mut early = overlays.iter().flat_map(|overlay| overlay.of_kind("ClientTrafficPolicy"));
    if early.any(|policy| elements(policy.at("spec.headers.earlyRequestHeaders.remove")).any(is_it)) {
        return;
    }
    let reason = format!("identity is header, and there is no HTTPRoute that removes the client's own {header}");
    let has_none = route_rules(overlay).next().is_none();
    found.when(has_none, &overlay.kustomization, "components", reason);
    for (route, n, rule) in route_rules(overlay) {
        let is_handled = elements(&rule["filters"]).any(|filter| {
            let modifier = &filter["requestHeaderModifier"];
            elements(&modifier["remove"]).any(is_it) || elements(&modifier["set"]).any(|set| is_it(&set["name"]))
        });
        let reason = format!("identity is header, and this rule lets the client's own {header} pass");
        found.when(!is_handled, route, format!("spec.rules.{n}.filters"), reason);
    }
}
