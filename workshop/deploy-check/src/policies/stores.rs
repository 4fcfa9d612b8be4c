//! Postgres has a connection for everything that pods may open, and keeps what it has acknowledged.

use serde_json::Value;

use super::application::Application;
use super::{Files, Findings};
use crate::render::{Object, Overlay, elements, text};

/// How many connections Spin's pool opens to one database: `CONNECTION_POOL_SIZE` of its Postgres factor.
const POOL_SIZE: u64 = 64;
/// Connections that are not the pods': the migrator's, the operator's, replication, superusers.
const RESERVED: u64 = 20;

/// The pods of an application fit into the Poolers, or into the server that the overlay brings along.
pub fn capacity(found: &mut Findings, files: &Files, overlays: &[Overlay], application: &Application<'_>) {
    let configured = files.runtime["outbound_pg"]["max_connections"].as_u64();
    let per_pod = configured.map_or(POOL_SIZE, |limit| limit.min(POOL_SIZE));
    let autoscaler = application.overlay.of_kind("HorizontalPodAutoscaler").next();
    let (of, field) = match autoscaler {
        Some(autoscaler) => (autoscaler, "spec.maxReplicas"),
        None => (application.object, "spec.replicas"),
    };
    let replicas = of.at(field).as_u64().unwrap_or(1);
    let surge = match application.object.at("spec.strategy.rollingUpdate.maxSurge") {
        Value::Number(number) => number.as_u64().unwrap_or(0),
        // The default of Kubernetes is 25 %.
        percent => {
            let percent = percent.as_str().unwrap_or("25%").trim_end_matches('%');
            (replicas * percent.parse().unwrap_or(100)).div_ceil(100)
        }
    };
    let needed = (replicas + surge) * per_pod;
    let sum = format!("{replicas} pods and {surge} during a rollout x {per_pod} connections = {needed}");
    let servers = application.overlay.of_kind("StatefulSet");
    let own = servers.flat_map(|object| elements(object.at("spec.template.spec.containers.0.args")));
    let mut own = own.filter_map(|argument| text(argument).strip_prefix("max_connections=")?.parse::<u64>().ok());
    if let Some(connections) = own.next() {
        let reason = format!(
            "{sum}, and {RESERVED} for others, is more than max_connections = \
                 {connections}"
        );
        found.when(needed + RESERVED > connections, of, field, reason);
        return;
    }
    let mut poolers = overlays.iter().flat_map(|overlay| overlay.of_kind("Pooler")).peekable();
    let reason = format!("{sum}, and no Pooler in deploy/ bounds them");
    found.when(poolers.peek().is_none(), of, field, reason);
    for pooler in poolers {
        // One of them may be down, or be replaced.
        let instances = pooler.at("spec.instances").as_u64().unwrap_or(1);
        let clients = number(pooler, "spec.pgbouncer.parameters.max_client_conn");
        let capacity = instances.saturating_sub(1) * clients;
        let reason = format!(
            "{sum}, more than Pooler/{} takes with one instance down: ({instances} - 1) x max_client_conn {clients} = \
             {capacity}",
            pooler.name()
        );
        found.when(needed > capacity, of, field, reason);
    }
}

/// An acknowledged order is on two machines, and no failover forgets it; the Pooler suits its server and Spin.
pub fn check(found: &mut Findings, overlay: &Overlay) {
    for cluster in overlay.of_kind("Cluster") {
        let mut must = |is_right: bool, field: &str, reason: &str| found.when(!is_right, cluster, field, reason);
        let synchronous = cluster.at("spec.postgresql.synchronous");
        let instances = cluster.at("spec.instances").as_u64().unwrap_or(1);
        let reason = "must be at least 3: with synchronous replication, two stop writing when one is down";
        must(instances >= 3, "spec.instances", reason);
        let reason = "must be at least 1: otherwise a failover forgets acknowledged orders";
        must(
            synchronous["number"].as_u64() >= Some(1),
            "spec.postgresql.synchronous.number",
            reason,
        );
        let reason = "must be required: \"preferred\" acknowledges orders that only one machine has";
        must(
            synchronous["dataDurability"] != "preferred",
            "spec.postgresql.synchronous.dataDurability",
            reason,
        );
        let reason = "must be true: otherwise a standby without the last orders can become the primary";
        must(
            synchronous["failoverQuorum"] == true,
            "spec.postgresql.synchronous.failoverQuorum",
            reason,
        );
        for name in ["synchronous_commit", "fsync", "full_page_writes"] {
            let field = format!("spec.postgresql.parameters.{name}");
            let is_on = matches!(cluster.at(&field).as_str(), None | Some("on" | "true" | "yes" | "1"));
            must(
                is_on,
                &field,
                "must be on: an acknowledged order must survive a crash of both machines",
            );
        }
        let connections = number(cluster, "spec.postgresql.parameters.max_connections");
        for pooler in overlay.of_kind("Pooler") {
            let instances = pooler.at("spec.instances").as_u64().unwrap_or(1);
            let field = "spec.pgbouncer.parameters.default_pool_size";
            let size = number(pooler, field);
            let sum = instances * size;
            let reason = format!(
                "{instances} instances x {size} = {sum}, and {RESERVED} for others, is more than \
                 max_connections = {connections}"
            );
            found.when(sum + RESERVED > connections, pooler, field, reason);
            let field = "spec.pgbouncer.parameters.max_prepared_statements";
            let is_transaction = pooler.at("spec.pgbouncer.poolMode") == "transaction";
            let reason = "is missing: Spin prepares its statements, which another server connection would not know";
            found.when(is_transaction && number(pooler, field) == 0, pooler, field, reason);
        }
    }
}

/// Both programs take parameters as strings; 0 if it is missing or no number.
fn number(object: &Object, path: &str) -> u64 {
    text(object.at(path)).parse().unwrap_or(0)
}
