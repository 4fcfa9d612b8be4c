//! Deadlines: no host has to time anything out by itself. To set a timer and to cancel it costs a request about as much
//! as a command, so all requests of an instance share one, which none of them cancels: a task of its own, the *watch*,
//! looks now and then for requests that are late, and wakes them.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use exactly_once::ports::Clock;
use exactly_once::signals::Signals;

use crate::platform::Platform;

/// How long the watch sleeps at most. That is shorter than most deadlines: so it need not be woken for a new one. And
/// it is how long the watch outlives the last request, and thereby Spin's instance.
const AHEAD: Duration = Duration::from_millis(200);

/// Wakes the requests of an instance that are late.
pub struct Watch<P: Platform> {
    signals: P::Signals,
    alarms: RefCell<Vec<Alarm<P>>>,
    /// The number of the next alarm.
    number: Cell<u64>,
    /// When the task looks; `None` while there is no task.
    looks: Cell<Option<Duration>>,
}

/// What the watch wakes a request by.
struct Alarm<P: Platform> {
    number: u64,
    /// When the request is late, by its own clock.
    end: Duration,
    clock: P,
    /// Wakes the request when it is dropped.
    _bell: Bell<P>,
}

type Bell<P> = <<P as Platform>::Signals as Signals>::Sender;

impl<P: Platform> Watch<P> {
    /// Without requests.
    pub const fn new(signals: P::Signals) -> Self {
        Self { signals, alarms: RefCell::new(Vec::new()), number: Cell::new(0), looks: Cell::new(None) }
    }

    /// Sets an alarm, and makes sure that a task looks by then.
    fn arm(self: &Rc<Self>, clock: &P, now: Duration, left: Duration, cx: &Context<'_>) -> Armed<P> {
        let (bell, rings) = self.signals.alarm();
        let (number, end) = (self.number.get(), clock.waited(now) + left);
        self.number.set(number + 1);
        self.alarms.borrow_mut().push(Alarm { number, end, clock: clock.clone(), _bell: bell });
        let left = left.min(AHEAD);
        if self.looks.get().is_none_or(|looks| looks > now + left) {
            self.looks.set(Some(now + left));
            let task = Task { watch: self.clone(), looks: now + left };
            clock.spawn(task.run(clock.clone(), left));
            // A host may poll what was spawned only when it polls this request again.
            cx.waker().wake_by_ref();
        }
        Armed { watch: self.clone(), number, end, rings: Box::pin(rings) }
    }

    /// Wakes requests that are late. Returns for how long no other one will be; `None` if there is none.
    fn look(&self, now: Duration) -> Option<Duration> {
        let mut alarms = self.alarms.borrow_mut();
        let left = |alarm: &Alarm<P>| alarm.end.saturating_sub(alarm.clock.waited(now));
        let late: Vec<_> = alarms.extract_if(.., |alarm| left(alarm).is_zero()).collect();
        let next = alarms.iter().map(left).min();
        drop(alarms);
        drop(late);
        next
    }
}

/// The task of a watch. Runs on after the response of the request that started it, and may end with that request.
struct Task<P: Platform> {
    watch: Rc<Watch<P>>,
    /// When it looks. Another task that looks earlier has replaced it if the watch has another time.
    looks: Duration,
}

impl<P: Platform> Task<P> {
    async fn run(mut self, clock: P, mut left: Duration) {
        loop {
            clock.sleep(left).await;
            if !self.is_watching() {
                return;
            }
            let now = clock.now();
            let Some(next) = self.watch.look(now) else {
                return;
            };
            left = next.min(AHEAD);
            self.looks = now + left;
            self.watch.looks.set(Some(self.looks));
        }
    }

    fn is_watching(&self) -> bool {
        self.watch.looks.get() == Some(self.looks)
    }
}

impl<P: Platform> Drop for Task<P> {
    /// Runs however the task ends: otherwise the requests that wait would wait for ever. The first that is woken starts
    /// another task.
    fn drop(&mut self) {
        if self.is_watching() {
            self.watch.looks.set(None);
            let alarms = self.watch.alarms.take();
            drop(alarms);
        }
    }
}

/// An alarm, as its request sees it.
struct Armed<P: Platform> {
    watch: Rc<Watch<P>>,
    number: u64,
    end: Duration,
    rings: Pin<Box<dyn Future<Output = ()>>>,
}

