//! Measures how much of the processor's time goes into a component's own code, host functions left out.

use std::sync::LazyLock;
use std::thread::{self, ThreadId};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use wasmtime::Store;

use crate::calls;

/// What an interval is too long by: between two readings lies the cost of one.
static COST_OF_READING: LazyLock<Duration> = LazyLock::new(|| {
    let interval = || {
        let start = Reading::now()?;
        Some(Reading::now()?.since(&start))
    };
    let mut intervals: Vec<Duration> = (0..1001).filter_map(|_| interval()).collect();
    intervals.sort();
    intervals
        .get(intervals.len() / 2)
        .copied()
        .unwrap_or_default()
});

/// Counts what this instance's code takes from now on. Two readings of a clock per change between guest and
/// host: for a run of its own, not for one whose rate matters.
pub fn measure<T: 'static>(store: &mut Store<T>) {
    let cost = *COST_OF_READING;
    let mut entered: Option<Reading> = None;
    store.call_hook(move |_, change| {
        if change.exiting_host() {
            entered = Reading::now();
        } else if let (Some(start), Some(end)) = (entered.take(), Reading::now()) {
            let spent = end.since(&start).saturating_sub(cost);
            calls::GUEST_NANOSECONDS.add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(())
    });
}

/// What a thread has had of the processor so far.
struct Reading {
    thread: ThreadId,
    spent: Duration,
}

impl Reading {
    fn now() -> Option<Self> {
        let spent = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok()?;
        Some(Self {
            thread: thread::current().id(),
            spent: Duration::from(spent),
        })
    }

    /// Nothing across threads: a guest that was made to give way may go on in another one, whose clock has
    /// nothing to do with the first one's.
    fn since(&self, start: &Self) -> Duration {
        if self.thread != start.thread {
            return Duration::ZERO;
        }
        self.spent.saturating_sub(start.spent)
    }
}
