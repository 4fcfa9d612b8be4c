//! What no validator can know: the rules that follow from this application, its variables, its stores and its shutdown.

mod application;
mod network;
mod rules;
mod stores;

use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::Finding;
use crate::render::{Object, Overlay, Stage, at, elements, text, yaml};
use application::Application;
use rules::Rule;

/// Files that no kustomization includes.
#[derive(Clone, Debug)]
pub struct Files {
    /// `spin.toml`
    manifest: Value,
    /// What operators read about alerts.
    operations: String,
    /// The application's Containerfile, by instruction.
    containerfile: Value,
    /// The runtime configuration of the image.
    runtime: Value,
    /// These and others, as objects that rules are about.
    objects: Vec<Object>,
    rules: Arc<[Rule]>,
}

impl Files {
    /// Reads them with a function from a path in the checkout to a text.
    ///
    /// # Errors
    /// One cannot be read or is malformed.
    pub fn load(read: impl Fn(&str) -> Result<String>) -> Result<Self> {
        let toml = |name| toml::from_str::<Value>(&read(name)?).context(name);
        let object = |file: &str, kind: &str, mut value: Value| {
            let name = file.rsplit('/').next().and_then(|name| name.split('.').next());
            value["kind"] = kind.into();
            value["metadata"] = json!({ "name": name });
            Object {
                file: file.to_owned(),
                value,
            }
        };
        const CONTAINERFILE: &str = "deploy/image/Containerfile";
        const MIGRATOR: &str = "deploy/image/migrator.Containerfile";
        const RUNTIME: &str = "deploy/image/runtime-config.toml";
        const VALKEY: &str = "deploy/stores/valkey/values.yaml";
        const GUIDE: &str = "deploy/README.md";
        let (runtime, containerfile) = (toml(RUNTIME)?, instructions(&read(CONTAINERFILE)?));
        Ok(Self {
            manifest: toml("spin.toml")?,
            operations: read("docs/operations.md")?,
            objects: vec![
                object(CONTAINERFILE, "Containerfile", containerfile.clone()),
                object(MIGRATOR, "Containerfile", instructions(&read(MIGRATOR)?)),
                object(RUNTIME, "RuntimeConfig", runtime.clone()),
                object(VALKEY, "Values", yaml(&read(VALKEY)?).context(VALKEY)?),
                object(GUIDE, "StoreUrls", stores::urls_of_guide(&read(GUIDE)?)),
            ],
            containerfile,
            runtime,
            rules: rules::load()?.into(),
        })
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
struct Findings(Vec<Finding>);

impl Findings {
    /// Adds a finding if something `is_wrong`.
    fn when(&mut self, is_wrong: bool, object: &Object, field: impl Into<String>, reason: impl Into<String>) {
        if is_wrong {
            self.0.push(object.finding(field, reason));
        }
    }
}

/// Applies every policy.
pub fn check(files: &Files, overlays: &[Overlay]) -> Vec<Finding> {
    let mut found = Findings::default();
    let apply = |found: &mut Findings, object: &Object, stage, is_restricted| {
        files
            .rules
            .iter()
            .for_each(|rule| rule.check(found, object, stage, is_restricted));
    };
    for object in &files.objects {
        apply(&mut found, object, Stage::Template, true);
        stores::roles(&mut found, object);
    }
    for overlay in overlays {
        let mut namespaces = overlay
            .of_kind("Namespace")
            .map(|object| &object.at("metadata.labels")[ENFORCE]);
        let is_restricted = namespaces.all(|level| level == "restricted");
        let derived = overlay
            .objects
            .iter()
            .flat_map(|object| derived(&mut found, object))
            .collect::<Vec<_>>();
        for object in overlay.objects.iter().chain(&derived) {
            apply(&mut found, object, overlay.stage, is_restricted);
            alerts(&mut found, files, object);
            pipelines(&mut found, object);
            if overlay.stage != Stage::Laptop {
                stores::roles(&mut found, object);
            }
        }
        stores::check(&mut found, overlay);
        let application = Application::of(files, overlay);
        network::check(&mut found, overlay, application.as_ref());
        if let Some(application) = application {
            application.check(&mut found, files);
            stores::capacity(&mut found, files, overlays, &application);
        } else if overlay.folder.starts_with("deploy/overlays/") {
            let reason = "has neither a SpinApp nor a Deployment that sets SPIN_VARIABLE_...";
            found.0.push(overlay.kustomization.finding("resources", reason));
        }
    }
    found.0
}

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// What objects carry as text: configurations of collectors, and the URLs of stores.
fn derived(found: &mut Findings, object: &Object) -> Vec<Object> {
    let mut of = Vec::new();
    let mut add = |kind: &str, mut value: Value| {
        value["kind"] = kind.into();
        value["metadata"] = object.value["metadata"].clone();
        of.push(Object {
            file: object.file.clone(),
            value,
        });
    };
    match object.kind() {
        "Secret" => add("StoreUrls", stores::urls_of_secret(object)),
        "ConfigMap" => {
            for (name, content) in object.at("data").as_object().into_iter().flatten() {
                match yaml(text(content)) {
                    _ if !name.ends_with("-config.yaml") => {}
                    Ok(config) => add("Collector", config),
                    Err(error) => found.when(true, object, format!("data.{name}"), format!("is not YAML: {error}")),
                }
            }
        }
        _ => {}
    }
    of
}

/// Every alert has a section that says what to do.
fn alerts(found: &mut Findings, files: &Files, object: &Object) {
    let groups = elements(object.at("spec.groups")).filter(|_| object.kind() == "PrometheusRule");
    for rule in groups.flat_map(|group| elements(&group["rules"])) {
        let title = format!("### {}", text(&rule["alert"]));
        let is_explained = files.operations.lines().any(|line| line == title);
        let reason = format!("docs/operations.md has no section \"{title}\" that says what to do");
        found.when(!is_explained, object, "alert", reason);
        let runbook = format!("docs/operations.md#{}", text(&rule["alert"]).to_lowercase());
        let is_right = rule["annotations"]["runbook"] == *runbook;
        found.when(!is_right, object, "annotations.runbook", format!("must be {runbook}"));
    }
}

/// What the pipelines of a collector name is there: the collector itself is not asked.
fn pipelines(found: &mut Findings, object: &Object) {
    let pipelines = object.at("service.pipelines").as_object();
    for (name, pipeline) in pipelines.into_iter().flatten() {
        for list in ["receivers", "processors", "exporters"] {
            for entry in elements(&pipeline[list]).map(text) {
                let is_there = |list: &str| !object.value[list][entry].is_null();
                let is_missing = !is_there(list) && !is_there("connectors");
                found.when(
                    is_missing,
                    object,
                    format!("service.pipelines.{name}"),
                    format!("there is no {entry:?}"),
                );
            }
        }
    }
}

/// What the variables are called in the environment of a pod.
const PREFIX: &str = "SPIN_VARIABLE_";
const CONTAINER: &str = "spec.template.spec.containers.0";

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
    let labels = at(
        &pod.value,
        if pod.kind() == "SpinApp" {
            "spec.podLabels"
        } else {
            "spec.template.metadata.labels"
        },
    );
    let has = |(name, value): (&String, &Value)| labels[name] == *value;
    match_labels
        .as_object()
        .is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(has))
}

/// The number of a port, given its name or its number.
fn port(pod: &Object, wanted: &Value) -> Option<u64> {
    if pod.kind() == "SpinApp" {
        return (wanted == "http-app" || wanted == 80).then_some(80);
    }
    let mut ports =
        elements(pod.at("spec.template.spec.containers")).flat_map(|container| elements(&container["ports"]));
    let port = ports.find(|port| port["name"] == *wanted || port["containerPort"] == *wanted)?;
    port["containerPort"].as_u64()
}
