//! Alerts are explained, and collectors let no key, customer or secret through.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::application::{elements, text};
use crate::render::{Object, Overlay};
use crate::{Deployment, Finding};

/// The fields of a line of the request log, as the component writes them with `log_requests`.
const LOG_FIELDS: [&str; 10] = [
    "time",
    "route",
    "status",
    "outcome",
    "duration_ms",
    "redis_ms",
    "postgres_ms",
    "trips",
    "breaker",
    "trace_id",
];

/// Attributes of Spin's spans that contain what clients sent.
const SENSITIVE: [&str; 9] = [
    "arguments",
    "key",
    "keys",
    "value",
    "values",
    "payload",
    "url.path",
    "url.full",
    "url.query",
];

pub fn check(deployment: &Deployment) -> Vec<Finding> {
    let mut findings = Vec::new();
    for overlay in &deployment.overlays {
        for rule in overlay.of_kind("PrometheusRule") {
            findings.extend(alerts(deployment, rule));
        }
        findings.extend(collectors(overlay));
    }
    findings
}

fn alerts(deployment: &Deployment, object: &Object) -> Vec<Finding> {
    let (file, operations) = &deployment.files.operations;
    let mut findings = Vec::new();
    let groups = elements(object.at("spec.groups")).enumerate();
    for (g, group) in groups {
        for (n, rule) in elements(&group["rules"]).enumerate() {
            let name = text(&rule["alert"]);
            let field = format!("spec.groups[{g}].rules[{n}]");
            if !operations.lines().any(|line| line == format!("### {name}")) {
                findings.push(object.finding(
                    format!("{field}.alert"),
                    format!("{file} has no section \"### {name}\" that says what to do"),
                ));
            }
            let runbook = format!("{file}#{}", name.to_lowercase());
            if text(&rule["annotations"]["runbook"]) != runbook {
                findings.push(object.finding(
                    format!("{field}.annotations.runbook"),
                    format!("must be {runbook}"),
                ));
            }
        }
    }
    findings
}

fn collectors(overlay: &Overlay) -> Vec<Finding> {
    let mut findings = Vec::new();
    for object in overlay.of_kind("ConfigMap") {
        let data = object.at("data").as_object();
        for (name, content) in data.into_iter().flatten() {
            if !name.ends_with("-config.yaml") {
                continue;
            }
            let field = format!("data.{name}");
            match serde_saphyr::from_str::<Value>(text(content)) {
                Ok(config) => findings.extend(collector(object, &field, &config)),
                Err(error) => findings.push(object.finding(field, format!("is not YAML: {error}"))),
            }
        }
    }
    findings
}

fn collector(object: &Object, field: &str, config: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |path: String, reason: String| {
        findings.push(object.finding(format!("{field}: {path}"), reason));
    };
    let pipelines = config["service"]["pipelines"].as_object();
    for (name, pipeline) in pipelines.into_iter().flatten() {
        let path = format!("service.pipelines.{name}");
        // What a pipeline names has to be there.
        for (list, sections) in [
            ("receivers", ["receivers", "connectors"]),
            ("processors", ["processors", "processors"]),
            ("exporters", ["exporters", "connectors"]),
        ] {
            for entry in elements(&pipeline[list]) {
                let is_there = sections
                    .iter()
                    .any(|section| !config[section][text(entry)].is_null());
                if !is_there {
                    find(format!("{path}.{list}"), format!("there is no {entry}"));
                }
            }
        }
        let is_redacted = elements(&pipeline["processors"])
            .any(|processor| text(processor).starts_with("redaction"));
        if name.starts_with("traces") && !is_redacted {
            find(
                format!("{path}.processors"),
                "has no redaction: Spin's spans contain customers and keys".into(),
            );
        }
    }
    let processors = config["processors"].as_object();
    for (name, processor) in processors.into_iter().flatten() {
        if !name.starts_with("redaction") {
            continue;
        }
        if processor["allow_all_keys"] != false {
            find(
                format!("processors.{name}.allow_all_keys"),
                "must be false: only attributes that are known to be harmless pass".into(),
            );
        }
        for key in elements(&processor["allowed_keys"]) {
            if SENSITIVE.contains(&text(key)) {
                find(
                    format!("processors.{name}.allowed_keys"),
                    format!("{key} contains what clients sent"),
                );
            }
        }
    }
    let connectors = config["connectors"].as_object();
    let metrics: BTreeSet<&str> = connectors
        .into_iter()
        .flatten()
        .flat_map(|(_, connector)| elements(&connector["logs"]))
        .flat_map(|metric| elements(&metric["attributes"]))
        .map(|attribute| text(&attribute["key"]))
        .collect();
    for attribute in metrics {
        if !LOG_FIELDS.contains(&attribute) {
            find(
                "connectors".into(),
                format!("{attribute:?} is no field of the request log: {LOG_FIELDS:?}"),
            );
        }
    }
    findings
}
