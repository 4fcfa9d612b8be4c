//! Deadlines: nothing in Spin times out by itself.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::future::{Either, select};

/// What the future gives, or `None` when it takes longer. Dropping it then cancels the host's call: a
/// query that was sent may still take effect.
pub async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    match select(pin!(future), pin!(spin_sdk::time::sleep(limit))).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

/// The time that one request may spend waiting for one store, over all its calls.
#[derive(Clone, Copy)]
pub struct Budget {
    expires: Instant,
}

impl Budget {
    /// A budget that runs out that long from now.
    pub fn starting_now(limit: Duration) -> Self {
        Self {
            expires: Instant::now() + limit,
        }
    }

    /// What the future gives, or `None` when the budget runs out first.
    pub async fn spend<F: Future>(&self, future: F) -> Option<F::Output> {
        let left = self.expires.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        within(left, future).await
    }
}
