//! Postgres has enough connections for all pods, and a role for each program that opens them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::application::Application;
use super::{Files, Findings};
use crate::render::{Object, Overlay, elements, text};

/// How many connections Spin's pool opens to one database: `CONNECTION_POOL_SIZE` of its Postgres factor.
const POOL_SIZE: u64 = 64;
/// Connections that are not the pods': the migrator's, the operator's, replication, superusers.
const RESERVED: u64 = 20;

/// The pods of an application fit into the Poolers, or into the server that the overlay brings along.
pub fn capacity(found: &mut Findings, files: &Files, overlays: &[Overlay], application: &Application<'_>) {
    let configured = files.of_kind("RuntimeConfig")["outbound_pg"]["max_connections"].as_u64();
    let per_pod = configured.map_or(POOL_SIZE, |limit| limit.min(POOL_SIZE));
    let autoscaler = application.overlay.of_kind("HorizontalPodAutoscaler").next();
    let (of, field) = match autoscaler {
        Some(autoscaler) => (autoscaler, "spec.maxReplicas"),
        None => (application.object, "spec.replicas"),
    };
    let replicas = of.at(field).as_u64().unwrap_or(1);
    let surge = match application.object.at("spec.strategy.rollingUpdate.maxSurge") {
        // The default of Kubernetes is 25 %.
        Value::Null => replicas.div_ceil(4),
        surge => surge.as_u64().unwrap_or(replicas),
    };
    let needed = (replicas + surge) * per_pod;
    let sum = format!("{replicas} pods and {surge} during a rollout x {per_pod} connections = {needed}");
    let servers = application.overlay.of_kind("StatefulSet");
    let own = servers.flat_map(|object| elements(object.at("spec.template.spec.containers.0.args")));
    let mut own = own.filter_map(|argument| text(argument).strip_prefix("max_connections=")?.parse::<u64>().ok());
    if let Some(limit) = own.next() {
        let reason = format!("{sum}, and {RESERVED} for others, is more than max_connections = {limit}");
        return found.when(needed + RESERVED > limit, of, field, reason);
    }
    let mut poolers = overlays.iter().flat_map(|overlay| overlay.of_kind("Pooler")).peekable();
    let reason = format!("{sum}, and no Pooler in deploy/ bounds them");
    found.when(poolers.peek().is_none(), of, field, reason);
    for pooler in poolers {
        // One of them may be down, or be replaced.
        let instances = pooler.at("spec.instances").as_u64().unwrap_or(1);
        let clients = number(pooler, "spec.pgbouncer.parameters.max_client_conn");
        let capacity = instances.saturating_sub(1) * clients;
        let reason = format!("{sum} is more than ({instances} - 1) x max_client_conn {clients} = {capacity}");
        found.when(needed > capacity, of, field, reason);
    }
}

/// What the Poolers open fits into their server.
pub fn check(found: &mut Findings, overlay: &Overlay) {
    for cluster in overlay.of_kind("Cluster") {
        let limit = number(cluster, "spec.postgresql.parameters.max_connections");
        for pooler in overlay.of_kind("Pooler") {
            let instances = pooler.at("spec.instances").as_u64().unwrap_or(1);
            let field = "spec.pgbouncer.parameters.default_pool_size";
            let size = number(pooler, field);
            let sum = instances * size;
            let reason = format!("{instances} instances x {size} = {sum}, and {RESERVED} more, exceed {limit}");
            found.when(sum + RESERVED > limit, pooler, field, reason);
        }
    }
}

/// Both programs take parameters as strings; 0 if it is missing or no number.
fn number(object: &Object, path: &str) -> u64 {
    text(object.at(path)).parse().unwrap_or(0)
}

/// The URLs that the guide tells operators to store, with the shell's variables in them replaced.
pub fn urls_of_guide(guide: &str) -> Value {
    let lines = guide.lines().filter_map(|line| line.strip_prefix("$ "));
    let assignments: Vec<_> = lines.filter_map(|line| line.strip_suffix('\'')?.split_once("='")).collect();
    urls(|name| {
        let (_, after) = guide.split_once(&format!("--from-literal={name}=\""))?;
        let url = after.split('"').next()?.to_owned();
        let replace = |url: String, (name, value): &(&str, &str)| url.replace(&format!("${name}"), value);
        Some(assignments.iter().fold(url, replace))
    })
}

/// The URLs that a rendered Secret has.
pub fn urls_of_secret(secret: &Object) -> Value {
    urls(|name| String::from_utf8(STANDARD.decode(secret.at("data")[name].as_str()?).ok()?).ok())
}

fn urls(url: impl Fn(&str) -> Option<String>) -> Value {
    let [serving, migrating] = ["database_url", "migration_database_url"].map(url);
    let role = |url: &String| Some(url.split_once("://")?.1.split([':', '@']).next()?.to_owned());
    let roles: Vec<_> = [&serving, &migrating].into_iter().flatten().filter_map(role).collect();
    json!({"database_url": serving, "migration_database_url": migrating, "roles": roles})
}
