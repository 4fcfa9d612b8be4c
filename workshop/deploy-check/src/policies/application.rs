//! The workload that serves the application: its variables against spin.toml, probes, shutdown, scaling and disruption
//! budget.

use serde_json::Value;

use super::pods::{is_selected, port};
use super::{Files, Findings, network};
use crate::render::{Object, Overlay, Stage, at, elements, text};

/// What the variables are called in the environment of a pod.
const PREFIX: &str = "SPIN_VARIABLE_";
const CONTAINER: &str = "spec.template.spec.containers.0";

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
        let apps = overlay.of_kind("SpinApp").chain(overlay.of_kind("Deployment"));
        apps.map(|object| {
            let (list, prefix) = match object.kind() {
                "SpinApp" => ("spec.variables".to_owned(), ""),
                _ => (format!("{CONTAINER}.env"), PREFIX),
            };
            let entries = elements(object.at(&list)).enumerate();
            let bindings = entries.filter_map(|(n, entry)| {
                let name = text(&entry["name"]);
                Some(Binding {
                    name: name.strip_prefix(prefix)?.to_lowercase(),
                    entry,
                    field: format!("{list}.{n} ({name})"),
                })
            });
            Self {
                overlay,
                object,
                variables: &files.manifest["variables"],
                bindings: bindings.collect(),
            }
        })
        .find(|application| !application.bindings.is_empty())
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

    /// Where a variable is set, or where one would set it.
    fn field(&self, name: &str) -> String {
        match self.binding(name) {
            Some(binding) => binding.field.clone(),
            None if self.is_spin_app() => format!("spec.variables ({name})"),
            None => format!("{CONTAINER}.env ({PREFIX}{})", name.to_uppercase()),
        }
    }

    pub fn check(&self, found: &mut Findings, files: &Files) {
        self.variables(found);
        self.identity(found);
        self.probes(found, files);
        self.scaling(found);
        // A SpinApp has no field for that.
        if !self.is_spin_app() {
            self.shutdown(found);
        }
    }

    /// Every variable of spin.toml is bound or has a default, and secrets are from Secrets.
    fn variables(&self, found: &mut Findings) {
        let mut find = |is_wrong, field: String, reason: String| found.when(is_wrong, self.object, &field, reason);
        for (name, variable) in self.variables.as_object().into_iter().flatten() {
            let is_required = variable["required"] == true || STORE_URLS.contains(&&**name);
            let is_missing = self.binding(name).is_none() && (is_required || variable["default"].is_null());
            find(
                is_missing,
                self.field(name),
                format!("spin.toml requires {name}, and nothing binds it"),
            );
            let is_open = name.ends_with("_allowed_host") && self.value(name).is_some_and(|value| value.contains('*'));
            let reason = format!("{name} allows any host: name the one that the component needs");
            find(is_open && self.overlay.stage != Stage::Laptop, self.field(name), reason);
        }
        for (n, Binding { name, entry, field }) in self.bindings.iter().enumerate() {
            let variable = &self.variables[name];
            find(
                variable.is_null(),
                field.clone(),
                format!("spin.toml has no variable {name}"),
            );
            let is_written = variable["secret"] == true && at(entry, "valueFrom.secretKeyRef").is_null();
            find(
                is_written,
                field.clone(),
                format!("{name} is secret in spin.toml: take it from a Secret"),
            );
            let authority = text(&entry["value"])
                .split("://")
                .nth(1)
                .and_then(|rest| rest.split('/').next());
            let user = authority.and_then(|authority| Some(authority.rsplit_once('@')?.0));
            let has_password = user.is_some_and(|user| user.contains(':'));
            find(
                has_password,
                field.clone(),
                format!("{name} has a password in it: take it from a Secret"),
            );
            let is_repeated = self.bindings.iter().take(n).any(|earlier| earlier.name == *name);
            find(is_repeated, field.clone(), format!("{name} is bound twice"));
        }
        for name in KNOWN.split_whitespace() {
            let reason = format!(
                "spin.toml no longer has {name}: {} has a rule about it, which must follow",
                file!()
            );
            find(self.variables[name].is_null(), self.field(name), reason);
        }
        let reason = "the store is not postgres: each pod would have a file of its own, and lose it when it ends";
        find(
            self.value("store") != Some("postgres"),
            self.field("store"),
            reason.into(),
        );
    }

    fn identity(&self, found: &mut Findings) {
        let mut find =
            |is_wrong, name: &str, reason: &str| found.when(is_wrong, self.object, &self.field(name), reason);
        let identity = self.value("identity").unwrap_or_default();
        let is_shared = identity == "none" && self.overlay.stage != Stage::Laptop;
        find(
            is_shared,
            "identity",
            "identity is none, so everybody would be one customer: set header or jwt",
        );
        let reason = "identity is not chosen, so every request gets a 500: set header or jwt";
        find(identity.is_empty(), "identity", reason);
        let has_keys = self.binding("jwt_keys").is_some();
        let reason = "identity is jwt, and nothing binds jwt_keys";
        find(identity == "jwt" && !has_keys, "jwt_keys", reason);
        let reason = format!("jwt_keys is bound, and identity is {identity}: tokens would not be looked at");
        find(identity != "jwt" && has_keys, "jwt_keys", &reason);
        if identity == "header" {
            let header = self.value("identity_header").unwrap_or_default();
            network::customer_header(found, self.overlay, header);
        }
    }

    /// Probes ask for what the application answers, at the port that it listens on. Probes that restart a pod ask for
    /// /healthz:
    /// restarting it does not bring a store back.
    fn probes(&self, found: &mut Findings, files: &Files) {
        let (parent, names) = match self.is_spin_app() {
            true => ("spec.checks", ["", "readiness", "liveness"]),
            false => (CONTAINER, ["startupProbe", "readinessProbe", "livenessProbe"]),
        };
        let mut find = |is_wrong, field: String, reason: String| found.when(is_wrong, self.object, &field, reason);
        let env = elements(self.object.at(&format!("{CONTAINER}.env")));
        let address = env
            .filter(|env| env["name"] == "SPIN_HTTP_LISTEN_ADDR")
            .find_map(|env| env["value"].as_str());
        let listen = address.and_then(|address| address.rsplit_once(':')?.1.parse::<u64>().ok());
        let reason = "is missing: Spin would listen on 127.0.0.1 only";
        find(
            !self.is_spin_app() && listen.is_none(),
            format!("{parent}.env (SPIN_HTTP_LISTEN_ADDR)"),
            reason.into(),
        );
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            let probe = format!("{parent}.{name}");
            let is_readiness = name.starts_with("readiness");
            let expected = if is_readiness { "/readyz" } else { "/healthz" };
            let path = self.object.at(&format!("{probe}.httpGet.path"));
            find(
                path != expected,
                format!("{probe}.httpGet.path"),
                format!("asks for {path}: it must ask for {expected}"),
            );
            let mut triggers = elements(&files.manifest["trigger"]["http"]).map(|trigger| text(&trigger["route"]));
            let is_routed = triggers.any(|route| match route.strip_suffix("/...") {
                Some(prefix) => expected.starts_with(prefix),
                None => expected == route,
            });
            find(
                !is_routed,
                format!("{probe}.httpGet.path"),
                format!("no trigger in spin.toml takes {expected}"),
            );
            // A readiness probe that gives up before the component does takes pods away for being slow.
            let timeout = self.object.at(&format!("{probe}.timeoutSeconds")).as_u64().unwrap_or(1);
            let deadline = self.milliseconds("database_timeout_ms");
            let reason = format!("{timeout} s is not longer than database_timeout_ms ({deadline} ms)");
            find(
                is_readiness && timeout * 1000 <= deadline,
                format!("{probe}.timeoutSeconds"),
                reason,
            );
            let asked = self.object.at(&format!("{probe}.httpGet.port"));
            let number = port(self.object, asked);
            let is_elsewhere = !self.is_spin_app() && listen.is_some() && number != listen;
            let reason = format!("asks at port {asked}, and Spin listens on {}", listen.unwrap_or(0));
            find(is_elsewhere, format!("{probe}.httpGet.port"), reason);
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
        found.when(is_short, self.object, &field, reason);
        let field = "spec.template.spec.terminationGracePeriodSeconds";
        let grace = self.object.at(field).as_u64().unwrap_or(30);
        let reason = format!("{grace} s is less than preStop ({pre_stop} s) and {END_SECONDS} s to end");
        found.when(grace < pre_stop + END_SECONDS, self.object, field, reason);
        let field = "spec.strategy.rollingUpdate.maxUnavailable";
        let reason = "must be 0, so that a rollout never serves with fewer pods";
        found.when(*self.object.at(field) != 0, self.object, field, reason);
    }

    /// The autoscaler is about the application and owns the number of its pods; a drain leaves some of them.
    fn scaling(&self, found: &mut Findings) {
        let object = self.object;
        for kind in ["PodDisruptionBudget", "Service"] {
            let selector = if kind == "Service" {
                "spec.selector"
            } else {
                "spec.selector.matchLabels"
            };
            let mut others = self.overlay.of_kind(kind);
            // spin-operator makes the Service of a SpinApp.
            let is_covered =
                (kind == "Service" && self.is_spin_app()) || others.any(|o| is_selected(object, o.at(selector)));
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
            let is_reset = self.is_spin_app() && object.at("spec.enableAutoscaling") != true;
            let reason = "must be true: spin-operator would reset what the autoscaler sets";
            found.when(is_reset, object, "spec.enableAutoscaling", reason);
            let minimum = autoscaler.at("spec.minReplicas").as_u64().unwrap_or(1);
            let reason = "must be at least 2: one pod is none while its node is drained";
            found.when(minimum < 2, autoscaler, "spec.minReplicas", reason);
        }
    }
}
