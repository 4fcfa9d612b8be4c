//! Selectors select: HPA, PDB, NetworkPolicy, Service and HTTPRoute are about pods that exist.

use serde_json::Value;

use super::pods::{Pod, pods};
use crate::Finding;
use crate::application::{Application, elements, text};
use crate::render::{Object, Overlay};

/// Where each kind has its selector.
const SELECTORS: [(&str, &str); 6] = [
    ("Service", "spec.selector"),
    ("PodDisruptionBudget", "spec.selector.matchLabels"),
    ("NetworkPolicy", "spec.podSelector.matchLabels"),
    ("Deployment", "spec.selector.matchLabels"),
    ("StatefulSet", "spec.selector.matchLabels"),
    ("PodMonitor", "spec.selector.matchLabels"),
];

pub fn check(overlay: &Overlay) -> Vec<Finding> {
    let pods = pods(overlay);
    let mut findings = Vec::new();
    for object in &overlay.objects {
        for (kind, field) in SELECTORS {
            if object.kind() != kind {
                continue;
            }
            let mut candidates = pods.iter().filter(|pod| match kind {
                // These are about their own pods only.
                "Deployment" | "StatefulSet" => {
                    pod.object.kind() == kind && pod.object.name() == object.name()
                }
                _ => true,
            });
            if !candidates.any(|pod| pod.is_selected_by(object.at(field))) {
                findings.push(object.finding(
                    field,
                    format!("selects no pod of {}: {}", overlay.folder, object.at(field)),
                ));
            }
        }
    }
    for pod in &pods {
        findings.extend(spread(pod));
    }
    for service in overlay.of_kind("Service") {
        findings.extend(service_ports(service, &pods));
    }
    for autoscaler in overlay.of_kind("HorizontalPodAutoscaler") {
        findings.extend(target(overlay, autoscaler));
    }
    for route in overlay.of_kind("HTTPRoute") {
        findings.extend(backends(overlay, route));
    }
    if let Some(application) = Application::of(overlay) {
        findings.extend(is_covered(overlay, &application, &pods));
    }
    findings
}

/// The application's pods have a disruption budget, and a Service unless spin-operator makes it.
fn is_covered(overlay: &Overlay, application: &Application<'_>, pods: &[Pod<'_>]) -> Vec<Finding> {
    let object = application.object;
    let Some(pod) = pods.iter().find(|pod| std::ptr::eq(pod.object, object)) else {
        return Vec::new();
    };
    let field = match application.is_spin_app() {
        true => "spec.podLabels",
        false => "spec.template.metadata.labels",
    };
    SELECTORS
        .iter()
        .filter(|(kind, _)| match *kind {
            "PodDisruptionBudget" => true,
            "Service" => !application.is_spin_app(),
            _ => false,
        })
        .filter(|(kind, selector)| {
            !overlay
                .of_kind(kind)
                .any(|other| pod.is_selected_by(other.at(selector)))
        })
        .map(|(kind, _)| object.finding(field, format!("no {kind} selects these pods")))
        .collect()
}

fn spread(pod: &Pod<'_>) -> Vec<Finding> {
    let Some(spec) = pod.spec else {
        return Vec::new();
    };
    elements(&spec["topologySpreadConstraints"])
        .enumerate()
        .filter(|(_, constraint)| !pod.is_selected_by(&constraint["labelSelector"]["matchLabels"]))
        .map(|(n, _)| {
            pod.object.finding(
                format!("spec.template.spec.topologySpreadConstraints[{n}].labelSelector"),
                "does not select the pods that it is written for, so nothing is spread",
            )
        })
        .collect()
}

fn service_ports(service: &Object, pods: &[Pod<'_>]) -> Vec<Finding> {
    let Some(pod) = pods
        .iter()
        .find(|pod| pod.is_selected_by(service.at("spec.selector")))
    else {
        return Vec::new();
    };
    elements(service.at("spec.ports"))
        .enumerate()
        .filter_map(|(n, port)| {
            let target = match &port["targetPort"] {
                Value::Null => &port["port"],
                target => target,
            };
            pod.port(target).is_none().then(|| {
                service.finding(
                    format!("spec.ports[{n}].targetPort"),
                    format!(
                        "{target} is no port of {}/{}",
                        pod.object.kind(),
                        pod.object.name()
                    ),
                )
            })
        })
        .collect()
}

fn target(overlay: &Overlay, autoscaler: &Object) -> Vec<Finding> {
    let mut findings = Vec::new();
    let kind = text(autoscaler.at("spec.scaleTargetRef.kind"));
    let name = text(autoscaler.at("spec.scaleTargetRef.name"));
    let target = overlay.objects.iter().find(|object| {
        // spin-operator gives the Deployment that it makes the SpinApp's name.
        let made = object.kind() == "SpinApp" && kind == "Deployment";
        object.name() == name && (object.kind() == kind || made)
    });
    let Some(target) = target else {
        findings.push(autoscaler.finding(
            "spec.scaleTargetRef",
            format!("there is no {kind} {name} in {}", overlay.folder),
        ));
        return findings;
    };
    if !target.at("spec.replicas").is_null() {
        findings.push(target.finding(
            "spec.replicas",
            "the autoscaler owns the number of replicas: each apply would reset it",
        ));
    }
    if target.kind() == "SpinApp" && target.at("spec.enableAutoscaling") != true {
        findings.push(target.finding(
            "spec.enableAutoscaling",
            "must be true: spin-operator would reset what the autoscaler sets",
        ));
    }
    let minimum = autoscaler.at("spec.minReplicas").as_u64().unwrap_or(1);
    if minimum < 2 {
        findings.push(autoscaler.finding(
            "spec.minReplicas",
            format!("{minimum} replica is none while its node is drained: at least 2"),
        ));
    }
    findings
}

fn backends(overlay: &Overlay, route: &Object) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (n, rule) in elements(route.at("spec.rules")).enumerate() {
        for (m, backend) in elements(&rule["backendRefs"]).enumerate() {
            let name = text(&backend["name"]);
            let port = &backend["port"];
            let of_service = overlay.of_kind("Service").any(|service| {
                service.name() == name
                    && elements(service.at("spec.ports")).any(|entry| entry["port"] == *port)
            });
            let of_spin_app = overlay
                .of_kind("SpinApp")
                .any(|app| app.name() == name && port.as_u64() == Some(80));
            if !of_service && !of_spin_app {
                findings.push(route.finding(
                    format!("spec.rules[{n}].backendRefs[{m}]"),
                    format!(
                        "there is no Service {name} with port {port} in {}",
                        overlay.folder
                    ),
                ));
            }
        }
    }
    findings
}
