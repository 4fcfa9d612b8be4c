//! Liveness and readiness of the service.

use exactly_once::json::to_json;
use exactly_once::ports::Probe;
use http::{StatusCode, header};

use crate::response::Response;

/// The process is alive. This asks no store.
pub fn health() -> Response {
    Response::json(StatusCode::OK, r#"{"status":"ok"}"#.to_owned())
}

/// Says whether resources can be created: not without Postgres; without Redis, only slower.
pub fn readiness(redis: Probe, postgres: Probe) -> Response {
    let checks = format!(r#""redis":{},"postgres":{}"#, check(redis), check(postgres));
    let status = if redis.up { "ready" } else { "degraded" };
    of_checks(postgres.up, status, &checks)
}

/// The same for the embedded store, which is the only store then.
pub fn embedded_readiness(sqlite: Probe) -> Response {
    of_checks(sqlite.up, "ready", &format!(r#""sqlite":{}"#, check(sqlite)))
}

fn of_checks(is_up: bool, status: &str, checks: &str) -> Response {
    let (status, code) = match is_up {
        true => (status, StatusCode::OK),
        false => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
    };
    let body = format!(r#"{{"status":"{status}","checks":{{{checks}}}}}"#);
    Response::json(code, body).with(header::CACHE_CONTROL.as_str(), "no-store")
}

fn check(probe: Probe) -> String {
    let status = if probe.up { "up" } else { "down" };
    let latency = to_json(&((probe.latency_ms * 1000.0).round() / 1000.0));
    format!(r#"{{"status":"{status}","latencyMs":{latency}}}"#)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_embedded_store_is_the_only_check() {
        for (up, code, word) in [(true, 200, "up"), (false, 503, "down")] {
            let latency_ms = 1.23456;
            let response = embedded_readiness(Probe { up, latency_ms });
            assert_eq!(response.status, code);
            let body: Value = serde_json::from_str(&response.body).expect("JSON");
            let check = serde_json::json!({"status": word, "latencyMs": 1.235});
            assert_eq!(body["checks"], serde_json::json!({"sqlite": check}));
        }
    }

    #[test]
    fn readiness_follows_postgres_and_only_mentions_redis() {
        let probe = |up| Probe { up, latency_ms: 1.23456 };
        for (redis, postgres, code, status) in [
            (true, true, 200, "ready"),
            (false, true, 200, "degraded"),
            (true, false, 503, "unavailable"),
            (false, false, 503, "unavailable"),
        ] {
            let response = readiness(probe(redis), probe(postgres));
            assert_eq!(response.status, code);
            let body: Value = serde_json::from_str(&response.body).expect("JSON");
            assert_eq!(body["status"], status);
            let word = |up| if up { "up" } else { "down" };
            assert_eq!(body["checks"]["redis"]["status"], word(redis));
            assert_eq!(body["checks"]["postgres"]["status"], word(postgres));
            assert_eq!(body["checks"]["postgres"]["latencyMs"], 1.235);
        }
    }
}
