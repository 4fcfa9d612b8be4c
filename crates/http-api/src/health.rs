//! What the service says about its own state.

use http::{StatusCode, header};
use protocol::json::to_json;
use serde::Serialize;

use crate::response::Response;

/// Says that the process is alive, and nothing about the stores.
pub fn health() -> Response {
    Response::json(StatusCode::OK, r#"{"status":"ok"}"#.to_owned())
}

/// The result of probing a store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// Whether it answered as it should.
    pub up: bool,
    /// The time until its answer or until the deadline, in milliseconds.
    pub latency_ms: f64,
}

/// Says whether resources can be created: not without Postgres; without Redis, only slower.
pub fn readiness(redis: Probe, postgres: Probe) -> Response {
    #[derive(Serialize)]
    struct Readiness {
        status: &'static str,
        checks: Checks,
    }

    #[derive(Serialize)]
    struct Checks {
        redis: Check,
        postgres: Check,
    }

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Check {
        status: &'static str,
        latency_ms: f64,
    }

    let check = |probe: Probe| Check {
        status: if probe.up { "up" } else { "down" },
        latency_ms: (probe.latency_ms * 1000.0).round() / 1000.0,
    };
    let (status, code) = match (postgres.up, redis.up) {
        (true, true) => ("ready", StatusCode::OK),
        (true, false) => ("degraded", StatusCode::OK),
        (false, _) => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
    };
    let body = to_json(&Readiness {
        status,
        checks: Checks {
            redis: check(redis),
            postgres: check(postgres),
        },
    });
    Response::json(code, body).with(header::CACHE_CONTROL.as_str(), "no-store")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn readiness_follows_postgres_and_only_mentions_redis() {
        let probe = |up| Probe {
            up,
            latency_ms: 1.23456,
        };
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
