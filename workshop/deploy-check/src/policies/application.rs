//! The workload that serves the application: its variables against spin.toml, patience, shutdown and memory.

use serde_json::{Value, json};

use super::{CONTAINER, Files, Findings, PREFIX, is_workload};
use crate::render::{Object, Overlay, elements, text};

/// How long gateways may still send requests to a pod that is ending.
const PROPAGATION_SECONDS: u64 = 5;
/// How long the body of a request may take to arrive: the component's `BODY_DEADLINE`.
const BODY_SECONDS: u64 = 10;
/// What the process needs to end.
const END_SECONDS: u64 = 5;

/// How long the entrypoint waits for requests, in seconds.
const DRAIN: &str = "ORDERS_DRAIN_SECONDS";

const INSTANCES: &str = "SPIN_MAX_INSTANCE_COUNT";
const INSTANCES_OF_SPIN: u64 = 1_000;
/// What 1,024 clients take besides instances, for each of them, and how many they use: docs/capacity.md.
const REST_KB: u64 = 131_000 + 67_000;
const INSTANCE_KB: u64 = 1_100;
const INSTANCES_USED: u64 = 450;

/// A Deployment or a SpinApp.
pub struct Application<'a> {
    pub overlay: &'a Overlay,
    pub object: &'a Object,
    /// The variables of spin.toml with what the workload sets them to, as an object that rules are about.
    pub facts: Object,
}

impl<'a> Application<'a> {
    /// The application of an overlay, if it has one.
    pub fn of(files: &Files, overlay: &'a Overlay) -> Option<Self> {
        let is_it = |object: &&Object| object.kind() == "SpinApp" || is_workload(object);
        let object = overlay.objects.iter().find(is_it)?;
        let facts = object.derive("Application", json!({"variables": variables(files, object)}));
        Some(Self { overlay, object, facts })
    }

    fn is_spin_app(&self) -> bool {
        self.object.kind() == "SpinApp"
    }

    /// What a variable is set to, by the workload or by default; empty if it is from a Secret.
    pub fn value(&self, name: &str) -> &str {
        text(self.facts.at(&format!("variables.{name}.value")))
    }

    fn milliseconds(&self, name: &str) -> u64 {
        self.value(name).parse().unwrap_or(0)
    }

    pub fn check(&self, found: &mut Findings, files: &Files) {
        self.patience(found);
        self.memory(found, files);
        // The shim runs the application without the image and its entrypoint.
        if self.has_image() {
            self.shutdown(found, files);
        }
    }

    fn has_image(&self) -> bool {
        let mut executors = self.overlay.of_kind("SpinAppExecutor");
        !self.is_spin_app() || executors.any(|e| !e.at("spec.deploymentConfig.spinImage").is_null())
    }

    /// A number in the environment of the pod: its own, or the image's.
    fn environment(&self, files: &Files, name: &str) -> Option<u64> {
        let own = self.object.at(&format!("{CONTAINER}.env.{name}.value")).as_str();
        let image = files.of_kind("Containerfile")["ENV"][name].as_str().filter(|_| self.has_image());
        own.or(image).and_then(|number| number.parse().ok())
    }

    /// A readiness probe that gives up before the component does takes pods away for being slow.
    fn patience(&self, found: &mut Findings) {
        let field = match self.is_spin_app() {
            true => "spec.checks.readiness.timeoutSeconds".to_owned(),
            false => format!("{CONTAINER}.readinessProbe.timeoutSeconds"),
        };
        let timeout = self.object.at(&field).as_u64().unwrap_or(1);
        let deadline = self.milliseconds("database_timeout_ms");
        let reason = format!("{timeout} s is not longer than database_timeout_ms ({deadline} ms)");
        found.when(timeout * 1000 <= deadline, self.object, field, reason);
    }

