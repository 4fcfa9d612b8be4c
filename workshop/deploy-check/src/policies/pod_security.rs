//! Pods hold the Pod Security Standard "restricted" (Kubernetes' own), and what goes beyond it: a read-only
//! root, no token for the API, and bounded memory.

use serde_json::Value;

use super::pods::{Pod, TEMPLATE, pods};
use crate::Finding;
use crate::application::elements;
use crate::render::{Overlay, at};

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
/// A namespace that is not restricted says why.
const REASON: &str = "deploy-check/pod-security-reason";

/// The volumes that "restricted" allows.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

pub fn check(overlay: &Overlay) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut is_restricted = true;
    for namespace in overlay.of_kind("Namespace") {
        let level = &namespace.value["metadata"]["labels"][ENFORCE];
        let reason = &namespace.value["metadata"]["annotations"][REASON];
        is_restricted = level == "restricted";
        if !is_restricted && reason.as_str().is_none_or(str::is_empty) {
            findings.push(namespace.finding(
                format!("metadata.labels.{ENFORCE}"),
                format!("is {level}: must be restricted, or the annotation {REASON} must say why it is not"),
            ));
        }
    }
    for pod in pods(overlay) {
        findings.extend(ours(&pod));
        if is_restricted {
            findings.extend(restricted(&pod));
        }
    }
    findings
}

fn restricted(pod: &Pod<'_>) -> Vec<Finding> {
    let Some(spec) = pod.spec else {
        return vec![pod.object.finding(
            "kind",
            "a SpinApp cannot express a security context, so its pods are not \"restricted\"",
        )];
    };
    let mut findings = Vec::new();
    let mut find = |field: String, reason: &str| findings.push(pod.object.finding(field, reason));
    for name in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec[name] == true {
            find(format!("{TEMPLATE}.spec.{name}"), "must not be set");
        }
    }
    for (n, volume) in elements(&spec["volumes"]).enumerate() {
        let is_allowed = VOLUMES.iter().any(|kind| !volume[kind].is_null());
        if !is_allowed {
            find(
                format!("{TEMPLATE}.spec.volumes[{n}]"),
                "is of a kind that \"restricted\" does not allow",
            );
        }
    }
    let of_pod = &spec["securityContext"];
    for (path, container) in pod.containers() {
        let context = &container["securityContext"];
        // The container's word counts before the pod's.
        let effective = |name: &str| match at(context, name) {
            Value::Null => at(of_pod, name).clone(),
            value => value.clone(),
        };
        if effective("runAsNonRoot") != true {
            find(
                format!("{path}.securityContext.runAsNonRoot"),
                "must be true",
            );
        }
        if effective("runAsUser") == 0 {
            find(format!("{path}.securityContext.runAsUser"), "must not be 0");
        }
        let profile = effective("seccompProfile.type");
        if profile != "RuntimeDefault" && profile != "Localhost" {
            find(
                format!("{path}.securityContext.seccompProfile.type"),
                "must be RuntimeDefault or Localhost",
            );
        }
        if context["allowPrivilegeEscalation"] != false {
            find(
                format!("{path}.securityContext.allowPrivilegeEscalation"),
                "must be false",
            );
        }
        if context["privileged"] == true {
            find(
                format!("{path}.securityContext.privileged"),
                "must not be set",
            );
        }
        if !elements(&context["capabilities"]["drop"]).any(|name| name == "ALL") {
            find(
                format!("{path}.securityContext.capabilities.drop"),
                "must contain ALL",
            );
        }
        if elements(&context["capabilities"]["add"]).any(|name| name != "NET_BIND_SERVICE") {
            find(
                format!("{path}.securityContext.capabilities.add"),
                "may contain NET_BIND_SERVICE only",
            );
        }
        if elements(&container["ports"]).any(|port| !port["hostPort"].is_null()) {
            find(format!("{path}.ports.hostPort"), "must not be set");
        }
    }
    findings
}

fn ours(pod: &Pod<'_>) -> Vec<Finding> {
    let object = pod.object;
    let mut findings = Vec::new();
    let Some(spec) = pod.spec else {
        for field in [
            "spec.resources.requests.cpu",
            "spec.resources.requests.memory",
            "spec.resources.limits.memory",
        ] {
            if object.at(field).is_null() {
                findings.push(object.finding(field, "is missing"));
            }
        }
        return findings;
    };
    if spec["automountServiceAccountToken"] != false {
        findings.push(object.finding(
            format!("{TEMPLATE}.spec.automountServiceAccountToken"),
            "must be false: nothing here talks to the Kubernetes API",
        ));
    }
    for (path, container) in pod.containers() {
        if container["securityContext"]["readOnlyRootFilesystem"] != true {
            findings.push(object.finding(
                format!("{path}.securityContext.readOnlyRootFilesystem"),
                "must be true",
            ));
        }
        for field in ["requests.cpu", "requests.memory", "limits.memory"] {
            if at(&container["resources"], field).is_null() {
                findings.push(object.finding(format!("{path}.resources.{field}"), "is missing"));
            }
        }
    }
    findings
}
