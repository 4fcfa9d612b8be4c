//! Every variable of spin.toml is bound or has a default, secrets are from Secrets, and what is bound does
//! not contradict itself.

use serde_json::Value;

use crate::application::{Application, elements, text};
use crate::render::Overlay;
use crate::{Deployment, Finding};

/// The variables that this policy knows by name. One that spin.toml no longer has is a finding: the rule
/// about it would hold for ever without checking anything.
const KNOWN: [&str; 8] = [
    "store",
    "redis_url",
    "database_url",
    "identity",
    "identity_header",
    "jwt_keys",
    "redis_allowed_host",
    "database_allowed_host",
];

/// What the store "postgres" needs.
const STORE_URLS: [&str; 2] = ["redis_url", "database_url"];

pub fn check(
    deployment: &Deployment,
    overlay: &Overlay,
    application: &Application<'_>,
) -> Vec<Finding> {
    let variables = &deployment.manifest.variables;
    let object = application.object;
    let mut findings = Vec::new();
    let mut find = |field: String, reason: String| findings.push(object.finding(field, reason));

    for (name, variable) in variables {
        let is_bound = application
            .bindings
            .iter()
            .any(|binding| binding.name == *name);
        // Their empty defaults are for the embedded store.
        let is_required = variable.required || STORE_URLS.contains(&name.as_str());
        if !is_bound && (variable.default.is_none() || is_required) {
            let why = match is_required {
                true => "spin.toml requires",
                false => "spin.toml gives no default to",
            };
            find(
                application.field(name),
                format!("{why} {name}, and nothing binds it"),
            );
        }
    }
    for (n, binding) in application.bindings.iter().enumerate() {
        let Some(variable) = variables.get(&binding.name) else {
            find(
                binding.field.clone(),
                format!("spin.toml has no variable {}", binding.name),
            );
            continue;
        };
        if variable.secret && !binding.from_secret {
            find(
                binding.field.clone(),
                format!(
                    "{} is secret in spin.toml: take it from a Secret (valueFrom.secretKeyRef)",
                    binding.name
                ),
            );
        }
        if binding.value.as_deref().is_some_and(has_password) {
            find(
                binding.field.clone(),
                format!(
                    "{} has a password in it: take it from a Secret",
                    binding.name
                ),
            );
        }
        let is_repeated = application
            .bindings
            .iter()
            .take(n)
            .any(|earlier| earlier.name == binding.name);
        if is_repeated {
            find(
                binding.field.clone(),
                format!("{} is bound twice", binding.name),
            );
        }
    }
    for name in KNOWN {
        if !variables.contains_key(name) {
            find(
                application.field(name),
                format!(
                    "spin.toml no longer has {name}: workshop/deploy-check/src/policies/variables.rs has a rule \
                     about it, which must follow"
                ),
            );
        }
    }
    findings.extend(identity(deployment, overlay, application));
    if application.value(&deployment.manifest, "store") != Some("postgres") {
        findings.push(object.finding(
            application.field("store"),
            "the store is not postgres: each pod would have a file of its own, in which other pods' orders are missing, \
             and lose it when it ends",
        ));
    }
    if overlay.is_for_a_cluster() {
        findings.extend(allowed_hosts(deployment, application));
    }
    findings
}

fn identity(
    deployment: &Deployment,
    overlay: &Overlay,
    application: &Application<'_>,
) -> Vec<Finding> {
    let object = application.object;
    let field = application.field("identity");
    let identity = application
        .value(&deployment.manifest, "identity")
        .unwrap_or_default();
    let has_keys = application
        .bindings
        .iter()
        .any(|binding| binding.name == "jwt_keys");
    let mut findings = Vec::new();
    match identity {
        "none" if overlay.is_for_a_cluster() => findings.push(object.finding(
            field,
            "identity is none, so everybody would be one customer: set header or jwt",
        )),
        "" => findings.push(object.finding(
            field,
            "identity is not chosen, so every request gets a 500: set header or jwt",
        )),
        "jwt" if !has_keys => findings.push(object.finding(
            application.field("jwt_keys"),
            "identity is jwt, and nothing binds jwt_keys",
        )),
        "header" => {
            let header = application
                .value(&deployment.manifest, "identity_header")
                .unwrap_or_default();
            findings.extend(routes_that_let_pass(overlay, header));
        }
        _ => {}
    }
    if has_keys && identity != "jwt" {
        findings.push(object.finding(
            application.field("jwt_keys"),
            format!("jwt_keys is bound, and identity is {identity}: tokens would not be looked at"),
        ));
    }
    findings
}

/// With identity "header", a client must not be able to send the field itself.
fn routes_that_let_pass(overlay: &Overlay, header: &str) -> Vec<Finding> {
    let is_it = |name: &Value| text(name).eq_ignore_ascii_case(header);
    // Envoy Gateway removes it here, before it authenticates.
    let is_removed_early = overlay
        .of_kind("ClientTrafficPolicy")
        .any(|policy| elements(policy.at("spec.headers.earlyRequestHeaders.remove")).any(is_it));
    if is_removed_early {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut routes = overlay.of_kind("HTTPRoute").peekable();
    if routes.peek().is_none() {
        findings.push(overlay.finding(
            "components",
            format!(
                "identity is header, and there is no HTTPRoute that removes the client's own {header}"
            ),
        ));
    }
    for route in routes {
        for (n, rule) in elements(route.at("spec.rules")).enumerate() {
            let is_handled = elements(&rule["filters"]).any(|filter| {
                let modifier = &filter["requestHeaderModifier"];
                elements(&modifier["remove"]).any(is_it)
                    || elements(&modifier["set"]).any(|set| is_it(&set["name"]))
            });
            if !is_handled {
                findings.push(route.finding(
                    format!("spec.rules[{n}].filters"),
                    format!(
                        "identity is header, and this rule lets the client's own {header} pass: remove it with \
                         a RequestHeaderModifier"
                    ),
                ));
            }
        }
    }
    findings
}

fn allowed_hosts(deployment: &Deployment, application: &Application<'_>) -> Vec<Finding> {
    let names = deployment
        .manifest
        .variables
        .keys()
        .filter(|name| name.ends_with("_allowed_host"));
    names
        .filter(|name| {
            let value = application.value(&deployment.manifest, name);
            value.is_some_and(|value| value.contains('*'))
        })
        .map(|name| {
            application.object.finding(
                application.field(name),
                format!("{name} allows any host: name the one that the component needs"),
            )
        })
        .collect()
}

/// Whether it is a URL with `user:password@`.
fn has_password(value: &str) -> bool {
    value
        .split_once("://")
        .and_then(|(_, rest)| rest.split('/').next())
        .and_then(|authority| authority.rsplit_once('@'))
        .is_some_and(|(user, _)| user.contains(':'))
}