    /// Spin ends at SIGTERM in the middle of requests, so the entrypoint waits for them before, and is not killed.
    fn shutdown(&self, found: &mut Findings, files: &Files) {
        let drain = self.environment(files, DRAIN).unwrap_or(0);
        let stores = self.milliseconds("database_timeout_ms") + self.milliseconds("redis_timeout_ms");
        let stores = stores.div_ceil(1000);
        let reason = format!(
            "{drain} s is less than a request may take, and Spin ends at SIGTERM in the middle of it: \
             {PROPAGATION_SECONDS} s until no more come, {BODY_SECONDS} s for a body and {stores} s for the stores"
        );
        found.when(drain < PROPAGATION_SECONDS + BODY_SECONDS + stores, self.object, DRAIN, reason);
        let before = self.object.at(&format!("{CONTAINER}.lifecycle.preStop.sleep.seconds")).as_u64().unwrap_or(0);
        let field = "spec.template.spec.terminationGracePeriodSeconds";
        let grace = self.object.at(field).as_u64().unwrap_or(30);
        let reason = format!("{grace} s is less than preStop ({before} s), {DRAIN} ({drain} s) and {END_SECONDS} s");
        found.when(grace < before + drain + END_SECONDS, self.object, field, reason);
    }

    /// The memory of all instances that Spin may start fits into the pod. The image sets their number; the shim runs
    /// the application without that image, and has no setting for it.
    fn memory(&self, found: &mut Findings, files: &Files) {
        let is_path = text(self.object.at("spec.image")).starts_with('/');
        let reason = "is a path, and no executor has an image: pin it by digest";
        found.when(is_path && !self.has_image(), self.object, "spec.image", reason);
        let instances = self.environment(files, INSTANCES).unwrap_or(INSTANCES_OF_SPIN);
        let parent = if self.is_spin_app() { "spec" } else { CONTAINER };
        let field = format!("{parent}.resources.limits.memory");
        let limit = kilobytes(text(self.object.at(&field)));
        let needed = (REST_KB + instances.min(INSTANCES_USED) * INSTANCE_KB) * 6 / 5;
        let reason = format!("{limit} kB is less than {instances} instances take ({INSTANCES}): {needed} kB");
        found.when(limit < needed, self.object, field, reason);
    }
}

/// The variables of spin.toml: how many times the workload sets each, from where, and to what.
fn variables(files: &Files, object: &Object) -> Value {
    let (list, prefix) = match object.kind() {
        "SpinApp" => ("spec.variables".to_owned(), ""),
        _ => (format!("{CONTAINER}.env"), PREFIX),
    };
    let mut facts = json!({});
    for (name, variable) in files.of_kind("Manifest")["variables"].as_object().into_iter().flatten() {
        let (default, secret) = (&variable["default"], &variable["secret"]);
        let from = if default.is_null() { "nowhere" } else { "default" };
        facts[name] = json!({"times": 0, "from": from, "value": default, "secret": secret});
    }
    for entry in elements(object.at(&list)) {
        if let Some(name) = text(&entry["name"]).strip_prefix(prefix) {
            let fact = &mut facts[name.to_lowercase()];
            fact["times"] = fact["times"].as_u64().map(|times| times + 1).into();
            let from = if entry["valueFrom"].is_null() { "manifest" } else { "Secret" };
            fact["from"] = from.into();
            // Kubernetes takes a missing value as an empty one.
            fact["value"] = (from == "manifest").then(|| text(&entry["value"])).into();
        }
    }
    facts
}

/// A quantity of memory; 0 if it is none.
fn kilobytes(quantity: &str) -> u64 {
    let digits = quantity.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match quantity.strip_prefix(digits) {
        Some("Mi") => 1_048_576,
        Some("Gi") => 1_073_741_824,
        Some("M") => 1_000_000,
        Some("G") => 1_000_000_000,
        _ => 1,
    };
    digits.parse::<u64>().unwrap_or(0) * unit / 1000
}
