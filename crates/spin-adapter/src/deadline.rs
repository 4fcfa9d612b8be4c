//! Deadlines: nothing in Spin times out by itself. A timer costs two calls of the host, so a request has one timer for
//! everything that it waits for.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::LazyLock;
use std::task::{Context, Poll};
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
}

/// The time that a request may wait for one thing. It runs from the first wait on.
pub struct Budget {
    limit: Duration,
    expires: Cell<Option<Instant>>,
}

impl Budget {
    /// A budget of that much time.
    pub const fn of(limit: Duration) -> Self {
        Self {
            limit,
            expires: Cell::new(None),
        }
    }
}

impl Timer {
    /// The future's output, or `None` when the budget runs out first. Then the dropped future cancels the host's call: a
    /// query that was sent may still take effect.
    pub async fn within<F: Future>(&self, budget: &Budget, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll_expired(budget, cx).map(|()| None),
        })
        .await
    }

    /// Ready when the budget has run out. Otherwise it makes sure that the task is woken in time.
    fn poll_expired(&self, budget: &Budget, cx: &mut Context<'_>) -> Poll<()> {
        let mut scope = self.armed.borrow_mut();
        loop {
            match (&mut *scope, budget.expires.get()) {
                (Some(armed), Some(expires)) if armed.rings <= expires => {
                    if armed.sleep.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    *scope = None;
                }
                (_, expires) => {
                    let now = Instant::now();
                    let expires = expires.unwrap_or_else(|| now + budget.limit);
                    budget.expires.set(Some(expires));
                    if expires <= now {
                        return Poll::Ready(());
                    }
                    if scope.as_ref().is_none_or(|armed| armed.rings > expires) {
                        let ahead = AHEAD.min(expires - now);
                        *scope = Some(Armed {
                            rings: now + ahead,
                            sleep: Box::pin(spin_sdk::time::sleep(ahead)),
                        });
                    }
                }
            }
        }
    }
}
