//! Each rule of the check is seen red: a table of mistakes, each planted in what deploy/ renders to.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails panics, in its helpers, too"
)]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use deploy_check::render::{Object, Overlay, Stage};
use deploy_check::tools::Tools;
use deploy_check::{Deployment, Finding, check, load, policies, schema};
use devstack::workspace;
use serde_json::{Value, json};

fn tools() -> &'static Tools {
    static TOOLS: OnceLock<Tools> = OnceLock::new();
    TOOLS.get_or_init(|| Tools::find_or_install(workspace::root(), true).unwrap())
}

/// What deploy/ renders to, rendered once.
fn rendered() -> Deployment {
    static RENDERED: OnceLock<Deployment> = OnceLock::new();
    RENDERED
        .get_or_init(|| load(workspace::root(), tools()).unwrap().0)
        .clone()
}

fn overlay<'a>(deployment: &'a mut Deployment, folder: &str) -> &'a mut Overlay {
    let overlays = &mut deployment.overlays;
    overlays.iter_mut().find(|o| o.folder == folder).unwrap()
}

fn object<'a>(overlay: &'a mut Overlay, name: &str) -> &'a mut Object {
    let objects = &mut overlay.objects;
    objects
        .iter_mut()
        .find(|object| format!("{}/{}", object.kind(), object.name()) == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

/// Something to break in one object, and what the check must say of it.
struct Mistake {
    overlay: &'static str,
    object: &'static str,
    plant: fn(&mut Value),
    /// `Kind/name` of the object that is to change; "" for the one that was broken.
    found_in: &'static str,
    field: &'static str,
    reason: &'static str,
}

const DEPLOYMENT: &str = "deploy/overlays/deployment";
const SPINTAINER: &str = "deploy/overlays/spintainer";
const LAPTOP: &str = "deploy/overlays/laptop";
const POSTGRES: &str = "deploy/stores/postgres";
const MIGRATION: &str = "deploy/migration";
const OBSERVABILITY: &str = "deploy/observability";

const fn mistake(
    overlay: &'static str,
    object: &'static str,
    plant: fn(&mut Value),
    field: &'static str,
    reason: &'static str,
) -> Mistake {
    Mistake {
        overlay,
        object,
        plant,
        found_in: "",
        field,
        reason,
    }
}

impl Mistake {
    const fn found_in(self, object: &'static str) -> Self {
        Self {
            found_in: object,
            ..self
        }
    }
}

fn container(value: &mut Value) -> &mut Value {
    &mut value["spec"]["template"]["spec"]["containers"][0]
}

fn env<'a>(value: &'a mut Value, name: &str) -> &'a mut Value {
    let list = container(value)["env"].as_array_mut().unwrap();
    list.iter_mut().find(|env| env["name"] == name).unwrap()
}

fn remove_env(value: &mut Value, name: &str) {
    let list = container(value)["env"].as_array_mut().unwrap();
    list.retain(|env| env["name"] != name);
}

fn remove(value: &mut Value, name: &str) {
    value.as_object_mut().unwrap().remove(name).unwrap();
}

