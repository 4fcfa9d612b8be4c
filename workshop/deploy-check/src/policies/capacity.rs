//! Postgres has a connection for everything that pods may open, and keeps what it has acknowledged.

use serde_json::Value;

use crate::application::{Application, elements, text};
use crate::render::{Object, Overlay};
use crate::{Deployment, Finding};

/// How many connections Spin's pool opens to one database: `CONNECTION_POOL_SIZE` of its Postgres factor.
const POOL_SIZE: u64 = 64;
/// Connections that are not the pods': the migrator's, the operator's, replication, superusers.
const RESERVED: u64 = 20;
/// What Kubernetes takes for `maxSurge` if a Deployment does not say.
const DEFAULT_SURGE: &str = "25%";

pub fn check(
    deployment: &Deployment,
    overlay: &Overlay,
    application: &Application<'_>,
) -> Vec<Finding> {
    let object = application.object;
    let per_pod = deployment
        .files
        .connection_limit
        .unwrap_or(POOL_SIZE)
        .min(POOL_SIZE);
    let autoscaler = overlay.of_kind("HorizontalPodAutoscaler").next();
    let (of, field, replicas) = match autoscaler {
        Some(autoscaler) => (
            autoscaler,
            "spec.maxReplicas",
            autoscaler.at("spec.maxReplicas").as_u64().unwrap_or(0),
        ),
        None => (
            object,
            "spec.replicas",
            object.at("spec.replicas").as_u64().unwrap_or(1),
        ),
    };
    let surge = surge(object, replicas);
    let needed = (replicas + surge) * per_pod;
    let sum =
        format!("{replicas} pods and {surge} during a rollout x {per_pod} connections = {needed}");

    if let Some((server, connections)) = own_postgres(overlay) {
        return match needed + RESERVED > connections {
            true => vec![of.finding(
                field,
                format!(
                    "{sum}, and {RESERVED} for others, is more than max_connections = {connections} of {}/{}",
                    server.kind(),
                    server.name()
                ),
            )],
            false => Vec::new(),
        };
    }
    let mut poolers = deployment
        .overlays
        .iter()
        .flat_map(|overlay| overlay.of_kind("Pooler"))
        .peekable();
    if poolers.peek().is_none() {
        return vec![of.finding(
            field,
            format!("{sum}, and no Pooler in deploy/ bounds them"),
        )];
    }
    poolers
        .filter_map(|pooler| {
            let instances = pooler.at("spec.instances").as_u64().unwrap_or(1);
            let clients = parameter(pooler, "spec.pgbouncer.parameters", "max_client_conn");
            // One of them may be down, or be replaced.
            let capacity = instances.saturating_sub(1) * clients;
            (needed > capacity).then(|| {
                of.finding(
                    field,
                    format!(
                        "{sum}, more than Pooler/{} takes with one instance down: ({instances} - 1) x \
                         max_client_conn {clients} = {capacity}",
                        pooler.name()
                    ),
                )
            })
        })
        .collect()
}

/// What the stores say of themselves, whichever overlay uses them.
pub fn check_stores(deployment: &Deployment) -> Vec<Finding> {
    let mut findings = Vec::new();
    for overlay in &deployment.overlays {
        for cluster in overlay.of_kind("Cluster") {
            findings.extend(durability(cluster));
            for pooler in overlay.of_kind("Pooler") {
                findings.extend(server_connections(cluster, pooler));
            }
        }
    }
    findings
}

fn server_connections(cluster: &Object, pooler: &Object) -> Vec<Finding> {
    let mut findings = Vec::new();
    let instances = pooler.at("spec.instances").as_u64().unwrap_or(1);
    let size = parameter(pooler, "spec.pgbouncer.parameters", "default_pool_size");
    let connections = parameter(cluster, "spec.postgresql.parameters", "max_connections");
    if instances * size + RESERVED > connections {
        findings.push(pooler.finding(
            "spec.pgbouncer.parameters.default_pool_size",
            format!(
                "{instances} instances x {size} = {}, and {RESERVED} for others, is more than max_connections = \
                 {connections} of Cluster/{}",
                instances * size,
                cluster.name()
            ),
        ));
    }
    if text(pooler.at("spec.pgbouncer.poolMode")) == "transaction"
        && parameter(
            pooler,
            "spec.pgbouncer.parameters",
            "max_prepared_statements",
        ) == 0
    {
        findings.push(pooler.finding(
            "spec.pgbouncer.parameters.max_prepared_statements",
            "is missing: Spin prepares its statements, which another server connection would not know",
        ));
    }
    findings
}

/// An acknowledged order is on two machines, and no failover forgets it.
fn durability(cluster: &Object) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |field: &str, reason: &str| findings.push(cluster.finding(field, reason));
    if cluster.at("spec.instances").as_u64().unwrap_or(1) < 3 {
        find(
            "spec.instances",
            "must be at least 3: with synchronous replication, two stop writing when one is down",
        );
    }
    if cluster
        .at("spec.postgresql.synchronous.number")
        .as_u64()
        .unwrap_or(0)
        < 1
    {
        find(
            "spec.postgresql.synchronous.number",
            "must be at least 1: otherwise a failover forgets acknowledged orders",
        );
    }
    if cluster.at("spec.postgresql.synchronous.dataDurability") == "preferred" {
        find(
            "spec.postgresql.synchronous.dataDurability",
            "must be required: \"preferred\" acknowledges orders that only one machine has",
        );
    }
    if cluster.at("spec.postgresql.synchronous.failoverQuorum") != true {
        find(
            "spec.postgresql.synchronous.failoverQuorum",
            "must be true: otherwise a standby without the last orders can become the primary",
        );
    }
    for name in ["synchronous_commit", "fsync", "full_page_writes"] {
        let value = text(&cluster.at("spec.postgresql.parameters")[name]);
        if matches!(
            value,
            "off" | "local" | "false" | "no" | "0" | "remote_write" | "remote_apply"
        ) {
            find(
                &format!("spec.postgresql.parameters.{name}"),
                "must be on: an acknowledged order must survive a crash of both machines",
            );
        }
    }
    findings
}

/// The server that an overlay brings along, and its `max_connections`.
fn own_postgres(overlay: &Overlay) -> Option<(&Object, u64)> {
    overlay.of_kind("StatefulSet").find_map(|object| {
        elements(object.at("spec.template.spec.containers"))
            .flat_map(|container| elements(&container["args"]))
            .find_map(|argument| text(argument).strip_prefix("max_connections="))
            .and_then(|number| Some((object, number.parse().ok()?)))
    })
}

/// How many pods more there are during a rollout.
fn surge(object: &Object, replicas: u64) -> u64 {
    let surge = object.at("spec.strategy.rollingUpdate.maxSurge");
    if let Some(number) = surge.as_u64() {
        return number;
    }
    let percent = surge
        .as_str()
        .unwrap_or(DEFAULT_SURGE)
        .trim_end_matches('%');
    (replicas * percent.parse::<u64>().unwrap_or(100)).div_ceil(100)
}

/// Parameters are strings to both programs; 0 if it is missing or no number.
fn parameter(object: &Object, path: &str, name: &str) -> u64 {
    match &object.at(path)[name] {
        Value::String(text) => text.parse().unwrap_or(0),
        _ => 0,
    }
}
