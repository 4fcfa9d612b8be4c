//! The workload that serves the application: its variables against spin.toml, probes, shutdown, scaling and memory.

use serde_json::Value;

use super::{CONTAINER, Files, Findings, PREFIX, is_selected, is_workload, network, port};
use crate::render::{Object, Overlay, Stage, at, elements, text};

/// What the store "postgres" needs; the empty defaults in spin.toml are for the embedded store.
const STORE_URLS: [&str; 2] = ["redis_url", "database_url"];
/// Variables that rules here know by name. One that spin.toml no longer has is a finding, since its rule would check
/// nothing.
const KNOWN: &str = "store redis_url database_url identity identity_header jwt_keys redis_allowed_host \
                     database_allowed_host redis_timeout_ms database_timeout_ms";

/// How long gateways may go on sending requests to a pod that is ending.
const PROPAGATION_SECONDS: u64 = 5;
/// How long the body of a request may take to arrive: the component's `BODY_DEADLINE`.
const BODY_SECONDS: u64 = 10;
/// What the process needs to end.
const END_SECONDS: u64 = 5;

const INSTANCES: &str = "SPIN_MAX_INSTANCE_COUNT";
/// How many instances Spin allows by default.
const INSTANCES_OF_SPIN: u64 = 1_000;
/// What a pod takes with 1,024 clients beside its instances, and for each instance: docs/capacity.md.
const REST_KB: u64 = 149_000 + 67_000;
const INSTANCE_KB: u64 = 490;

/// A Deployment or a SpinApp.
pub struct Application<'a> {
    pub overlay: &'a Overlay,
    pub object: &'a Object,
    variables: &'a Value,
    bindings: Vec<Binding<'a>>,
}

/// One variable, as the workload sets it.
struct Binding<'a> {
    /// As in spin.toml.
    name: String,
    entry: &'a Value,
    field: String,
}

impl<'a> Application<'a> {
    /// The application of an overlay, if it has one.
    pub fn of(files: &'a Files, overlay: &'a Overlay) -> Option<Self> {
        let is_it = |object: &&Object| object.kind() == "SpinApp" || is_workload(object);
        let object = overlay.objects.iter().find(is_it)?;
        let (list, prefix) = match object.kind() {
            "SpinApp" => ("spec.variables".to_owned(), ""),
            _ => (format!("{CONTAINER}.env"), PREFIX),
        };
        let bindings = elements(object.at(&list)).enumerate().filter_map(|(n, entry)| {
            let name = text(&entry["name"]);
            let field = format!("{list}.{n} ({name})");
            let name = name.strip_prefix(prefix)?.to_lowercase();
            Some(Binding { name, entry, field })
        });
        Some(Self {
            overlay,
            object,
            variables: &files.manifest["variables"],
            bindings: bindings.collect(),
        })
    }

    fn is_spin_app(&self) -> bool {
        self.object.kind() == "SpinApp"
    }

