//! Liveness and readiness of the service.

use exactly_once::json::to_json;
use exactly_once::ports::{Condition, Probe};
use http::{StatusCode, header};

use crate::host::Host;
use crate::response::Response;
use crate::settings::{Settings, Store};

/// The process is alive. This asks no store.
pub fn health() -> Response {
    Response::json(StatusCode::OK, r#"{"status":"ok"}"#.to_owned())
}

/// How a lost store counts in a report of readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LostStore {
    /// For people and alerts: resources cannot be created.
    Unready,
    /// For load balancers: this instance replays completed creations and returns `Retry-After` otherwise. No other
    /// instance would do better.
    Degraded,
}

/// Asks the stores, and says whether resources can be created: not without the database; without Redis, only slower.
/// With `lost-store=degraded` as the query, a database that does not respond counts as [`LostStore::Degraded`].
pub async fn readiness(query: &str, host: &impl Host, settings: &Settings) -> Response {
    let (redis, database) = host.probe_both(settings).await;
    let lost = match query {
        "lost-store=degraded" if !host.misconfigured() => LostStore::Degraded,
        _ => LostStore::Unready,
    };
    match settings.store {
        Store::Embedded => of_embedded(database, lost),
        Store::Servers { .. } => of_servers(redis, database, lost),
    }
}

fn of_servers(redis: Probe, postgres: Probe, lost: LostStore) -> Response {
    let checks = format!(r#""redis":{},"postgres":{}"#, check(redis), check(postgres));
    of_checks(postgres, redis.is_up(), lost, &checks)
}

/// The embedded store is the only one.
fn of_embedded(sqlite: Probe, lost: LostStore) -> Response {
    of_checks(sqlite, true, lost, &format!(r#""sqlite":{}"#, check(sqlite)))
}

fn of_checks(database: Probe, redis_is_up: bool, lost: LostStore, checks: &str) -> Response {
    let (status, code) = match (database.condition, lost) {
        (Condition::Up, _) if redis_is_up => ("ready", StatusCode::OK),
        (Condition::Up, _) | (Condition::Unreachable, LostStore::Degraded) => ("degraded", StatusCode::OK),
        (Condition::Unreachable | Condition::Unfit, _) => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
    };
    let body = format!(r#"{{"status":"{status}","checks":{{{checks}}}}}"#);
    Response::json(code, body).with(header::CACHE_CONTROL.as_str(), "no-store")
}

fn check(probe: Probe) -> String {
    let status = if probe.is_up() { "up" } else { "down" };
    let latency = to_json(&((probe.latency_ms * 1000.0).round() / 1000.0));
    format!(r#"{{"status":"{status}","latencyMs":{latency}}}"#)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const LATENCY: f64 = 1.23456;

    #[test]
    fn an_embedded_store_is_the_only_check() {
        for (condition, code, word) in [(Condition::Up, 200, "up"), (Condition::Unfit, 503, "down")] {
            let response = of_embedded(Probe { condition, latency_ms: LATENCY }, LostStore::Unready);
            assert_eq!(response.status, code);
            let body: Value = serde_json::from_str(&response.body).expect("JSON");
            let check = serde_json::json!({"status": word, "latencyMs": 1.235});
            assert_eq!(body["checks"], serde_json::json!({"sqlite": check}));
        }
    }

    #[test]
    fn readiness_follows_postgres_and_only_mentions_redis() {
        use Condition::{Unfit, Unreachable, Up};
        use LostStore::{Degraded, Unready};
        for (redis, postgres, lost, code, status) in [
            (Up, Up, Unready, 200, "ready"),
            (Unreachable, Up, Unready, 200, "degraded"),
            (Unfit, Up, Degraded, 200, "degraded"),
            (Up, Unreachable, Unready, 503, "unavailable"),
            (Up, Unreachable, Degraded, 200, "degraded"),
            (Unreachable, Unreachable, Degraded, 200, "degraded"),
            (Up, Unfit, Degraded, 503, "unavailable"),
        ] {
            let [redis, postgres] = [redis, postgres].map(|condition| Probe { condition, latency_ms: LATENCY });
            let response = of_servers(redis, postgres, lost);
            assert_eq!(response.status, code);
            let body: Value = serde_json::from_str(&response.body).expect("JSON");
            assert_eq!(body["status"], status);
            let word = |probe: Probe| if probe.is_up() { "up" } else { "down" };
            assert_eq!(body["checks"]["redis"]["status"], word(redis));
            assert_eq!(body["checks"]["postgres"]["status"], word(postgres));
            assert_eq!(body["checks"]["postgres"]["latencyMs"], 1.235);
        }
    }
}