#[rustfmt::skip]
const MISTAKES: &[Mistake] = &[
    // Variables.
    mistake(DEPLOYMENT, "Deployment/orders", |d| remove_env(d, "SPIN_VARIABLE_REDIS_URL"),
        "SPIN_VARIABLE_REDIS_URL", "spin.toml requires redis_url, and nothing binds it"),
    mistake(SPINTAINER, "SpinApp/orders", |d| { d["spec"]["variables"].as_array_mut().unwrap().remove(0); },
        "spec.variables (redis_url)", "spin.toml requires redis_url"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| env(d, "SPIN_VARIABLE_IDENTITY")["name"] = json!("SPIN_VARIABLE_IDENTITTY"),
        "(SPIN_VARIABLE_IDENTITTY)", "spin.toml has no variable identitty"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| *env(d, "SPIN_VARIABLE_DATABASE_URL") =
        json!({"name": "SPIN_VARIABLE_DATABASE_URL", "value": "postgres://orders@db:5432/orders"}),
        "(SPIN_VARIABLE_DATABASE_URL)", "database_url is secret in spin.toml"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| env(d, "SPIN_VARIABLE_REDIS_ALLOWED_HOST")["value"] = json!("redis://user:word@valkey:6379"),
        "(SPIN_VARIABLE_REDIS_ALLOWED_HOST)", "redis_allowed_host has a password in it"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| { let again = env(d, "SPIN_VARIABLE_IDENTITY").clone(); container(d)["env"].as_array_mut().unwrap().push(again); },
        "(SPIN_VARIABLE_IDENTITY)", "identity is bound twice"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| env(d, "SPIN_VARIABLE_IDENTITY")["value"] = json!("none"),
        "(SPIN_VARIABLE_IDENTITY)", "everybody would be one customer"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| { let store = json!({"name": "SPIN_VARIABLE_STORE", "value": "embedded"}); container(d)["env"].as_array_mut().unwrap().push(store); },
        "(SPIN_VARIABLE_STORE)", "each pod would have a file of its own"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| remove_env(d, "SPIN_VARIABLE_IDENTITY"),
        "SPIN_VARIABLE_IDENTITY", "identity is not chosen"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| remove_env(d, "SPIN_VARIABLE_JWT_KEYS"),
        "(SPIN_VARIABLE_JWT_KEYS)", "identity is jwt, and nothing binds jwt_keys"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| env(d, "SPIN_VARIABLE_IDENTITY")["value"] = json!("header"),
        "(SPIN_VARIABLE_JWT_KEYS)", "jwt_keys is bound, and identity is header"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| { env(d, "SPIN_VARIABLE_IDENTITY")["value"] = json!("header");
        container(d)["env"].as_array_mut().unwrap().push(json!({"name": "SPIN_VARIABLE_IDENTITY_HEADER", "value": "X-Customer"})); },
        "spec.rules[0].filters", "lets the client's own X-Customer pass").found_in("HTTPRoute/orders"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| remove_env(d, "SPIN_VARIABLE_DATABASE_ALLOWED_HOST"),
        "SPIN_VARIABLE_DATABASE_ALLOWED_HOST", "database_allowed_host allows any host"),
    // Images.
    mistake(DEPLOYMENT, "Deployment/orders", |d| container(d)["image"] = json!("registry.example.com/orders:latest"),
        "spec.template.spec.containers[0].image", "whatever is latest"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| container(d)["image"] = json!("registry.example.com:5000/orders"),
        "spec.template.spec.containers[0].image", "whatever is latest"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| container(d)["image"] = json!("registry.example.com/orders:1.0"),
        "spec.template.spec.containers[0].image", "has a tag, which can be moved"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| container(d)["image"] = json!("registry.example.com/orders@sha256:12ab"),
        "spec.template.spec.containers[0].image", "64 hexadecimal digits"),
    mistake(LAPTOP, "Deployment/orders-valkey", |d| container(d)["image"] = json!("valkey/valkey"),
        "spec.template.spec.containers[0].image", "whatever is latest"),
    mistake(SPINTAINER, "SpinAppExecutor/orders-spin", |d| d["spec"]["deploymentConfig"]["spinImage"] = json!("registry.example.com/orders:1"),
        "spec.deploymentConfig.spinImage", "has a tag"),
    mistake("deploy/overlays/shim", "SpinApp/orders", |d| d["spec"]["image"] = json!("/app/spin.toml"),
        "spec.image", "whatever is latest"),
    mistake(POSTGRES, "Cluster/orders-db", |d| d["spec"]["imageName"] = json!("ghcr.io/cloudnative-pg/postgresql:18"),
        "spec.imageName", "has a tag"),
    // Probes.
    mistake(DEPLOYMENT, "Deployment/orders", |d| container(d)["livenessProbe"]["httpGet"]["path"] = json!("/readyz"),
        "livenessProbe.httpGet.path", "asks for /readyz: livenessProbe must ask for /healthz"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| remove(container(d), "startupProbe"),
        "startupProbe.httpGet.path", "is missing"),
    mistake(SPINTAINER, "SpinApp/orders", |d| remove(&mut d["spec"]["checks"], "readiness"),
        "spec.checks.readiness.httpGet.path", "is missing"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| container(d)["readinessProbe"]["timeoutSeconds"] = json!(5),
        "readinessProbe.timeoutSeconds", "5 s is not longer than database_timeout_ms (5000 ms)"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| container(d)["readinessProbe"]["httpGet"]["port"] = json!("http"),
        "readinessProbe.httpGet.port", "\"http\" is no port of the container"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| env(d, "SPIN_HTTP_LISTEN_ADDR")["value"] = json!("0.0.0.0:3000"),
        "readinessProbe.httpGet.port", "asks at port 8080, and Spin listens on 3000"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| remove_env(d, "SPIN_HTTP_LISTEN_ADDR"),
        "env (SPIN_HTTP_LISTEN_ADDR)", "is missing"),
    // Labels.
    mistake(DEPLOYMENT, "Service/orders", |d| d["spec"]["selector"]["app.kubernetes.io/component"] = json!("web"),
        "spec.selector", "selects no pod"),
    mistake(DEPLOYMENT, "PodDisruptionBudget/orders", |d| d["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] = json!("order"),
        "spec.selector.matchLabels", "selects no pod"),
    mistake(DEPLOYMENT, "PodDisruptionBudget/orders", |d| d["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] = json!("otel"),
        "spec.template.metadata.labels", "no PodDisruptionBudget selects these pods").found_in("Deployment/orders"),
    mistake(DEPLOYMENT, "Service/orders", |d| d["spec"]["selector"]["app.kubernetes.io/component"] = json!("otel"),
        "spec.template.metadata.labels", "no Service selects these pods").found_in("Deployment/orders"),
    mistake(DEPLOYMENT, "NetworkPolicy/orders", |d| d["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"] = json!("order"),
        "spec.podSelector.matchLabels", "selects no pod"),
    mistake(SPINTAINER, "SpinApp/orders", |d| d["spec"]["podLabels"]["app.kubernetes.io/component"] = json!("web"),
        "spec.podLabels", "no PodDisruptionBudget selects these pods"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| d["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] = json!("order"),
        "spec.selector.matchLabels", "selects no pod"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| d["spec"]["template"]["spec"]["topologySpreadConstraints"][1]["labelSelector"]["matchLabels"]["app.kubernetes.io/name"] = json!("order"),
        "topologySpreadConstraints[1].labelSelector", "nothing is spread"),
    mistake(DEPLOYMENT, "Service/orders", |d| d["spec"]["ports"][0]["targetPort"] = json!("web"),
        "spec.ports[0].targetPort", "\"web\" is no port of Deployment/orders"),
    mistake(DEPLOYMENT, "HorizontalPodAutoscaler/orders", |d| d["spec"]["scaleTargetRef"]["name"] = json!("order"),
        "spec.scaleTargetRef", "there is no Deployment order"),
    mistake(DEPLOYMENT, "HorizontalPodAutoscaler/orders", |d| d["spec"]["minReplicas"] = json!(1),
        "spec.minReplicas", "at least 2"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| d["spec"]["replicas"] = json!(3),
        "spec.replicas", "the autoscaler owns"),
    mistake(SPINTAINER, "SpinApp/orders", |d| remove(&mut d["spec"], "enableAutoscaling"),
        "spec.enableAutoscaling", "must be true"),
    mistake(DEPLOYMENT, "HTTPRoute/orders", |d| d["spec"]["rules"][0]["backendRefs"][0]["port"] = json!(8080),
        "spec.rules[0].backendRefs[0]", "there is no Service orders with port 8080"),
    mistake(OBSERVABILITY, "PodMonitor/orders-log-agent", |d| d["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] = json!("agent"),
        "spec.selector.matchLabels", "selects no pod"),
    // Network.
    mistake(DEPLOYMENT, "NetworkPolicy/orders", |d| d["spec"]["policyTypes"] = json!(["Ingress"]),
        "metadata.labels", "no NetworkPolicy limits these pods' Egress").found_in("Deployment/orders"),
    mistake(DEPLOYMENT, "NetworkPolicy/orders-otel", |d| d["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] = json!("api"),
        "metadata.labels", "no NetworkPolicy limits these pods' Ingress").found_in("Deployment/orders-otel"),
    mistake(DEPLOYMENT, "NetworkPolicy/orders", |d| d["spec"]["egress"].as_array_mut().unwrap().push(json!({})),
        "spec.egress[2].ports", "allows every port"),
    mistake(DEPLOYMENT, "NetworkPolicy/orders", |d| d["spec"]["egress"][1]["ports"][0]["port"] = json!(443),
        "spec.egress[1].ports[0]", "lets out to 443"),
    mistake(DEPLOYMENT, "NetworkPolicy/orders", |d| d["spec"]["egress"][1]["ports"][0]["port"] = json!(443),
        "spec.egress", "nothing out to port 6379"),
    mistake(DEPLOYMENT, "NetworkPolicy/orders", |d| d["spec"]["egress"][1]["ports"][0]["endPort"] = json!(9999),
        "spec.egress[1].ports[0]", "only [53"),
    mistake(DEPLOYMENT, "NetworkPolicy/orders", |d| remove(&mut d["spec"]["ingress"][0], "ports"),
        "spec.ingress[0]", "names no port"),
    mistake(DEPLOYMENT, "NetworkPolicy/orders", |d| d["spec"]["ingress"][0]["ports"][0]["port"] = json!(3000),
        "spec.ingress[0].ports[0]", "3000 is no port of Deployment/orders"),
    // Pod security.
    mistake(DEPLOYMENT, "Namespace/orders", |d| d["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = json!("baseline"),
        "metadata.labels.pod-security.kubernetes.io/enforce", "must be restricted"),
    mistake(SPINTAINER, "Namespace/orders", |d| d["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = json!("restricted"),
        "kind", "a SpinApp cannot express a security context").found_in("SpinApp/orders"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| d["spec"]["template"]["spec"]["hostNetwork"] = json!(true),
        "spec.template.spec.hostNetwork", "must not be set"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| d["spec"]["template"]["spec"]["volumes"][0] = json!({"name": "tmp", "hostPath": {"path": "/tmp"}}),
        "spec.template.spec.volumes[0]", "\"restricted\" does not allow"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| remove(&mut d["spec"]["template"]["spec"]["securityContext"], "runAsNonRoot"),
        "containers[0].securityContext.runAsNonRoot", "must be true"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| container(d)["securityContext"]["runAsUser"] = json!(0),
        "containers[0].securityContext.runAsUser", "must not be 0"),
    mistake(MIGRATION, "Job/orders-migrate", |d| remove(&mut d["spec"]["template"]["spec"]["securityContext"], "seccompProfile"),
        "containers[0].securityContext.seccompProfile.type", "RuntimeDefault"),
    mistake(MIGRATION, "Job/orders-migrate", |d| remove(&mut container(d)["securityContext"], "allowPrivilegeEscalation"),
        "containers[0].securityContext.allowPrivilegeEscalation", "must be false"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| container(d)["securityContext"]["privileged"] = json!(true),
        "containers[0].securityContext.privileged", "must not be set"),
    mistake(LAPTOP, "StatefulSet/orders-postgres", |d| container(d)["securityContext"]["capabilities"]["drop"] = json!(["KILL"]),
        "containers[0].securityContext.capabilities.drop", "must contain ALL"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| container(d)["securityContext"]["capabilities"]["add"] = json!(["SYS_PTRACE"]),
        "containers[0].securityContext.capabilities.add", "NET_BIND_SERVICE only"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| container(d)["ports"][0]["hostPort"] = json!(8080),
        "containers[0].ports.hostPort", "must not be set"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| remove(&mut d["spec"]["template"]["spec"], "automountServiceAccountToken"),
        "spec.template.spec.automountServiceAccountToken", "must be false"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| container(d)["securityContext"]["readOnlyRootFilesystem"] = json!(false),
        "containers[0].securityContext.readOnlyRootFilesystem", "must be true"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| remove(&mut container(d)["resources"], "limits"),
        "containers[0].resources.limits.memory", "is missing"),
    mistake(SPINTAINER, "SpinApp/orders", |d| remove(&mut d["spec"]["resources"], "limits"),
        "spec.resources.limits.memory", "is missing"),
    // Secrets.
    mistake(DEPLOYMENT, "Deployment/orders", |d| env(d, "SPIN_VARIABLE_REDIS_URL")["valueFrom"]["secretKeyRef"]["name"] = json!("orders-stores"),
        "valueFrom.secretKeyRef.name", "\"orders-stores\" has no version"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| d["spec"]["template"]["spec"]["volumes"][1]["secret"]["secretName"] = json!("orders-ca"),
        "spec.template.spec.volumes[1].secret.secretName", "\"orders-ca\" has no version"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| container(d)["envFrom"] = json!([{"secretRef": {"name": "more"}}]),
        "containers[0].envFrom[0].secretRef.name", "\"more\" has no version"),
    mistake(SPINTAINER, "SpinApp/orders", |d| d["spec"]["variables"][0]["valueFrom"]["secretKeyRef"]["name"] = json!("orders-stores"),
        "spec.variables[0].valueFrom.secretKeyRef.name", "has no version"),
    // Shutdown.
    mistake(DEPLOYMENT, "Deployment/orders", |d| remove(container(d), "lifecycle"),
        "lifecycle.preStop.sleep.seconds", "Spin ends at SIGTERM"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| container(d)["lifecycle"]["preStop"]["sleep"]["seconds"] = json!(20),
        "lifecycle.preStop.sleep.seconds", "20 s is less than a request may take"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| d["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(29),
        "terminationGracePeriodSeconds", "29 s is less than preStop (25 s)"),
    mistake(DEPLOYMENT, "Deployment/orders", |d| d["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] = json!(1),
        "maxUnavailable", "must be 0"),
    // Capacity and durability.
    mistake(DEPLOYMENT, "HorizontalPodAutoscaler/orders", |d| d["spec"]["maxReplicas"] = json!(15),
        "spec.maxReplicas", "15 pods and 1 during a rollout x 64 connections = 1024"),
    mistake(SPINTAINER, "HorizontalPodAutoscaler/orders", |d| d["spec"]["maxReplicas"] = json!(13),
        "spec.maxReplicas", "13 pods and 4 during a rollout x 64 connections = 1088"),
    mistake(LAPTOP, "Deployment/orders", |d| d["spec"]["replicas"] = json!(4),
        "spec.replicas", "more than max_connections = 300 of StatefulSet/orders-postgres"),
    mistake(POSTGRES, "Pooler/orders-pooler", |d| d["spec"]["pgbouncer"]["parameters"]["max_client_conn"] = json!("300"),
        "spec.maxReplicas", "(3 - 1) x max_client_conn 300 = 600").found_in("HorizontalPodAutoscaler/orders"),
    mistake(POSTGRES, "Pooler/orders-pooler", |d| d["kind"] = json!("Other"),
        "spec.maxReplicas", "no Pooler in deploy/ bounds them").found_in("HorizontalPodAutoscaler/orders"),
    mistake(POSTGRES, "Pooler/orders-pooler", |d| d["spec"]["pgbouncer"]["parameters"]["default_pool_size"] = json!("70"),
        "default_pool_size", "3 instances x 70 = 210"),
    mistake(POSTGRES, "Pooler/orders-pooler", |d| remove(&mut d["spec"]["pgbouncer"]["parameters"], "max_prepared_statements"),
        "max_prepared_statements", "is missing"),
    mistake(POSTGRES, "Cluster/orders-db", |d| d["spec"]["instances"] = json!(2),
        "spec.instances", "at least 3"),
    mistake(POSTGRES, "Cluster/orders-db", |d| remove(&mut d["spec"]["postgresql"], "synchronous"),
        "spec.postgresql.synchronous.number", "a failover forgets acknowledged orders"),
    mistake(POSTGRES, "Cluster/orders-db", |d| d["spec"]["postgresql"]["synchronous"]["dataDurability"] = json!("preferred"),
        "spec.postgresql.synchronous.dataDurability", "only one machine has"),
    mistake(POSTGRES, "Cluster/orders-db", |d| remove(&mut d["spec"]["postgresql"]["synchronous"], "failoverQuorum"),
        "spec.postgresql.synchronous.failoverQuorum", "must be true"),
    mistake(POSTGRES, "Cluster/orders-db", |d| d["spec"]["postgresql"]["parameters"]["synchronous_commit"] = json!("off"),
        "spec.postgresql.parameters.synchronous_commit", "must be on"),
    // Observability.
    mistake(OBSERVABILITY, "PrometheusRule/orders", |d| d["spec"]["groups"][0]["rules"][0]["alert"] = json!("OrdersBroken"),
        "spec.groups[0].rules[0].alert", "no section \"### OrdersBroken\""),
    mistake(OBSERVABILITY, "PrometheusRule/orders", |d| d["spec"]["groups"][0]["rules"][0]["annotations"]["runbook"] = json!("docs/other.md"),
        "spec.groups[0].rules[0].annotations.runbook", "must be docs/operations.md#ordersunavailable"),
];

/// The same, in the configuration of a collector, which is text in a ConfigMap.
#[rustfmt::skip]
const COLLECTOR_MISTAKES: &[(&str, &str, &str, &str, &str)] = &[
    (DEPLOYMENT, "processors: [memory_limiter, redaction/allow, transform/spans, batch]", "processors: [batch]",
        "service.pipelines.traces.processors", "has no redaction"),
    (DEPLOYMENT, "allow_all_keys: false", "allow_all_keys: true", "processors.redaction/allow.allow_all_keys", "must be false"),
    (DEPLOYMENT, "- http.route", "- arguments", "processors.redaction/allow.allowed_keys", "what clients sent"),
    (DEPLOYMENT, "exporters: [otlp_http]", "exporters: [otlp]", "service.pipelines", "there is no \"otlp\""),
    (OBSERVABILITY, "- {key: outcome}", "- {key: customer}", "connectors", "\"customer\" is no field of the request log"),
    (OBSERVABILITY, "connectors:", "connectors: [", "data.agent-config.yaml", "is not YAML"),
];

fn found<'a>(
    findings: &'a [Finding],
    object: &str,
    field: &str,
    reason: &str,
) -> Option<&'a Finding> {
    findings.iter().find(|finding| {
        finding.object == object && finding.field.contains(field) && finding.reason.contains(reason)
    })
}

fn assert_found(findings: &[Finding], object: &str, field: &str, reason: &str) {
    assert!(
        found(findings, object, field, reason).is_some(),
        "no policy said of {object} that {field} {reason:?}; but:\n{}",
        findings
            .iter()
            .map(|f| format!("  {f}\n"))
            .collect::<String>()
    );
}

#[test]
fn the_checkout_is_in_order() {
    let report = check(workspace::root(), tools()).unwrap();
    let findings: String = report.findings.iter().map(|f| format!("{f}\n")).collect();
    assert_eq!(findings, "");
    assert!(report.overlays.len() >= 7, "{:?}", report.overlays);
}

#[test]
fn each_planted_mistake_is_found() {
    for mistake in MISTAKES {
        let mut deployment = rendered();
        let broken = object(overlay(&mut deployment, mistake.overlay), mistake.object);
        (mistake.plant)(&mut broken.value);
        let found_in = match mistake.found_in {
            "" => mistake.object,
            other => other,
        };
        assert_found(
            &policies::check(&deployment),
            found_in,
            mistake.field,
            mistake.reason,
        );
    }
}

#[test]
fn each_mistake_in_a_collector_is_found() {
    for (folder, text, other, field, reason) in COLLECTOR_MISTAKES {
        let mut deployment = rendered();
        let objects = &mut overlay(&mut deployment, folder).objects;
        let map = objects
            .iter_mut()
            .find(|o| o.kind() == "ConfigMap")
            .unwrap();
        let name = format!("ConfigMap/{}", map.name());
        for content in map.value["data"].as_object_mut().unwrap().values_mut() {
            let broken = content.as_str().unwrap().replace(text, other);
            assert_ne!(content.as_str(), Some(&*broken), "{text} is not there");
            *content = broken.into();
        }
        assert_found(&policies::check(&deployment), &name, field, reason);
    }
}

#[test]
fn a_new_variable_must_be_bound_and_a_renamed_one_is_noticed() {
    let mut deployment = rendered();
    let variables = &mut deployment.manifest.variables;
    let mut url = variables.remove("redis_url").unwrap();
    url.required = true;
    variables.insert("cache_url".into(), url);
    variables.remove("identity_header").unwrap();
    let findings = policies::check(&deployment);
    for (object, field) in [
        ("Deployment/orders", "SPIN_VARIABLE_CACHE_URL"),
        ("SpinApp/orders", "spec.variables (cache_url)"),
    ] {
        assert_found(&findings, object, field, "spin.toml requires cache_url");
    }
    assert_found(
        &findings,
        "Deployment/orders",
        "REDIS_URL",
        "spin.toml has no variable redis_url",
    );
    assert_found(
        &findings,
        "Deployment/orders",
        "IDENTITY_HEADER",
        "no longer has identity_header",
    );
}

#[test]
fn a_route_that_does_not_take_the_probes_is_noticed() {
    let mut deployment = rendered();
    deployment.manifest = toml::from_str("[[trigger.http]]\nroute = \"/api/...\"").unwrap();
    assert_found(
        &policies::check(&deployment),
        "Deployment/orders",
        "livenessProbe.httpGet.path",
        "no trigger in spin.toml takes /healthz",
    );
}

#[test]
fn production_refuses_placeholders() {
    for (folder, object, field) in [
        (DEPLOYMENT, "Deployment/orders", "containers[0].image"),
        (DEPLOYMENT, "Deployment/orders-otel", "containers[0].image"),
        (
            SPINTAINER,
            "SpinAppExecutor/orders-spin",
            "spec.deploymentConfig.spinImage",
        ),
        ("deploy/overlays/shim", "SpinApp/orders", "spec.image"),
        (MIGRATION, "Job/orders-migrate", "containers[0].image"),
        (POSTGRES, "Cluster/orders-db", "spec.imageName"),
    ] {
        let mut deployment = rendered();
        overlay(&mut deployment, folder).stage = Stage::Production;
        assert_found(
            &policies::check(&deployment),
            object,
            field,
            "has the placeholder for a digest",
        );
    }
}

#[test]
fn an_overlay_without_an_application_is_noticed() {
    let mut deployment = rendered();
    let overlay = overlay(&mut deployment, DEPLOYMENT);
    overlay.objects.retain(|o| o.kind() != "Deployment");
    assert_found(
        &policies::check(&deployment),
        "Kustomization",
        "resources",
        "neither a SpinApp nor",
    );
}

#[test]
fn identity_from_a_header_needs_a_route() {
    let mut deployment = rendered();
    let overlay = overlay(&mut deployment, DEPLOYMENT);
    env(
        &mut object(overlay, "Deployment/orders").value,
        "SPIN_VARIABLE_IDENTITY",
    )["value"] = json!("header");
    overlay.objects.retain(|o| o.kind() != "HTTPRoute");
    assert_found(
        &policies::check(&deployment),
        "Kustomization",
        "components",
        "there is no HTTPRoute",
    );
}

#[test]
fn a_field_that_is_removed_before_authentication_needs_no_filter() {
    let mut deployment = rendered();
    let overlay = overlay(&mut deployment, DEPLOYMENT);
    overlay.objects.retain(|o| o.kind() != "HTTPRoute");
    let deployment_object = object(overlay, "Deployment/orders");
    env(&mut deployment_object.value, "SPIN_VARIABLE_IDENTITY")["value"] = json!("header");
    remove_env(&mut deployment_object.value, "SPIN_VARIABLE_JWT_KEYS");
    let mut early = Object {
        file: "policy.yaml".into(),
        value: json!({
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "ClientTrafficPolicy",
            "metadata": {"name": "early"},
            "spec": {
                "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"}],
                "headers": {"earlyRequestHeaders": {"remove": ["x-user-id"]}},
            },
        }),
    };
    overlay.objects.push(early.clone());
    let overlays = [overlay.clone()];
    assert_eq!(policies::check(&deployment), []);
    assert_eq!(
        schema::check(workspace::root(), tools(), &overlays).unwrap(),
        []
    );
    early.value["spec"]["headers"]["earlyRequestHeaders"]["remove"] = json!(["x-other"]);
    let objects = &mut self::overlay(&mut deployment, DEPLOYMENT).objects;
    objects.pop();
    objects.push(early);
    assert_found(
        &policies::check(&deployment),
        "Kustomization",
        "components",
        "no HTTPRoute",
    );
}

#[test]
fn a_smaller_pool_of_the_runtime_configuration_counts() {
    let mut deployment = rendered();
    let autoscaler = object(
        overlay(&mut deployment, DEPLOYMENT),
        "HorizontalPodAutoscaler/orders",
    );
    autoscaler.value["spec"]["maxReplicas"] = json!(20);
    assert!(!policies::check(&deployment).is_empty());
    deployment.files.connection_limit = Some(32);
    assert_eq!(policies::check(&deployment), []);
}

#[test]
fn files_outside_of_kustomizations_are_looked_at() {
    let mut deployment = rendered();
    let file = &mut deployment.files.containerfiles[0].1;
    *file = file
        .replace(
            "FROM ${SPIN_IMAGE}",
            "FROM ghcr.io/spinframework/spin:v4.1.0",
        )
        .replace("ARG RUST_IMAGE", "ARG RUST_IMAGE=rust:1.95");
    deployment.files.valkey_values.1["image"]["tag"] = json!("9.1");
    let findings = policies::check(&deployment);
    assert_found(
        &findings,
        "image",
        "line",
        "FROM ghcr.io/spinframework/spin:v4.1.0",
    );
    assert_found(&findings, "image", "line", "RUST_IMAGE has a default");
    assert_found(&findings, "values", "image.tag", "\"9.1\" is not pinned");
}

#[test]
fn schemas_are_strict() {
    type Plant = fn(&mut Value);
    #[rustfmt::skip]
    let mistakes: [(&str, &str, Plant, &str, &str); 9] = [
        (DEPLOYMENT, "Deployment/orders", |d| container(d)["imagePullpolicy"] = json!("Always"), "spec.template.spec.containers.0", "imagePullpolicy"),
        (DEPLOYMENT, "Deployment/orders", |d| d["spec"]["replicas"] = json!("3"), "spec.replicas", "not of type"),
        (DEPLOYMENT, "HorizontalPodAutoscaler/orders", |d| d["apiVersion"] = json!("autoscaling/v2beta2"), "kind", "is neither in Kubernetes"),
        (DEPLOYMENT, "HTTPRoute/orders", |d| d["spec"]["rules"][0]["timeouts"]["request"] = json!("20"), "spec.rules.0.timeouts.request", "deploy/schemas"),
        (SPINTAINER, "SpinApp/orders", |d| d["spec"]["securityContext"] = json!({}), "spec", "securityContext"),
        (SPINTAINER, "SpinApp/orders", |d| d["spec"]["replicas"] = json!(2), "spec", "deploy/schemas"),
        (SPINTAINER, "SpinAppExecutor/orders-spin", |d| d["spec"]["deploymentConfig"]["runtimeClassName"] = json!("x"), "spec.deploymentConfig", "deploy/schemas"),
        (POSTGRES, "Cluster/orders-db", |d| d["spec"]["postgresql"]["parameters"]["max_connections"] = json!(200), "spec.postgresql.parameters.max_connections", "not of type"),
        (POSTGRES, "ScheduledBackup/orders-daily", |d| d["spec"]["schedule"] = json!("0 3 * * *"), "spec.schedule", "deploy/schemas"),
    ];
    for (folder, name, plant, field, reason) in mistakes {
        let mut deployment = rendered();
        let overlay = overlay(&mut deployment, folder);
        overlay.objects = vec![object(overlay, name).clone()];
        plant(&mut overlay.objects[0].value);
        let overlays = [overlay.clone()];
        let findings = schema::check(workspace::root(), tools(), &overlays).unwrap();
        assert_found(&findings, name, field, reason);
    }
}

/// A checkout with a copy of deploy/ to break files in.
struct Copy(PathBuf);

impl Copy {
    fn of_checkout(name: &str) -> Self {
        let root = workspace::root();
        let copy = root
            .join("target/deploy-check-tests")
            .join(format!("{name}-{}", std::process::id()));
        copy_folder(&root.join("deploy"), &copy.join("deploy"));
        std::fs::create_dir_all(copy.join("docs")).unwrap();
        for file in ["spin.toml", "docs/operations.md"] {
            std::fs::copy(root.join(file), copy.join(file)).unwrap();
        }
        Self(copy)
    }

    fn replace(&self, file: &str, text: &str, other: &str) {
        let path = self.0.join(file);
        let before = std::fs::read_to_string(&path).unwrap();
        let after = before.replace(text, other);
        assert_ne!(before, after, "{text:?} is not in {file}");
        std::fs::write(path, after).unwrap();
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn a_finding_names_the_file_to_change() {
    let copy = Copy::of_checkout("file");
    copy.replace(
        "deploy/base/autoscaler.yaml",
        "maxReplicas: 10",
        "maxReplicas: 100",
    );
    copy.replace(
        "deploy/overlays/spintainer/app.yaml",
        "path: /readyz",
        "path: /ready",
    );
    copy.replace(
        "deploy/overlays/shim/kustomization.yaml",
        "deploy-check/stage: template",
        "deploy-check/stage: beta",
    );
    let report = check(&copy.0, tools()).unwrap();
    let lines: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let text = lines.join("\n");
    for start in [
        "deploy/base/autoscaler.yaml (in deploy/overlays/deployment): HorizontalPodAutoscaler/orders: spec.maxReplicas: 100 pods",
        "deploy/overlays/spintainer/app.yaml: SpinApp/orders: spec.checks.readiness.httpGet.path: asks for /ready",
        "deploy/overlays/shim/kustomization.yaml: Kustomization: metadata.annotations.deploy-check/stage: must be part, template, production or laptop, not beta",
    ] {
        assert!(
            lines.iter().any(|line| line.starts_with(start)),
            "{start}\n\n{text}"
        );
    }
}

#[test]
fn a_kustomization_that_cannot_be_rendered_is_an_error_that_names_it() {
    let copy = Copy::of_checkout("render");
    copy.replace(
        "deploy/overlays/laptop/kustomization.yaml",
        "- stores.yaml",
        "- store.yaml",
    );
    let error = format!("{:#}", check(&copy.0, tools()).unwrap_err());
    assert!(
        error.starts_with("deploy/overlays/laptop/kustomization.yaml cannot be rendered"),
        "{error}"
    );
    assert!(error.contains("store.yaml"), "{error}");
}
