//! What the service says of its own state.

use http::{StatusCode, header};
use serde::Serialize;

use super::Response;
use crate::json::to_json;

/// Answers that the process is alive; says nothing about the stores.
pub fn health() -> Response {
    Response::json(StatusCode::OK, r#"{"status":"ok"}"#.to_owned())
}

/// What asking one store for a sign of life gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// Whether it answered as it should.
    pub up: bool,
    /// How long it took, or how long we waited, in milliseconds.
    pub latency_ms: f64,
}

/// Answers whether orders can be created: not without Postgres; without Redis, only slower.
pub fn ready(redis: Probe, postgres: Probe) -> Response {
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
