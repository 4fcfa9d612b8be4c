//! What no validator can know: the rules that follow from this application, its variables, its stores and its shutdown.

mod application;
mod network;
mod rules;
mod stores;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::render::{Object, Overlay, elements, text, yaml};
use application::Application;
use rules::Rule;

/// What the variables are called in the environment of a pod.
const PREFIX: &str = "SPIN_VARIABLE_";
const CONTAINER: &str = "spec.template.spec.containers.0";
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const FILES: [(&str, &str); 8] = [
    ("spin.toml", "Manifest"),
    ("docs/operations.md", "Operations"),
    ("deploy/image/Containerfile", "Containerfile"),
    ("deploy/image/migrator.Containerfile", "Containerfile"),
    ("deploy/events/feed.Containerfile", "Containerfile"),
    ("deploy/image/runtime-config.toml", "RuntimeConfig"),
    ("deploy/stores/valkey/values.yaml", "Values"),
    ("deploy/README.md", "StoreUrls"),
];

/// Files that no kustomization includes, as objects that rules are about; and the rules.
pub struct Files {
    objects: Vec<Object>,
    rules: Vec<Rule>,
}

impl Files {
    /// Reads them with a function from a path in the checkout to a text.
    pub fn load(read: impl Fn(&str) -> Result<String>) -> Result<Self> {
        let object = |(file, kind): (&str, &str)| {
            let content = read(file)?;
            let mut value = match kind {
                "Manifest" | "RuntimeConfig" => toml::from_str(&content).context(file.to_owned())?,
                "Values" => yaml(&content).context(file.to_owned())?,
                "StoreUrls" => stores::urls_of_guide(&content),
                "Operations" => json!({"lines": content.lines().collect::<Vec<_>>()}),
                _ => instructions(&content),
            };
            let name = file.rsplit('/').next().and_then(|name| name.split('.').next());
            value["kind"] = kind.into();
            value["metadata"] = json!({"name": name});
            let (file, stage) = (file.to_owned(), "template".to_owned());
            Ok(Object { file, stage, value })
        };
        let objects = FILES.into_iter().map(object).collect::<Result<_>>()?;
        let rules = rules::load()?;
        Ok(Self { objects, rules })
    }

    fn of_kind(&self, kind: &str) -> &Value {
        let mut objects = self.objects.iter().filter(|object| object.kind() == kind);
        objects.next().map_or(&Value::Null, |object| &object.value)
    }
}

/// The arguments of each instruction of a Containerfile; those of ENV by name.
fn instructions(containerfile: &str) -> Value {
    let mut found = json!({"FROM": [], "ARG": [], "ENV": {}});
    for (instruction, arguments) in containerfile.lines().filter_map(|line| line.split_once(' ')) {
        match (&mut found[instruction], arguments.split_once('=')) {
            (Value::Array(list), _) => list.push(arguments.into()),
            (Value::Object(members), Some((name, value))) => drop(members.insert(name.into(), value.into())),
            _ => {}
        }
    }
    found
}

/// Collects what is wrong.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    /// Adds a finding if something `is_wrong`.
    fn when(&mut self, is_wrong: bool, object: &Object, field: impl Into<String>, reason: impl Into<String>) {
        if is_wrong {
            self.0.push(object.finding(&field.into(), &reason.into()));
        }
    }
}

/// Applies every policy.
pub fn check(files: &Files, overlays: &[Overlay]) -> Vec<String> {
    let mut found = Findings::default();
    let rules = |found: &mut Findings, object: &Object, is_restricted| {
        for rule in &files.rules {
            rule.check(found, object, is_restricted);
        }
    };
    files.objects.iter().for_each(|object| rules(&mut found, object, true));
    let kinds: Vec<_> = overlays.iter().flat_map(|overlay| &overlay.objects).map(Object::kind).collect();
    for overlay in overlays {
        let mut namespaces = overlay.of_kind("Namespace");
        let is_restricted = namespaces.all(|object| object.at("metadata.labels")[ENFORCE] == "restricted");
        let application = Application::of(files, overlay);
        let mut objects = overlay.objects.clone();
        for object in &overlay.objects {
            alerts(&mut found, files, object);
            objects.extend(texts(&mut found, object));
        }
        objects.extend(pods(overlay).map(|pod| network::reach(overlay, pod, "Pods")));
        if let Some(application) = &application {
            objects.push(network::reach(overlay, application.object, "PodsOfApplication"));
            objects.push(application.facts.clone());
            objects.push(application.object.derive("Deployed", json!({"kinds": kinds})));
            application.check(&mut found, files);
            stores::capacity(&mut found, files, overlays, application);
            if application.value("identity") == "header" {
                network::customer_header(&mut found, overlays, application);
            }
        }
        for object in &objects {
            rules(&mut found, object, is_restricted);
        }
        stores::check(&mut found, overlay);
        network::check(&mut found, overlay);
        let is_empty = application.is_none() && overlay.folder.starts_with("deploy/overlays/");
        let reason = "has neither a SpinApp nor a Deployment that sets SPIN_VARIABLE_...";
        found.when(is_empty, &overlay.kustomization, "resources", reason);
    }
    found.0
}

