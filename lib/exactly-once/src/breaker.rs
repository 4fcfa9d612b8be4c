//! A circuit breaker: after a store failed, requests do without it for a while instead of each waiting for a time-out.

use std::time::Duration;

/// How long a store is left alone after a failure.
pub const COOL_DOWN: Duration = Duration::from_secs(2);

/// Closed: calls are allowed. Open: calls are rejected until the cool-down ends; then one call is allowed as a probe,
/// and the others are rejected until it succeeds. Times are of any monotonic clock, since its start.
#[derive(Debug, Default)]
pub struct Breaker {
    open_until: Option<Duration>,
}

/// What a breaker does with the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The call is allowed, and so are all others.
    Closed,
    /// The call is rejected.
    Open,
    /// The call is allowed as a probe.
    HalfOpen,
}

impl Breaker {
    /// A breaker that allows every call.
    pub const fn closed() -> Self {
        Self { open_until: None }
    }

    /// Whether every call is allowed: then the caller need not read a clock.
    pub const fn is_closed(&self) -> bool {
        self.open_until.is_none()
    }

    /// Whether a call is allowed now. A call that an open breaker allows is its probe; the others are rejected for
    /// another [`COOL_DOWN`].
    pub fn admits(&mut self, now: Duration) -> bool {
        match self.open_until {
            Some(until) if now < until => false,
            Some(_) => {
                self.open_until = Some(now + COOL_DOWN);
                true
            }
            None => true,
        }
    }

    /// The state, as operators know it.
    pub fn state(&self, now: Duration) -> State {
        match self.open_until {
            None => State::Closed,
            Some(until) if now < until => State::Open,
            Some(_) => State::HalfOpen,
        }
    }

    /// A call succeeded.
    pub fn succeeded(&mut self) {
        self.open_until = None;
    }

    /// A call failed or took too long.
    pub fn failed(&mut self, now: Duration) {
        self.open_until = Some(now + COOL_DOWN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn after_a_failure_one_probe_per_cool_down_until_one_succeeds() {
        let mut breaker = Breaker::closed();
        assert!(breaker.is_closed() && breaker.admits(MS) && breaker.admits(MS));

        breaker.failed(MS);
        assert!(!breaker.is_closed());
        assert!(!breaker.admits(COOL_DOWN));
        assert_eq!(breaker.state(COOL_DOWN), State::Open);
        assert_eq!(breaker.state(COOL_DOWN + MS), State::HalfOpen);
        assert!(breaker.admits(COOL_DOWN + MS), "the probe");
        assert_eq!(breaker.state(COOL_DOWN + MS), State::Open);
        assert!(!breaker.admits(COOL_DOWN + MS), "only one");
        assert!(breaker.admits(2 * COOL_DOWN + MS), "the probe may have died");

        breaker.succeeded();
        assert_eq!(breaker.state(MS), State::Closed);
        assert!(breaker.admits(2 * COOL_DOWN + MS) && breaker.admits(2 * COOL_DOWN + MS));
    }
}