    fn binding(&self, name: &str) -> Option<&Binding<'a>> {
        self.bindings.iter().find(|binding| binding.name == name)
    }

    /// What a variable is set to: by the workload, otherwise by default. `None` if it is from a Secret or not set at
    /// all.
    fn value(&self, name: &str) -> Option<&str> {
        match self.binding(name) {
            // Kubernetes takes a missing value as an empty one.
            Some(binding) if binding.entry["valueFrom"].is_null() => Some(text(&binding.entry["value"])),
            Some(_) => None,
            None => self.variables[name]["default"].as_str(),
        }
    }

    fn milliseconds(&self, name: &str) -> u64 {
        self.value(name).and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// Adds a finding at the place where a variable is set, or where one would set it.
    fn find(&self, found: &mut Findings, is_wrong: bool, name: &str, reason: impl Into<String>) {
        let field = match self.binding(name) {
            Some(binding) => binding.field.clone(),
            None if self.is_spin_app() => format!("spec.variables ({name})"),
            None => format!("{CONTAINER}.env ({PREFIX}{})", name.to_uppercase()),
        };
        found.when(is_wrong, self.object, field, reason);
    }

    pub fn check(&self, found: &mut Findings, files: &Files) {
        self.variables(found);
        self.identity(found);
        self.probes(found, files);
        self.scaling(found);
        self.memory(found, files);
        // A SpinApp has no field for that.
        if !self.is_spin_app() {
            self.shutdown(found);
        }
    }

    /// Every variable of spin.toml is bound or has a default, and secrets are from Secrets.
    fn variables(&self, found: &mut Findings) {
        for (name, variable) in self.variables.as_object().into_iter().flatten() {
            let is_required = variable["required"] == true || STORE_URLS.contains(&&**name);
            let is_missing = self.binding(name).is_none() && (is_required || variable["default"].is_null());
            let reason = format!("spin.toml requires {name}, and nothing binds it");
            self.find(found, is_missing, name, reason);
            let is_open = name.ends_with("_allowed_host") && self.value(name).is_some_and(|value| value.contains('*'));
            let reason = format!("{name} allows any host: name the one that the component needs");
            self.find(found, is_open && self.overlay.stage != Stage::Laptop, name, reason);
        }
        for (n, Binding { name, entry, field }) in self.bindings.iter().enumerate() {
            let mut find = |is_wrong, reason| found.when(is_wrong, self.object, field, format!("{name} {reason}"));
            let variable = &self.variables[name];
            find(variable.is_null(), "is bound: spin.toml has no variable of that name");
            let is_written = variable["secret"] == true && at(entry, "valueFrom.secretKeyRef").is_null();
            find(is_written, "is secret in spin.toml: take it from a Secret");
            let (_, url) = text(&entry["value"]).split_once("://").unwrap_or_default();
            let authority = url.split('/').next().and_then(|authority| authority.rsplit_once('@'));
            let has_password = authority.is_some_and(|(user, _)| user.contains(':'));
            find(has_password, "has a password in it: take it from a Secret");
            let is_repeated = self.bindings.iter().take(n).any(|earlier| earlier.name == *name);
            find(is_repeated, "is bound twice");
        }
        for name in KNOWN.split_whitespace() {
            let reason = format!(
                "spin.toml no longer has {name}: the rule about it in {} must follow",
                file!()
            );
            self.find(found, self.variables[name].is_null(), name, reason);
        }
        let reason = "the store is not postgres: each pod would have a file of its own, and lose it when it ends";
        self.find(found, self.value("store") != Some("postgres"), "store", reason);
    }

    fn identity(&self, found: &mut Findings) {
        let identity = self.value("identity").unwrap_or_default();
        let is_shared = identity == "none" && self.overlay.stage != Stage::Laptop;
        let reason = "identity is none, so everybody would be one customer: set header or jwt";
        self.find(found, is_shared, "identity", reason);
        let reason = "identity is not chosen, so every request gets a 500: set header or jwt";
        self.find(found, identity.is_empty(), "identity", reason);
        let has_keys = self.binding("jwt_keys").is_some();
        let reason = "identity is jwt, and nothing binds jwt_keys";
        self.find(found, identity == "jwt" && !has_keys, "jwt_keys", reason);
        let reason = format!("jwt_keys is bound, and identity is {identity}: tokens would not be looked at");
        self.find(found, identity != "jwt" && has_keys, "jwt_keys", reason);
        if identity == "header" {
            let header = self.value("identity_header").unwrap_or_default();
            network::customer_header(found, self.overlay, self.object, header);
        }
    }

    /// Probes ask for what the application answers, at the port that it listens on.
    fn probes(&self, found: &mut Findings, files: &Files) {
        let (parent, names) = match self.is_spin_app() {
            true => ("spec.checks", &["readiness", "liveness"][..]),
            false => (CONTAINER, &["startupProbe", "readinessProbe", "livenessProbe"][..]),
        };
        let address = text(self.object.at(&format!("{CONTAINER}.env.SPIN_HTTP_LISTEN_ADDR.value")));
        let listen = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u64>().ok());
        for name in names {
            let probe = self.object.at(&format!("{parent}.{name}"));
            let path = text(at(probe, "httpGet.path"));
            let mut routes = elements(&files.manifest["trigger"]["http"]).map(|trigger| text(&trigger["route"]));
            let is_routed = routes.any(|route| match route.strip_suffix("/...") {
                Some(prefix) => path.starts_with(prefix),
                None => path == route,
            });
            let field = format!("{parent}.{name}.httpGet.path");
            found.when(
                !is_routed,
                self.object,
                field,
                format!("no trigger in spin.toml takes {path}"),
            );
            // A readiness probe that gives up before the component does takes pods away for being slow.
            let timeout = probe["timeoutSeconds"].as_u64().unwrap_or(1);
            let deadline = self.milliseconds("database_timeout_ms");
            let is_short = name.starts_with("readiness") && timeout * 1000 <= deadline;
            let field = format!("{parent}.{name}.timeoutSeconds");
            let reason = format!("{timeout} s is not longer than database_timeout_ms ({deadline} ms)");
            found.when(is_short, self.object, field, reason);
            let asked = at(probe, "httpGet.port");
            let is_elsewhere = !self.is_spin_app() && listen.is_some() && port(self.object, asked) != listen;
            let field = format!("{parent}.{name}.httpGet.port");
            let reason = format!("asks at port {asked}, and Spin listens on {address}");
            found.when(is_elsewhere, self.object, field, reason);
        }
    }

    /// Spin ends at SIGTERM without finishing requests, so preStop must last until the last request has been answered.
    fn shutdown(&self, found: &mut Findings) {
        let field = format!("{CONTAINER}.lifecycle.preStop.sleep.seconds");
        let pre_stop = self.object.at(&field).as_u64().unwrap_or(0);
        let stores = self.milliseconds("database_timeout_ms") + self.milliseconds("redis_timeout_ms");
        let stores = stores.div_ceil(1000);
        let reason = format!(
            "{pre_stop} s is less than a request may take, and Spin ends at SIGTERM in the middle of it: \
             {PROPAGATION_SECONDS} s until no more come, {BODY_SECONDS} s for a body and {stores} s for the stores"
        );
        let is_short = pre_stop < PROPAGATION_SECONDS + BODY_SECONDS + stores;
        found.when(is_short, self.object, field, reason);
        let field = "spec.template.spec.terminationGracePeriodSeconds";
        let grace = self.object.at(field).as_u64().unwrap_or(30);
        let reason = format!("{grace} s is less than preStop ({pre_stop} s) and {END_SECONDS} s to end");
        found.when(grace < pre_stop + END_SECONDS, self.object, field, reason);
    }

    /// The autoscaler is about the application and owns the number of its pods; a drain leaves some of them.
    fn scaling(&self, found: &mut Findings) {
        let object = self.object;
        // spin-operator makes the Service of a SpinApp.
        let selectors = [
            ("PodDisruptionBudget", "spec.selector.matchLabels"),
            ("Service", "spec.selector"),
        ];
        for (kind, selector) in selectors.into_iter().take(if self.is_spin_app() { 1 } else { 2 }) {
            let is_covered = self
                .overlay
                .of_kind(kind)
                .any(|other| is_selected(object, other.at(selector)));
            found.when(
                !is_covered,
                object,
                "labels of pods",
                format!("no {kind} selects these pods"),
            );
        }
        for autoscaler in self.overlay.of_kind("HorizontalPodAutoscaler") {
            // spin-operator gives the Deployment that it makes the name of the SpinApp.
            let target = autoscaler.at("spec.scaleTargetRef");
            let is_target = target["kind"] == "Deployment" && target["name"] == object.name();
            let reason = format!("is not the Deployment {}", object.name());
            found.when(!is_target, autoscaler, "spec.scaleTargetRef", reason);
            let reason = "the autoscaler owns the number of replicas: each apply would reset it";
            found.when(!object.at("spec.replicas").is_null(), object, "spec.replicas", reason);
        }
    }

    /// The memory of all instances that Spin may start fits into the pod. The image sets their number; the shim runs
    /// the application without that image, and has no setting for it.
    fn memory(&self, found: &mut Findings, files: &Files) {
        let mut executors = self.overlay.of_kind("SpinAppExecutor");
        let has_image = !self.is_spin_app() || executors.any(|e| !e.at("spec.deploymentConfig.spinImage").is_null());
        let is_path = text(self.object.at("spec.image")).starts_with('/');
        let reason = "is a path, and no executor has an image: pin it by digest";
        found.when(is_path && !has_image, self.object, "spec.image", reason);
        let own = self.object.at(&format!("{CONTAINER}.env.{INSTANCES}.value")).as_str();
        let image = files.containerfile["ENV"][INSTANCES].as_str().filter(|_| has_image);
        let instances = own
            .or(image)
            .and_then(|count| count.parse().ok())
            .unwrap_or(INSTANCES_OF_SPIN);
        let parent = if self.is_spin_app() { "spec" } else { CONTAINER };
        let field = format!("{parent}.resources.limits.memory");
        let limit = kilobytes(text(self.object.at(&field)));
        let needed = (REST_KB + instances * INSTANCE_KB) * 6 / 5;
        let reason =
            format!("{limit} kB is less than {instances} instances take ({INSTANCES}) and a fifth more: {needed} kB");
        found.when(limit < needed, self.object, field, reason);
    }
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
