//! Alerts are explained, and collectors let no key, customer or secret through.

use serde_json::Value;

use super::{Files, Findings};
use crate::render::{Object, Overlay, elements, text};

/// The fields of a line of the request log, as the component writes them with `log_requests`.
const LOG_FIELDS: &str = "time route status outcome duration_ms redis_ms postgres_ms trips breaker trace_id";
/// Attributes of Spin's spans that contain what clients sent.
const SENSITIVE: &str = "arguments key keys value values payload url.path url.full url.query";

pub fn check(found: &mut Findings, files: &Files, overlay: &Overlay) {
    for object in overlay.of_kind("PrometheusRule") {
        let rules = elements(object.at("spec.groups")).flat_map(|group| elements(&group["rules"]));
        for rule in rules {
            let name = text(&rule["alert"]);
            let title = format!("### {name}");
            let reason = format!("docs/operations.md has no section \"{title}\" that says what to do");
            found.when(
                !files.operations.lines().any(|line| line == title),
                object,
                "alert",
                reason,
            );
            let runbook = format!("docs/operations.md#{}", name.to_lowercase());
            let is_right = rule["annotations"]["runbook"] == *runbook;
            found.when(!is_right, object, "annotations.runbook", format!("must be {runbook}"));
        }
    }
    for object in overlay.of_kind("ConfigMap") {
        for (name, content) in object.at("data").as_object().into_iter().flatten() {
            let field = format!("data.{name}");
            match serde_saphyr::from_str(text(content)) {
                _ if !name.ends_with("-config.yaml") => {}
                Ok(config) => collector(found, object, &field, &config),
                Err(error) => found.when(true, object, &field, format!("is not YAML: {error}")),
            }
        }
    }
}

fn collector(found: &mut Findings, object: &Object, field: &str, config: &Value) {
    let mut find =
        |is_wrong, path: &str, reason: String| found.when(is_wrong, object, &format!("{field}: {path}"), reason);
    for (name, pipeline) in config["service"]["pipelines"].as_object().into_iter().flatten() {
        let path = format!("service.pipelines.{name}");
        for list in ["receivers", "processors", "exporters"] {
            for entry in elements(&pipeline[list]).map(text) {
                let is_there =
                    !config[list][entry].is_null() || (list != "processors" && !config["connectors"][entry].is_null());
                find(!is_there, &path, format!("there is no {entry:?}"));
            }
        }
        let is_redacted = elements(&pipeline["processors"]).any(|name| text(name).starts_with("redaction"));
        let reason = "has no redaction: Spin's spans contain customers and keys";
        find(name.starts_with("traces") && !is_redacted, &path, reason.into());
    }
    let processors = config["processors"].as_object().into_iter().flatten();
    for (name, processor) in processors.filter(|(name, _)| name.starts_with("redaction")) {
        let reason = "must be false: only attributes that are known to be harmless pass";
        find(
            processor["allow_all_keys"] != false,
            &format!("{name}.allow_all_keys"),
            reason.into(),
        );
        for key in elements(&processor["allowed_keys"]).map(text) {
            let is_sensitive = SENSITIVE.split(' ').any(|sensitive| sensitive == key);
            find(
                is_sensitive,
                &format!("{name}.allowed_keys"),
                format!("{key} contains what clients sent"),
            );
        }
    }
    let connectors = config["connectors"].as_object().into_iter().flatten();
    let metrics = connectors.flat_map(|(_, connector)| elements(&connector["logs"]));
    for key in metrics
        .flat_map(|metric| elements(&metric["attributes"]))
        .map(|attribute| text(&attribute["key"]))
    {
        let is_field = LOG_FIELDS.split(' ').any(|name| name == key);
        find(
            !is_field,
            "connectors",
            format!("{key:?} is no field of the request log: {LOG_FIELDS}"),
        );
    }
}
