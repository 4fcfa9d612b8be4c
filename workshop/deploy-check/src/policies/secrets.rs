//! A changed secret rolls the pods: nothing in Kubernetes does that by itself, so a Secret's name carries
//! its version, and a new value is a new name.

use serde_json::Value;

use super::pods::{TEMPLATE, pods};
use crate::Finding;
use crate::application::elements;
use crate::render::Overlay;

pub fn check(overlay: &Overlay) -> Vec<Finding> {
    let mut findings = Vec::new();
    for pod in pods(overlay) {
        let mut names: Vec<(String, &Value)> = Vec::new();
        for (path, container) in pod.containers() {
            for (n, env) in elements(&container["env"]).enumerate() {
                names.push((
                    format!("{path}.env[{n}].valueFrom.secretKeyRef.name"),
                    &env["valueFrom"]["secretKeyRef"]["name"],
                ));
            }
            for (n, source) in elements(&container["envFrom"]).enumerate() {
                names.push((
                    format!("{path}.envFrom[{n}].secretRef.name"),
                    &source["secretRef"]["name"],
                ));
            }
        }
        if let Some(spec) = pod.spec {
            for (n, volume) in elements(&spec["volumes"]).enumerate() {
                names.push((
                    format!("{TEMPLATE}.spec.volumes[{n}].secret.secretName"),
                    &volume["secret"]["secretName"],
                ));
            }
        }
        for (n, variable) in elements(pod.object.at("spec.variables")).enumerate() {
            names.push((
                format!("spec.variables[{n}].valueFrom.secretKeyRef.name"),
                &variable["valueFrom"]["secretKeyRef"]["name"],
            ));
        }
        for (field, name) in names {
            if let Some(name) = name.as_str()
                && !is_versioned(name)
            {
                findings.push(pod.object.finding(
                    field,
                    format!(
                        "Secret {name:?} has no version in its name (such as -v1), so a new value would not \
                         reach running pods"
                    ),
                ));
            }
        }
    }
    findings
}

/// `-v1`, or `-v1-` and the hash that Kustomize's generator appends.
fn is_versioned(name: &str) -> bool {
    let parts: Vec<&str> = name.split('-').rev().take(2).collect();
    let is_version = |part: &&str| {
        part.strip_prefix('v')
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
    };
    match parts.as_slice() {
        [hash, version] => is_version(hash) || (hash.len() == 10 && is_version(version)),
        _ => false,
    }
}