/// What objects carry as text: configurations of collectors, and the URLs of stores.
fn texts(found: &mut Findings, object: &Object) -> Vec<Object> {
    if object.kind() == "Secret" {
        return vec![object.derive("StoreUrls", stores::urls_of_secret(object))];
    }
    let data = object.at("data").as_object().into_iter().flatten();
    let mut collectors = Vec::new();
    for (name, content) in data.filter(|(name, _)| name.ends_with("-config.yaml")) {
        match yaml(text(content)) {
            Ok(config) => collectors.push(object.derive("Collector", config)),
            Err(error) => found.when(true, object, format!("data.{name}"), format!("is not YAML: {error}")),
        }
    }
    collectors.iter().for_each(|collector| pipelines(found, collector));
    collectors
}

/// What the pipelines of a collector name is there: the collector itself is not asked.
fn pipelines(found: &mut Findings, object: &Object) {
    for (name, pipeline) in object.at("service.pipelines").as_object().into_iter().flatten() {
        for list in ["receivers", "processors", "exporters"] {
            for entry in elements(&pipeline[list]).map(text) {
                let is_there = |list: &str| !object.value[list][entry].is_null();
                let is_missing = !is_there(list) && !is_there("connectors");
                let reason = format!("there is no {entry:?}");
                found.when(is_missing, object, format!("service.pipelines.{name}"), reason);
            }
        }
    }
}

/// Every alert has a section that says what to do, and names it.
fn alerts(found: &mut Findings, files: &Files, object: &Object) {
    let groups = elements(object.at("spec.groups")).filter(|_| object.kind() == "PrometheusRule");
    for rule in groups.flat_map(|group| elements(&group["rules"])) {
        let (alert, runbook) = (text(&rule["alert"]), &rule["annotations"]["runbook"]);
        let anchor = format!("docs/operations.md#{}", alert.to_lowercase());
        let mut lines = elements(&files.of_kind("Operations")["lines"]);
        let is_right = *runbook == *anchor && lines.any(|line| *line == format!("### {alert}"));
        let reason = format!("annotations.runbook must be {anchor}, a section \"### {alert}\" that says what to do");
        found.when(!is_right, object, "alert", reason);
    }
}

/// Whether this is the application as a plain Deployment.
fn is_workload(object: &Object) -> bool {
    let mut env = elements(object.at("spec.template.spec.containers.0.env"));
    object.kind() == "Deployment" && env.any(|entry| text(&entry["name"]).starts_with(PREFIX))
}

/// The objects of an overlay that make pods.
fn pods(overlay: &Overlay) -> impl Iterator<Item = &Object> {
    let makes_pods = |kind| matches!(kind, "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "SpinApp");
    overlay.objects.iter().filter(move |object| makes_pods(object.kind()))
}

/// Whether a selector takes an object's pods; an empty one takes none.
fn is_selected(pod: &Object, match_labels: &Value) -> bool {
    let labels = match pod.kind() {
        "SpinApp" => pod.at("spec.podLabels"),
        _ => pod.at("spec.template.metadata.labels"),
    };
    let wanted = match_labels.as_object().filter(|wanted| !wanted.is_empty());
    wanted.is_some_and(|wanted| wanted.iter().all(|(name, value)| labels[name] == *value))
}

/// The number of a port, given its name or its number.
fn port(pod: &Object, wanted: &Value) -> Option<u64> {
    if pod.kind() == "SpinApp" {
        return (wanted == "http-app" || wanted == 80).then_some(80);
    }
    let containers = elements(pod.at("spec.template.spec.containers"));
    let mut ports = containers.flat_map(|container| elements(&container["ports"]));
    let port = ports.find(|port| port["name"] == *wanted || port["containerPort"] == *wanted)?;
    port["containerPort"].as_u64()
}
