//! What spin.toml asks for, and what a workload gives it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::render::{Object, Overlay};

/// `spin.toml`, as far as a deployment depends on it.
#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    /// The variables that a deployment can set.
    #[serde(default)]
    pub variables: BTreeMap<String, Variable>,
    trigger: Triggers,
}

/// One of `[variables]`
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Variable {
    /// The value if none is given.
    pub default: Option<String>,
    /// Whether it has to be set.
    #[serde(default)]
    pub required: bool,
    /// Whether it must not be written down.
    #[serde(default)]
    pub secret: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct Triggers {
    #[serde(default)]
    http: Vec<HttpTrigger>,
}

#[derive(Clone, Debug, Deserialize)]
struct HttpTrigger {
    route: Value,
}

impl Manifest {
    /// Reads it.
    ///
    /// # Errors
    /// The file cannot be read, or is not a manifest.
    pub fn load(root: &Path) -> Result<Self> {
        let file = root.join("spin.toml");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not a manifest", file.display()))
    }

    /// Whether a trigger takes a path.
    pub fn routes(&self, path: &str) -> bool {
        self.trigger.http.iter().any(|trigger| {
            let Some(route) = trigger.route.as_str() else {
                return false;
            };
            match route.strip_suffix("/...") {
                Some(prefix) => path.starts_with(prefix),
                None => path == route,
            }
        })
    }
}

/// One variable, as a workload sets it.
#[derive(Clone, Debug)]
pub struct Binding {
    /// As in spin.toml.
    pub name: String,
    /// Written in the manifest.
    pub value: Option<String>,
    /// From a Secret.
    pub from_secret: bool,
    /// Where it is.
    pub field: String,
}

/// The workload that serves the application.
#[derive(Clone, Debug)]
pub struct Application<'a> {
    /// A Deployment or a SpinApp.
    pub object: &'a Object,
    /// The variables that it sets.
    pub bindings: Vec<Binding>,
}

/// What the variables are called in the environment of a pod.
const PREFIX: &str = "SPIN_VARIABLE_";

impl<'a> Application<'a> {
    /// The application of an overlay, if it has one.
    pub fn of(overlay: &'a Overlay) -> Option<Self> {
        let app = overlay.of_kind("SpinApp").next().map(Self::of_spin_app);
        app.or_else(|| overlay.of_kind("Deployment").find_map(Self::of_deployment))
    }

    fn of_spin_app(object: &'a Object) -> Self {
        let variables = elements(object.at("spec.variables"));
        let bindings = variables
            .enumerate()
            .map(|(n, variable)| {
                let name = text(&variable["name"]);
                binding(name, variable, format!("spec.variables[{n}] ({name})"))
            })
            .collect();
        Self { object, bindings }
    }

    fn of_deployment(object: &'a Object) -> Option<Self> {
        let containers = elements(object.at("spec.template.spec.containers"));
        let bindings: Vec<Binding> = containers
            .enumerate()
            .flat_map(|(c, container)| {
                elements(&container["env"])
                    .enumerate()
                    .filter_map(move |(n, env)| {
                        let name = text(&env["name"]);
                        let variable = name.strip_prefix(PREFIX)?.to_lowercase();
                        let field = format!("spec.template.spec.containers[{c}].env[{n}] ({name})");
                        Some(binding(&variable, env, field))
                    })
            })
            .collect();
        (!bindings.is_empty()).then_some(Self { object, bindings })
    }

    /// Whether spin-operator makes its pods.
    pub fn is_spin_app(&self) -> bool {
        self.object.kind() == "SpinApp"
    }

    /// What a variable is set to: by the workload, otherwise spin.toml's default. `None` if it is from a
    /// Secret or not set at all.
    pub fn value<'b>(&'b self, manifest: &'b Manifest, name: &str) -> Option<&'b str> {
        match self.bindings.iter().find(|binding| binding.name == name) {
            Some(binding) => binding.value.as_deref(),
            None => manifest.variables.get(name)?.default.as_deref(),
        }
    }

    /// Where a variable is set, or where one would set it.
    pub fn field(&self, name: &str) -> String {
        let bound = self.bindings.iter().find(|binding| binding.name == name);
        match bound {
            Some(binding) => binding.field.clone(),
            None if self.is_spin_app() => format!("spec.variables ({name})"),
            None => format!(
                "spec.template.spec.containers[0].env ({PREFIX}{})",
                name.to_uppercase()
            ),
        }
    }
}

fn binding(name: &str, entry: &Value, field: String) -> Binding {
    Binding {
        name: name.to_owned(),
        value: match &entry["valueFrom"] {
            // Kubernetes takes a missing value as an empty one.
            Value::Null => Some(text(&entry["value"]).to_owned()),
            _ => None,
        },
        from_secret: entry["valueFrom"]["secretKeyRef"].is_object(),
        field,
    }
}

/// The elements of a list; none if it is not one.
pub fn elements(list: &Value) -> std::slice::Iter<'_, Value> {
    list.as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
}

/// A string; empty if it is not one.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
