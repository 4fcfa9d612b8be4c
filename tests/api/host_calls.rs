//! What a request asks of the host, counted by the runner: calls by interface, and what wasmtime keeps for calls that
//! wait.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use crate::support::{Service, an_order, new_key, service};

/// Longer than an instance works on after a response: it returns its connection to Postgres after two idle times of 50
/// ms.
const SETTLED: Duration = Duration::from_millis(250);

/// The counters by name.
#[derive(Clone, Debug)]
struct Counted(Value);

impl Counted {
    /// Once they no longer change. Instances live for 1 s without a request.
    async fn of(service: &Service) -> Self {
        let read = async || service.get("/.well-known/runner/calls").await.json()["host"].clone();
        let mut before = read().await;
        loop {
            sleep(SETTLED).await;
            let after = read().await;
            if after == before {
                return Self(after);
            }
            before = after;
        }
    }

    fn since(&self, before: &Self, name: &str) -> u64 {
        let count = |counted: &Self| counted.0[name].as_u64().unwrap();
        count(self) - count(before)
    }
}

/// What a request to a warm instance adds to the counters.
async fn cost<T>(service: &Service, request: impl Future<Output = T>) -> (Cost, T) {
    let before = Counted::of(service).await;
    let answer = request.await;
    let after = Counted::of(service).await;
    let cost = COUNTERS.map(|name| after.since(&before, name));
    (Cost(cost), answer)
}

/// Calls by interface, calls that wait, what is made, events, and how often a task runs.
const COUNTERS: [&str; 12] = [
    "http",
    "redis",
    "postgres",
    "variables",
    "timers",
    "waits",
    "streamsAndFutures",
    "waitableSets",
    "wasi",
    "intrinsics",
    "events",
    "runs",
];

/// The counters' differences.
#[derive(Debug)]
struct Cost([u64; 12]);

impl Cost {
    /// Asserts limits only: a call that returns at once is no wait, and how often a task runs depends on how much of a
    /// body or a row is there when it is asked for. The last four limits are a little above what was seen on a busy
    /// machine.
    fn assert_at_most(&self, name: &str, limits: [u64; 12]) {
        let is_within = self.0.iter().zip(limits).all(|(is, limit)| *is <= limit);
        let Self(cost) = self;
        assert!(is_within, "{name}: {COUNTERS:?} are {cost:?}, not at most {limits:?}");
    }
}

#[tokio::test]
async fn a_warm_instance_makes_only_these_calls() {
    applies_to!(Servers; on the runner);
    let service = service().patient_with_redis().start().await;
    let (key, order) = (new_key(), an_order());
    // The instance reads its variables and connects to Redis.
    let first = service.order(&key, &order).await;
    first.assert_created();
    service.order(&key, &order).await.assert_replay_of(&first);
    let path = first.field("location").unwrap().to_owned();
    for _ in 0..3 {
        let (create, answer) = cost(&service, service.order(&new_key(), &order)).await;
        answer.assert_created();
        // Two of the timers, and two of the waits, return the kept connection to the pool.
        create.assert_at_most("create", [14, 1, 3, 0, 3, 6, 6, 1, 9, 55, 15, 16]);

        let (replay, answer) = cost(&service, service.order(&key, &order)).await;
        answer.assert_replay_of(&first);
        replay.assert_at_most("replay", [14, 1, 0, 0, 1, 2, 6, 1, 8, 37, 8, 9]);

        let (get, answer) = cost(&service, service.get(&path)).await;
        assert_eq!(answer.status, 200);
        get.assert_at_most("get", [10, 0, 3, 0, 1, 3, 5, 1, 5, 48, 14, 15]);
    }
}
