//! Pods: selectors and references reach pods that exist, Secrets have versions in their names, and what Checkov does
//! not see of
//! the Pod Security Standard "restricted".

use serde_json::Value;

use super::Findings;
use crate::render::{Object, Overlay, at, elements, text};

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
/// A namespace that is not restricted says why.
const REASON: &str = "deploy-check/pod-security-reason";

/// The objects of an overlay that make pods.
pub fn pods(overlay: &Overlay) -> impl Iterator<Item = &Object> {
    let makes_pods = |kind| matches!(kind, "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "SpinApp");
    overlay.objects.iter().filter(move |object| makes_pods(object.kind()))
}

/// The containers of an object with the path of each; none of a SpinApp.
pub fn containers(object: &Object) -> impl Iterator<Item = (String, &Value)> {
    ["initContainers", "containers"].into_iter().flat_map(|list| {
        let path = format!("spec.template.spec.{list}");
        let of_list = elements(object.at(&path)).enumerate();
        of_list.map(move |(n, container)| (format!("{path}.{n}"), container))
    })
}

/// Whether a selector takes an object's pods; an empty one takes none.
pub fn is_selected(pod: &Object, match_labels: &Value) -> bool {
    let labels = match pod.kind() {
        "SpinApp" => pod.at("spec.podLabels"),
        _ => pod.at("spec.template.metadata.labels"),
    };
    // spin-operator adds this label itself.
    let is_app = |name: &str, value: &Value| {
        pod.kind() == "SpinApp" && name == "core.spinkube.dev/app-name" && value == pod.name()
    };
    match_labels.as_object().is_some_and(|wanted| {
        !wanted.is_empty()
            && wanted
                .iter()
                .all(|(name, value)| labels[name] == *value || is_app(name, value))
    })
}

/// The number of a port, given its name or its number.
pub fn port(pod: &Object, wanted: &Value) -> Option<u64> {
    if pod.kind() == "SpinApp" {
        return (wanted == "http-app" || wanted == 80).then_some(80);
    }
    containers(pod)
        .flat_map(|(_, container)| elements(&container["ports"]))
        .find(|port| port["name"] == *wanted || port["containerPort"] == *wanted)?["containerPort"]
        .as_u64()
}

pub fn check(found: &mut Findings, overlay: &Overlay) {
    for object in &overlay.objects {
        let selector = match object.kind() {
            "Service" => "spec.selector",
            "NetworkPolicy" => "spec.podSelector.matchLabels",
            "PodDisruptionBudget" | "Deployment" | "StatefulSet" | "PodMonitor" => "spec.selector.matchLabels",
            _ => continue,
        };
        let own = |pod: &Object| pod.name() == object.name() && pod.kind() == object.kind();
        let needs_own = pods(overlay).any(own);
        let mut selected = pods(overlay)
            .filter(|pod| !needs_own || own(pod))
            .filter(|pod| is_selected(pod, object.at(selector)))
            .peekable();
        let reason = format!("selects no pod of {}", overlay.folder);
        found.when(selected.peek().is_none(), object, selector, reason);
        let ports = elements(object.at("spec.ports")).enumerate();
        for ((n, entry), pod) in ports.filter_map(|port| Some((port, *selected.peek()?))) {
            let target = entry.get("targetPort").unwrap_or(&entry["port"]);
            let reason = format!("{target} is no port of {}/{}", pod.kind(), pod.name());
            let field = format!("spec.ports.{n}.targetPort");
            found.when(port(pod, target).is_none(), object, &field, reason);
        }
    }
    let mut is_restricted = true;
    for namespace in overlay.of_kind("Namespace") {
        let level = &namespace.at("metadata.labels")[ENFORCE];
        is_restricted = level == "restricted";
        let has_reason = !text(&namespace.at("metadata.annotations")[REASON]).is_empty();
        let reason = format!("is {level}: must be restricted, or the annotation {REASON} must say why it is not");
        let field = format!("metadata.labels.{ENFORCE}");
        found.when(!is_restricted && !has_reason, namespace, &field, reason);
    }
    for pod in pods(overlay) {
        secrets(found, pod);
        if pod.kind() == "SpinApp" {
            let reason = "a SpinApp cannot express a security context, so its pods are not \"restricted\"";
            found.when(is_restricted, pod, "kind", reason);
            for field in ["requests.cpu", "requests.memory", "limits.memory"] {
                let field = format!("spec.resources.{field}");
                found.when(pod.at(&field).is_null(), pod, &field, "is missing");
            }
        }
        // Checkov is content with a number in runAsUser; "restricted" is not.
        for (path, container) in containers(pod) {
            let of_container = at(container, "securityContext.runAsNonRoot");
            let of_pod = pod.at("spec.template.spec.securityContext.runAsNonRoot");
            let is_set = of_container == true || (of_container.is_null() && of_pod == true);
            let field = format!("{path}.securityContext.runAsNonRoot");
            found.when(is_restricted && !is_set, pod, &field, "must be true");
        }
        for (n, volume) in elements(pod.at("spec.template.spec.volumes")).enumerate() {
            let field = format!("spec.template.spec.volumes.{n}");
            let is_of_node = is_restricted && !volume["hostPath"].is_null();
            found.when(is_of_node, pod, &field, "\"restricted\" does not allow a hostPath");
        }
        let constraints = elements(pod.at("spec.template.spec.topologySpreadConstraints"));
        for (n, constraint) in constraints.enumerate() {
            let field = format!("spec.template.spec.topologySpreadConstraints.{n}.labelSelector");
            let is_own = is_selected(pod, at(constraint, "labelSelector.matchLabels"));
            found.when(
                !is_own,
                pod,
                &field,
                "does not select its own pods, so nothing is spread",
            );
        }
    }
}

/// A changed secret rolls the pods: nothing in Kubernetes does that by itself, so the name of a Secret carries its
/// version, and
/// a new value is a new name.
fn secrets(found: &mut Findings, pod: &Object) {
    let mut names = Vec::new();
    let mut add = |list: &str, name: &str| {
        for (n, entry) in elements(pod.at(list)).enumerate() {
            names.push((format!("{list}.{n}.{name}"), at(entry, name)));
        }
    };
    for (path, _) in containers(pod) {
        add(&format!("{path}.env"), "valueFrom.secretKeyRef.name");
        add(&format!("{path}.envFrom"), "secretRef.name");
    }
    add("spec.template.spec.volumes", "secret.secretName");
    add("spec.variables", "valueFrom.secretKeyRef.name");
    for (field, name) in names {
        let reason =
            format!("Secret {name} has no version in its name (-v1): a new value would not reach running pods");
        let is_versioned = name.as_str().is_none_or(is_versioned);
        found.when(!is_versioned, pod, &field, reason);
    }
}

/// `-v1`, or `-v1-` and the hash that the generator of Kustomize appends.
fn is_versioned(name: &str) -> bool {
    let is_version = |part: &str| {
        let digits = part.strip_prefix('v').unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    match name.rsplit_once('-') {
        Some((_, last)) if is_version(last) => true,
        Some((name, hash)) => hash.len() == 10 && name.rsplit_once('-').is_some_and(|(_, v)| is_version(v)),
        None => false,
    }
}
