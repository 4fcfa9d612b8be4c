//! Deadlines: nothing in Spin times out by itself. A timer costs two calls of the host, so a request has one timer for
//! everything that it waits for.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// The longest time that the timer is set to. It is shorter than most deadlines: the next wait, with another deadline,
/// need not set the timer again.
const AHEAD: Duration = Duration::from_millis(500);

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The time since the instance first asked for it.
pub fn now() -> Duration {
    STARTED.elapsed()
}

/// The one timer of a request.
#[derive(Default)]
pub struct Timer {
    armed: RefCell<Option<Armed>>,
}

struct Armed {
    rings: Instant,
    sleep: Pin<Box<dyn Future<Output = ()>>>,
    bell: Option<Arc<Bell>>,
}

/// What the timer wakes. The timer is polled again only when it has rung: each poll would add it to the task's waitables
/// once more, which is a call of the host.
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
        let waits = |bell: &Arc<Bell>| {
            !bell.rang.load(Ordering::Relaxed) && bell.task.will_wake(cx.waker())
        };
        if self.bell.as_ref().is_some_and(waits) {
            return Poll::Pending;
        }
        let bell = Arc::new(Bell {
            rang: AtomicBool::new(false),
            task: cx.waker().clone(),
        });
        self.bell = Some(bell.clone());
        let waker = Waker::from(bell);
        self.sleep.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

/// The time that a request may wait for one store in all. Only waits for that store consume it: while the request waits
/// for another store, the answer of this one may lie ready, and is not too late.
pub struct Budget {
    rest: Cell<Duration>,
}

impl Budget {
    /// A budget of that much time.
    pub const fn of(limit: Duration) -> Self {
        Self {
            rest: Cell::new(limit),
        }
    }

    /// What is left of it.
    pub fn rest(&self) -> Duration {
        self.rest.get()
    }
}

/// A wait that consumes a budget, if it has one, until it is dropped.
struct Wait<'b> {
    budget: Option<&'b Budget>,
    /// The most that the wait may take.
    limit: Duration,
    started: Cell<Option<Instant>>,
}

impl Wait<'_> {
    /// When the wait must end. It begins with the first call, so that what is ready at once costs no look at the clock.
    fn end(&self, now: Instant) -> Instant {
        let started = self.started.get().unwrap_or(now);
        self.started.set(Some(started));
        started + self.limit
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let (Some(budget), Some(started)) = (self.budget, self.started.get()) {
            let rest = budget.rest.get();
            budget.rest.set(rest.saturating_sub(started.elapsed()));
        }
    }
}

impl Timer {
    /// The future's output, or `None` when the budget runs out first. Then the dropped future cancels the host's call: a
    /// query that was sent may still take effect.
    pub async fn within<F: Future>(&self, budget: &Budget, future: F) -> Option<F::Output> {
        self.within_part(budget, budget.rest.get(), future).await
    }

    /// The same with a part of the budget.
    pub async fn within_part<F: Future>(
        &self,
        budget: &Budget,
        part: Duration,
        future: F,
    ) -> Option<F::Output> {
        let wait = Wait {
            budget: Some(budget),
            limit: part.min(budget.rest.get()),
            started: Cell::new(None),
        };
        self.during(wait, future).await
    }

    /// The future's output, or `None` when that time is over. What it has taken is not accounted for, which saves a look at
    /// the clock.
    pub async fn within_time<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let wait = Wait {
            budget: None,
            limit,
            started: Cell::new(None),
        };
        self.during(wait, future).await
    }

    async fn during<F: Future>(&self, wait: Wait<'_>, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll_end(&wait, cx).map(|()| None),
        })
        .await
    }

    /// Ready when the wait must end. Otherwise it makes sure that the task is woken in time.
    fn poll_end(&self, wait: &Wait<'_>, cx: &Context<'_>) -> Poll<()> {
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
            let now = Instant::now();
            let end = wait.end(now);
            if end <= now {
                return Poll::Ready(());
            }
            if slot.as_ref().is_none_or(|armed| armed.rings > end) {
                let ahead = AHEAD.min(end - now);
                *slot = Some(Armed {
                    rings: now + ahead,
                    sleep: Box::pin(spin_sdk::time::sleep(ahead)),
                    bell: None,
                });
            }
        }
    }
}
