//! What we ask of a deployment beyond what Kubernetes accepts.

mod capacity;
mod images;
mod labels;
mod network;
mod observability;
mod pod_security;
mod pods;
mod probes;
mod secrets;
mod shutdown;
mod variables;

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::render::read_yaml;
use crate::{Deployment, Finding};

/// Files that no kustomization includes.
#[derive(Clone, Debug)]
pub struct Files {
    /// Containerfiles: name and text.
    pub containerfiles: Vec<(String, String)>,
    /// The values for Valkey's chart: name and content.
    pub valkey_values: (String, Value),
    /// What operators read about alerts.
    pub operations: (String, String),
    /// `[outbound_pg] max_connections` of the image's runtime configuration.
    pub connection_limit: Option<u64>,
}

#[derive(Deserialize)]
struct RuntimeConfig {
    outbound_pg: Option<OutboundPostgres>,
}

#[derive(Deserialize)]
struct OutboundPostgres {
    max_connections: Option<u64>,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// One cannot be read or is malformed.
    pub fn load(root: &Path) -> Result<Self> {
        let read = |name: &str| {
            std::fs::read_to_string(root.join(name)).with_context(|| format!("reading {name}"))
        };
        let named = |name: &str| Ok::<_, anyhow::Error>((name.to_owned(), read(name)?));
        let runtime_config = "deploy/image/runtime-config.toml";
        let config: RuntimeConfig = toml::from_str(&read(runtime_config)?)
            .with_context(|| format!("{runtime_config} is malformed"))?;
        let values = "deploy/stores/valkey/values.yaml";
        Ok(Self {
            containerfiles: vec![
                named("deploy/image/Containerfile")?,
                named("deploy/image/migrator.Containerfile")?,
            ],
            valkey_values: (values.to_owned(), read_yaml(&root.join(values))?),
            operations: named("docs/operations.md")?,
            connection_limit: config.outbound_pg.and_then(|pg| pg.max_connections),
        })
    }
}

/// Holds a deployment against every policy.
pub fn check(deployment: &Deployment) -> Vec<Finding> {
    let mut findings = images::check_files(deployment);
    findings.extend(observability::check(deployment));
    findings.extend(capacity::check_stores(deployment));
    for overlay in &deployment.overlays {
        findings.extend(images::check(overlay));
        findings.extend(labels::check(overlay));
        findings.extend(network::check(overlay));
        findings.extend(pod_security::check(overlay));
        findings.extend(secrets::check(overlay));
        let application = crate::application::Application::of(overlay);
        if let Some(application) = &application {
            findings.extend(variables::check(deployment, overlay, application));
            findings.extend(probes::check(deployment, application));
            findings.extend(shutdown::check(deployment, application));
            findings.extend(capacity::check(deployment, overlay, application));
        } else if overlay.folder.starts_with("deploy/overlays/") {
            findings.push(overlay.finding(
                "resources",
                "has neither a SpinApp nor a Deployment that sets SPIN_VARIABLE_...",
            ));
        }
    }
    findings
}
