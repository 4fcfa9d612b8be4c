//! The line per request that the component writes where `log_requests` is set.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exactly_once::breaker::State;
use exactly_once::ports::Clock;
use exactly_once::resource::rfc3339;
use exactly_once_http::request_log::{LogLine, milliseconds, route_pattern, trace_id};
use exactly_once_http::{Head, Response};
use exactly_once_stores::platform::Platform;

use crate::host::SpinHost;
use crate::platform::Spin;
use crate::variables;

/// When the request began, unless it is known that nothing will be written: then no clock is read.
pub fn start() -> Option<Duration> {
    (variables::logs_requests() != Some(false)).then(|| Spin.now())
}

/// Writes the line of a request, where that is wanted.
pub async fn write(host: &SpinHost, head: &impl Head, answer: &Response, request_id: &str) {
    let Some(started) = host.started else {
        return;
    };
    if !variables::read_logs_requests().await {
        return;
    }
    let target = head.target();
    let path = target.split_once('?').map_or(&*target, |(path, _)| path);
    let of = |duration: Duration| milliseconds(duration.as_secs_f64());
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let unix_millis = since_epoch.unwrap_or_default().as_millis();
    let line = LogLine {
        time: rfc3339(i64::try_from(unix_millis).unwrap_or_default()),
        route: route_pattern(&host.collection, path),
        status: answer.status.as_u16(),
        outcome: answer.outcome,
        duration_ms: of(Spin.now().saturating_sub(started)),
        redis_ms: of(host.request.redis_time()),
        postgres_ms: of(host.request.database_time()),
        trips: host.request.trips(),
        breaker: match host.instance.breaker(&Spin) {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
        },
        request_id,
        trace_id: trace_id(head),
    };
    Spin.write_line(line.to_json());
}
