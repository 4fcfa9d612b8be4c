//! Measures how much of the processor's time goes into a component's own code, host functions left out.

use std::thread::{self, ThreadId};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use wasmtime::Store;

use crate::calls;

/// Counts what this instance's code takes from now on. Two readings of a clock per change between guest and
/// host: for a run of its own, not for one whose rate matters.
pub fn measure<T: 'static>(store: &mut Store<T>) {
    let mut entered: Option<Reading> = None;
    store.call_hook(move |_, change| {
        if change.exiting_host() {
            entered = Reading::now();
        } else if let (Some(start), Some(end)) = (entered.take(), Reading::now()) {
            calls::GUEST_NANOSECONDS.add(end.nanoseconds_since(&start));
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
    fn nanoseconds_since(&self, start: &Self) -> u64 {
        if self.thread != start.thread {
            return 0;
        }
        let spent = self.spent.saturating_sub(start.spent);
        u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX)
    }
}
