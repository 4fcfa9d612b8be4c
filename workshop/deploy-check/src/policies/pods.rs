//! The pods that an overlay's objects make, whichever kind makes them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::application::{elements, text};
use crate::render::{Object, Overlay, at};

/// A pod, as an object describes it.
pub struct Pod<'a> {
    /// The Deployment, Job, ... or SpinApp.
    pub object: &'a Object,
    /// Its labels, those that spin-operator adds included.
    pub labels: BTreeMap<String, String>,
    /// Its specification; `None` if spin-operator writes it.
    pub spec: Option<&'a Value>,
}

/// Where the objects have their pods' template.
pub const TEMPLATE: &str = "spec.template";

/// What spin-operator calls the port of a SpinApp.
pub const PORT_NAME: &str = "http-app";

/// All pods of an overlay.
pub fn pods(overlay: &Overlay) -> Vec<Pod<'_>> {
    overlay.objects.iter().filter_map(pod).collect()
}

fn pod(object: &Object) -> Option<Pod<'_>> {
    match object.kind() {
        "Deployment" | "StatefulSet" | "DaemonSet" | "Job" => Some(Pod {
            object,
            labels: labels(object.at("spec.template.metadata.labels")),
            spec: Some(object.at("spec.template.spec")),
        }),
        "SpinApp" => {
            let mut labels = labels(object.at("spec.podLabels"));
            labels.insert("core.spinkube.dev/app-name".into(), object.name().into());
            Some(Pod {
                object,
                labels,
                spec: None,
            })
        }
        _ => None,
    }
}

impl Pod<'_> {
    /// Whether a selector with `matchLabels` takes this pod. One without is not understood and takes none.
    pub fn is_selected_by(&self, match_labels: &Value) -> bool {
        let wanted = labels(match_labels);
        !wanted.is_empty()
            && wanted
                .iter()
                .all(|(name, value)| self.labels.get(name) == Some(value))
    }

    /// The number of a port, given its name or its number.
    pub fn port(&self, port: &Value) -> Option<u64> {
        let Some(spec) = self.spec else {
            // What spin-operator listens on.
            let is_it = port == PORT_NAME || port.as_u64() == Some(80);
            return is_it.then_some(80);
        };
        elements(&spec["containers"])
            .flat_map(|container| elements(&container["ports"]))
            .find(|entry| entry["name"] == *port || entry["containerPort"] == *port)
            .and_then(|entry| entry["containerPort"].as_u64())
    }

    /// Its containers with the path of each.
    pub fn containers(&self) -> Vec<(String, &Value)> {
        let Some(spec) = self.spec else {
            return Vec::new();
        };
        ["initContainers", "containers"]
            .into_iter()
            .flat_map(|list| {
                elements(at(spec, list))
                    .enumerate()
                    .map(move |(n, container)| (format!("{TEMPLATE}.spec.{list}[{n}]"), container))
            })
            .collect()
    }
}

fn labels(value: &Value) -> BTreeMap<String, String> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), text(value).to_owned()))
        .collect()
}
