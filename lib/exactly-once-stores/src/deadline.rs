//! Deadlines: no host has to time anything out by itself. A timer costs Spin two calls of the host, so a request has
//! one timer for everything that it waits for.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use exactly_once::ports::Clock;

/// The longest time that the timer is set to. It is shorter than most deadlines: the next wait, with another deadline,
/// need not set the timer again.
const AHEAD: Duration = Duration::from_millis(500);

/// The one timer of a request.
pub struct Timer<C> {
    clock: C,
    armed: RefCell<Option<Armed>>,
}

struct Armed {
    rings: Duration,
    sleep: Pin<Box<dyn Future<Output = ()>>>,
    bell: Option<Arc<Bell>>,
}

/// What the timer wakes. The timer is polled again only when it has rung: each poll would add it to the task's
/// waitables once more, which is a call of the host.
struct Bell {
    rang: AtomicBool,
    task: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rang.store(true, Ordering::Relaxed);
        self.task.wake_by_ref();
    }
}

impl Armed {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let waits = |bell: &Arc<Bell>| !bell.rang.load(Ordering::Relaxed) && bell.task.will_wake(cx.waker());
        if self.bell.as_ref().is_some_and(waits) {
            return Poll::Pending;
        }
        let bell = Arc::new(Bell { rang: AtomicBool::new(false), task: cx.waker().clone() });
        self.bell = Some(bell.clone());
        let waker = Waker::from(bell);
        self.sleep.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

/// How much of its time for one store a request has used. Only waits for that store use it: while the request waits for
/// another store, the response of this one may be ready, and is not too late.
#[derive(Default)]
pub struct Budget {
    used: Cell<Duration>,
    /// The end of the last wait: of waits at the same time, each uses only what follows the others.
    until: Cell<Duration>,
}

impl Budget {
    /// What is left of that much time.
    pub fn rest(&self, limit: Duration) -> Duration {
        limit.saturating_sub(self.used.get())
    }
}

/// A wait that uses a budget, if it has one, until it is dropped.
struct Wait<'b, C: Clock> {
    clock: &'b C,
    budget: Option<&'b Budget>,
    /// The most that the wait may take.
    limit: Duration,
    started: Cell<Option<Duration>>,
}

impl<C: Clock> Wait<'_, C> {
    /// When the wait must end. It begins with the first call, so that what is ready at once costs no look at the clock.
    fn end(&self, now: Duration) -> Duration {
        let started = self.started.get().unwrap_or(now);
        self.started.set(Some(started));
        started + self.limit
    }
}

impl<C: Clock> Drop for Wait<'_, C> {
    fn drop(&mut self) {
        if let (Some(budget), Some(started)) = (self.budget, self.started.get()) {
            let now = self.clock.waited();
            let started = started.max(budget.until.replace(now));
            budget.used.set(budget.used.get() + now.saturating_sub(started));
        }
    }
}

impl<C: Clock + Clone + 'static> Timer<C> {
    /// A timer that is not set.
    pub const fn new(clock: C) -> Self {
        Self { clock, armed: RefCell::new(None) }
    }

    /// The clock.
    pub fn clock(&self) -> &C {
        &self.clock
    }

    /// The future's output, or `None` when that time is over. Then the dropped future cancels the host's call: a query
    /// that was sent may still take effect. The wait uses the budget.
    pub async fn within<F: Future>(&self, budget: &Budget, limit: Duration, future: F) -> Option<F::Output> {
        self.during(Some(budget), limit, future).await
    }

    /// The same without a budget, which saves a look at the clock.
    pub async fn within_time<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        self.during(None, limit, future).await
    }

    async fn during<F: Future>(&self, budget: Option<&Budget>, limit: Duration, future: F) -> Option<F::Output> {
        let wait = Wait { clock: &self.clock, budget, limit, started: Cell::new(None) };
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll_end(&wait, cx).map(|()| None),
        })
        .await
    }

    /// Ready when the wait must end. Otherwise it makes sure that the task is woken in time.
    fn poll_end(&self, wait: &Wait<'_, C>, cx: &Context<'_>) -> Poll<()> {
        let mut slot = self.armed.borrow_mut();
        loop {
            if let (Some(armed), Some(started)) = (&mut *slot, wait.started.get())
                && armed.rings <= started + wait.limit
            {
                if armed.poll(cx).is_pending() {
                    return Poll::Pending;
                }
                *slot = None;
                continue;
            }
            let now = self.clock.waited();
            let end = wait.end(now);
            if end <= now {
                return Poll::Ready(());
            }
            if slot.as_ref().is_none_or(|armed| armed.rings > end) {
                let ahead = AHEAD.min(end - now);
                let clock = self.clock.clone();
                *slot = Some(Armed {
                    rings: now + ahead,
                    sleep: Box::pin(async move { clock.sleep(ahead).await }),
                    bell: None,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::testing::{MS, TestPlatform};

    #[test]
    fn waits_end_in_time_and_use_the_budget() {
        let platform = TestPlatform::default();
        let (timer, budget) = (Timer::new(platform.clone()), Budget::default());
        let limit = MS * 1200;
        let wait = timer.within(&budget, MS * 700, pending::<()>());
        assert_eq!(platform.run(wait), None);
        assert_eq!(platform.now(), MS * 700, "later than the timer is set ahead");
        assert_eq!(budget.rest(limit), MS * 500);
        platform.pass(MS * 100);
        assert_eq!(budget.rest(limit), MS * 500, "no wait");
        let answered = timer.within(&budget, budget.rest(limit), platform.sleep(MS * 400));
        assert_eq!(platform.run(answered), Some(()));
        assert_eq!(budget.rest(limit), MS * 100);
        let wait = timer.within(&budget, budget.rest(limit), pending::<()>());
        assert_eq!(platform.run(wait), None);
        assert_eq!(budget.rest(limit), Duration::ZERO);
        let ready = timer.within(&budget, Duration::ZERO, ready(1));
        assert_eq!(platform.run(ready), Some(1), "what is ready is not too late");
        let wait = timer.within_time(MS * 30, pending::<()>());
        assert_eq!(platform.run(wait), None);
        assert_eq!(platform.now(), MS * 1330);
    }

    #[test]
    fn two_waits_at_a_time_share_the_timer() {
        let platform = TestPlatform::default();
        let (timer, budget) = (Timer::new(platform.clone()), Budget::default());
        let waits = async {
            futures::join!(
                timer.within(&budget, MS * 300, pending::<()>()),
                timer.within_time(MS * 20, pending::<()>()),
            )
        };
        assert_eq!(platform.run(waits), (None, None));
        assert_eq!(platform.now(), MS * 300);
    }
}