impl<P: Platform> Drop for Armed<P> {
    fn drop(&mut self) {
        self.watch.alarms.borrow_mut().retain(|alarm| alarm.number != self.number);
    }
}

/// The one alarm of a request, for everything that it waits for.
pub struct Timer<P: Platform> {
    clock: P,
    watch: Rc<Watch<P>>,
    armed: RefCell<Option<Armed<P>>>,
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
            let now = self.clock.waited(self.clock.now());
            let started = started.max(budget.until.replace(now));
            budget.used.set(budget.used.get() + now.saturating_sub(started));
        }
    }
}

impl<P: Platform> Timer<P> {
    /// A timer that is not set.
    pub const fn new(clock: P, watch: Rc<Watch<P>>) -> Self {
        Self { clock, watch, armed: RefCell::new(None) }
    }

    /// The clock.
    pub fn clock(&self) -> &P {
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

    /// Ready when the wait must end. Otherwise it makes sure that the request is woken in time.
    fn poll_end(&self, wait: &Wait<'_, P>, cx: &mut Context<'_>) -> Poll<()> {
        let mut slot = self.armed.borrow_mut();
        loop {
            // An earlier alarm, of another wait, will do: it need not be set again.
            if let (Some(armed), Some(started)) = (&mut *slot, wait.started.get())
                && armed.end <= started + wait.limit
            {
                if armed.rings.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                *slot = None;
                continue;
            }
            let now = self.clock.now();
            let waited = self.clock.waited(now);
            let end = wait.end(waited);
            if end <= waited {
                return Poll::Ready(());
            }
            if slot.as_ref().is_none_or(|armed| armed.end > end) {
                *slot = Some(self.watch.arm(&self.clock, now, end - waited, cx));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::FutureExt;

    use super::*;
    use crate::testing::{MS, TestPlatform, TestSignals};

    fn watch() -> Rc<Watch<TestPlatform>> {
        Rc::new(Watch::new(TestSignals))
    }

    #[test]
    fn waits_end_in_time_and_use_the_budget() {
        let platform = TestPlatform::default();
        let (timer, budget) = (Timer::new(platform.clone(), watch()), Budget::default());
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
        let (timer, budget) = (Timer::new(platform.clone(), watch()), Budget::default());
        let waits = async {
            futures::join!(
                timer.within(&budget, MS * 300, pending::<()>()),
                timer.within_time(MS * 20, pending::<()>()),
            )
        };
        assert_eq!(platform.run(waits), (None, None));
        assert_eq!(platform.now(), MS * 300);
    }

    #[test]
    fn requests_share_the_watch_which_ends_after_the_last_and_is_replaced_if_it_would_look_too_late() {
        let (platform, watch) = (TestPlatform::default(), watch());
        let timers = [0, 1, 2].map(|_| Timer::new(platform.clone(), watch.clone()));
        let [long, other, short] = &timers;
        let waits = async {
            futures::join!(
                long.within_time(AHEAD * 3, pending::<()>()),
                other.within_time(AHEAD * 2, pending::<()>()),
                platform.sleep(MS),
            )
        };
        let mut waits = Box::pin(waits);
        assert!((&mut waits).now_or_never().is_none());
        assert_eq!(platform.tasks(), 1);
        assert_eq!(platform.run(short.within_time(AHEAD / 2, pending::<()>())), None);
        assert_eq!((platform.now(), platform.tasks()), (AHEAD / 2, 2));
        assert!(platform.run(waits).0.is_none());
        assert_eq!(platform.now(), AHEAD * 3);
        platform.idle(AHEAD);
        assert_eq!((platform.tasks(), watch.looks.get()), (0, None));
    }

    #[test]
    fn if_the_watch_dies_another_one_takes_over() {
        let (platform, watch) = (TestPlatform::default(), watch());
        let timers = [0, 1].map(|_| Timer::new(platform.clone(), watch.clone()));
        let [first, second] = timers.each_ref().map(|timer| timer.within_time(AHEAD * 3, pending::<()>()));
        let (mut first, mut second) = (Box::pin(first), Box::pin(second));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        platform.idle(AHEAD);
        platform.end_tasks();
        drop(first);
        assert_eq!(platform.run(second), None);
        assert_eq!(platform.now(), AHEAD * 3);
    }
}
