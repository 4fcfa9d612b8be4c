//! What a request asks of the host, counted by the runner: calls by interface, and what wasmtime keeps for calls that
//! wait.

use std::time::Duration;

use fixtures::client::Asked;
use serde_json::Value;

use crate::support::{Service, an_order, new_key, service};

/// Longer than an instance works on after a response: it returns its connection to Postgres after two idle times of 50
/// ms.
const SETTLED: Duration = Duration::from_millis(250);

/// Calls by interface, calls that wait, what is made, events, and how often a task runs.
const COUNTERS: &str =
    "http redis postgres variables timers waits streamsAndFutures waitableSets wasi intrinsics events runs";

/// The counters, once they no longer change. Instances live for 1 s without a request.
async fn counted(service: &Service) -> Vec<u64> {
    let read = async || {
        let calls: Value = service.get("/.well-known/runner/calls").await.json();
        COUNTERS.split(' ').map(|name| calls["host"][name].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let mut before = read().await;
    loop {
        tokio::time::sleep(SETTLED).await;
        let after = read().await;
        if after == before {
            return after;
        }
        before = after;
    }
}

/// Asserts what a request to a warm instance adds to the counters at most. These are limits only: a call that returns
/// at once is no wait, and how often a task runs depends on how much of a body or a row is there when it is asked for.
/// The last four limits are a little above what was seen on a busy machine.
async fn assert_at_most(service: &Service, asked: Asked, limits: [u64; 12]) {
    let before = counted(service).await;
    asked.await;
    let after = counted(service).await;
    let cost: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    let is_within = cost.iter().zip(limits).all(|(is, limit)| *is <= limit);
    assert!(is_within, "{COUNTERS} are {cost:?}, not at most {limits:?}");
}

#[tokio::test]
async fn a_warm_instance_makes_only_these_calls() {
    applies_to!(Servers; on the runner);
    let service = service().patient_with_redis().start().await;
    // The instance reads its variables and connects to Redis.
    let (key, order) = (new_key(), an_order());
    let first = service.order(&key, &order).created().await;
    let replay = || service.order(&key, &order).replay_of(&first);
    replay().await;
    for _ in 0..3 {
        // Two of the timers, and two of the waits, return the kept connection to the pool.
        assert_at_most(&service, service.new_order(), [10, 1, 3, 0, 3, 6, 6, 1, 9, 53, 14, 15]).await;
        assert_at_most(&service, replay(), [10, 1, 0, 0, 1, 2, 6, 1, 8, 36, 8, 9]).await;
        assert_at_most(&service, service.get_order(&first), [10, 0, 3, 0, 1, 3, 5, 1, 5, 48, 14, 15]).await;
    }
}
